import pytest
import scoring_data

from streamrde.scoring import plan


@pytest.fixture
def model(tmp_path):
    return scoring_data.make_model(tmp_path)


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of about a hundred rows, so that little data makes many of them; plans are made in this process."""
    monkeypatch.setattr(plan, "_LEAST_ROWS", 100)
