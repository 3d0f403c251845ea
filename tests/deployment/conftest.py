import pytest
from deployment.image import make_environment


@pytest.fixture(scope="session")
def environment(tmp_path_factory):
    """/opt/streamrde of the image."""
    return make_environment(tmp_path_factory.mktemp("opt") / "streamrde")
