"""Settings for the whole suite."""

from hypothesis import settings

settings.register_profile("streamrde", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("streamrde")
