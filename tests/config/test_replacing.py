"""`[state] replaces`: a new model goes on with the streams of the one before, from one start to the next."""

import json
import shutil
import signal

import msgspec
import pytest
from brokers import MOSQUITTO, free_port, mosquitto
from bundles import make_bundle
from services import config, eventually, get, publish, samples, service

from streamrde.config.state import StateConfig
from streamrde.errors import StateError
from streamrde.runtime.checkpoints import MODELS
from streamrde.state import Checkpoint, SqliteStore


def identity(model):
    return {"model": model, "order.lateness": "0.0"}


@pytest.fixture
def state(tmp_path):
    """Settings of a store of model A, which has gone on from model 0, with one stream."""
    settings = StateConfig(path=str(tmp_path / "state.db"))
    store = settings.open(identity("A"), [])
    store.commit(Checkpoint(snapshots={"x": b"snapshot"}, positions={MODELS: b'["0"]', "sink": b"7"}))
    store.close()
    return settings


def test_a_store_goes_over_to_the_model_that_replaces_its_own(state):
    store = state.open(identity("B"), ["Z", "A"])
    assert store.read(["x"]) == {"x": b"snapshot"}
    assert store.positions() == {MODELS: b'["0","A"]', "sink": b"7"}
    store.close()
    assert SqliteStore.identity_of(state.path) == identity("B")
    state.open(identity("B"), ["A"]).close()  # as at every later start


def test_going_back_makes_the_later_model_a_former_one(state):
    state.open(identity("B"), ["A"]).close()
    store = state.open(identity("A"), ["B"])
    assert msgspec.json.decode(store.positions()[MODELS]) == ["0", "B"]
    store.close()


def test_a_check_leaves_the_store_as_it_is(state):
    state.open(identity("B"), ["A"], keep=True).close()
    assert SqliteStore.identity_of(state.path) == identity("A")


def test_a_model_that_is_not_named_is_refused_with_the_remedy(state):
    with pytest.raises(StateError, match=r"model was 'A' and is 'B'.*name the former model's file in state\.replaces"):
        state.open(identity("B"), ["Z"])
    with pytest.raises(StateError, match=r"order\.lateness was '0\.0' and is '1'\. Set it back, or .* of its own$"):
        state.open({"model": "B", "order.lateness": "1"}, ["A"])
    assert SqliteStore.identity_of(state.path) == identity("A")


@pytest.mark.slow
@pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed: apt-get install mosquitto")
def test_a_service_goes_on_with_the_streams_of_the_model_before(tmp_path):
    port = free_port()

    def run(path, *messages, until):
        with service(path) as process:
            eventually(lambda: get(port, "/readyz")[0] == 200, process)
            publish(url, *messages)
            found = eventually(lambda: (now := samples(get(port, "/metrics")[1])) and until(now) and now, process)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            return found

    def row(t):
        return ("a/x", json.dumps({"t": t, "a": 1.0, "b": 2.0}).encode())

    with mosquitto(tmp_path) as url:
        first = tmp_path / "before.safetensors"
        plain = config(tmp_path, url, port)
        shutil.copy(tmp_path / "model.safetensors", first)
        run(plain, row(0.0), row(0.4), until=lambda now: now["streamrde_samples_total/used"] == 2)
        state = f'path = "{tmp_path / "state.db"}"\ncheckpoint_seconds = 0.1\nreplaces = ["{first}"]'
        replacing = config(tmp_path, url, port, state=state)
        make_bundle(seed=2).save(tmp_path / "model.safetensors")
        found = run(replacing, row(0.8), row(1.6), until=lambda now: now["streamrde_predictions_total"] > 0)
        assert found["streamrde_streams"] == 1
        assert found["streamrde_samples_total/used"] == 4, "a stream keeps its counts, too"
