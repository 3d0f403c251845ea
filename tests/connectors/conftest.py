from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import MOSQUITTO, amqtt_broker, mosquitto


@pytest.fixture(scope="module", params=["mosquitto", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running broker; topics keep the tests of a module apart."""
    if request.param == "amqtt":
        with amqtt_broker() as url:
            yield url
        return
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with mosquitto(tmp_path_factory.mktemp("mosquitto")) as url:
        yield url


@pytest.fixture
def mosquitto_url(tmp_path: Path) -> Iterator[str]:
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed: apt-get install mosquitto")
    with mosquitto(tmp_path) as url:
        yield url
