"""Settings for the whole suite."""

import signal

from hypothesis import settings

settings.register_profile("streamrde", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("streamrde")

# A shell that starts the suite in the background lets it ignore Ctrl-C, and its children inherit that: what the tests
# say of interrupted commands would then not be what they do.
signal.signal(signal.SIGINT, signal.default_int_handler)
