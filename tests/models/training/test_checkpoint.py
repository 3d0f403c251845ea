from __future__ import annotations

import io
import json

import pytest
import safetensors.torch
from models.recordings import config_for, write_recordings
from rich.console import Console

from streamrde.errors import ConfigError, StateError
from streamrde.inference.bundle import Bundle
from streamrde.models import train

# Everything that has a state of its own.
EVERYTHING = {
    "epochs": 5,
    "batch_size": 4,
    "dropout": 0.3,
    "averaging": 0.8,
    "schedule": "plateau",
    "plateau_epochs": 1,
    "monitor": "auc_windows",
    "patience": 0,
    "truncate": 3,
}


class Killed(BaseException):
    """What the process dies of."""


class Mortal(io.StringIO):
    """Dies, by Ctrl-C or by itself, when epoch 3 is shown."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def write(self, text: str) -> int:
        if "epoch 3/" in text and "epoch 3/" not in self.getvalue():
            super().write(text)
            raise self.error
        return super().write(text)


@pytest.fixture
def config(tmp_path):
    augment = {"crop": 0.6, "noise": 0.1}
    split = {"validation": [2], "test": [3]}
    files = write_recordings(tmp_path, streams=12, length=30)
    tables = config_for(files, training=EVERYTHING, augment=augment, split=split)
    tables["training"] |= {"checkpoint": str(tmp_path / "run.ckpt"), "checkpoint_seconds": 0.0}
    return tables


def quietly(
    config, *settings: str, resume: bool = False, dies: type[BaseException] | None = None
) -> tuple[Bundle, str]:
    file = io.StringIO() if dies is None else Mortal(dies)
    bundle = train(config, settings=settings, resume=resume, console=Console(file=file, width=200))
    return bundle, file.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("changes", [[], ["training.schedule=cosine", "augment.crop=1.0", "training.truncate=0"]])
def test_a_killed_training_goes_on_to_the_same_model(config, changes) -> None:
    expected, _ = quietly(config, *changes, "training.checkpoint=")
    with pytest.raises(Killed):
        quietly(config, *changes, dies=Killed)
    resumed, shown = quietly(config, *changes, resume=True)
    assert "  auc_windows 0." in shown or "  auc_windows 1." in shown
    assert "resuming after epoch 2" in shown  # killed before the third was written
    assert resumed.fingerprint == expected.fingerprint
    assert resumed.header.metrics == expected.header.metrics
    again, shown = quietly(config, *changes, resume=True)
    assert "resuming after epoch 5" in shown
    assert again.fingerprint == expected.fingerprint


def test_a_training_that_diverged_before_it_was_killed_goes_on_to_the_same_model(config) -> None:
    # One step an epoch: the first loss is that of the random weights, and any step of this length makes it far worse.
    wild = ["training.learning_rate=1e3", "training.gradient_norm=100.0", "training.warm_up=0.0", "training.rewinds=20"]
    wild += ["training.batch_size=32", "training.truncate=0"]
    expected, _ = quietly(config, *wild, "training.checkpoint=")
    with pytest.raises(Killed):
        quietly(config, *wild, dies=Killed)
    resumed, shown = quietly(config, *wild, resume=True)
    assert "epochs, which diverged" in shown
    assert resumed.fingerprint == expected.fingerprint


@pytest.mark.slow
def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(config, tmp_path) -> None:
    expected, _ = quietly(config, "training.checkpoint=")
    config["training"]["checkpoint_seconds"] = 1e9
    _, shown = quietly(config, dies=KeyboardInterrupt)
    assert "interrupted after epoch 3" in shown
    assert f"checkpoint written to {tmp_path / 'run.ckpt'}: use --resume to continue" in shown
    resumed, shown = quietly(config, resume=True)
    assert "resuming after epoch 3" in shown
    assert resumed.fingerprint == expected.fingerprint


def test_a_training_without_its_checkpoint_yet_begins_anew(config, tmp_path) -> None:
    _, shown = quietly(config, "training.epochs=1", resume=True)
    assert "no checkpoint at" in shown
    assert (tmp_path / "run.ckpt").exists()
    with pytest.raises(ConfigError, match=r"set training\.checkpoint"):
        quietly(config, "training.checkpoint=", resume=True)


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(config, tmp_path) -> None:
    quietly(config, "training.epochs=1")
    with pytest.raises(StateError) as caught:
        quietly(config, "training.epochs=2", "model.hidden=5", resume=True)
    assert "model.hidden was 6 and is 5; training.epochs was 1 and is 2" in str(caught.value)
    config["data"]["files"] = write_recordings(tmp_path / "moved", streams=12, length=30)
    quietly(config, "training.epochs=1", "output.seconds=[2.0]", "sweep.over={model = {hidden = [4]}}", resume=True)
    config["data"]["files"] = write_recordings(tmp_path / "other", streams=12, length=31)
    with pytest.raises(StateError, match="digest of the test streams was"):
        quietly(config, "training.epochs=1", resume=True)


def test_what_is_no_checkpoint_is_refused(config, tmp_path) -> None:
    path = tmp_path / "run.ckpt"
    path.write_bytes(b"no")
    with pytest.raises(StateError, match=r"run\.ckpt is not a training's checkpoint"):
        quietly(config, resume=True)
    path.write_bytes(safetensors.torch.save({}))
    with pytest.raises(StateError, match=r"run\.ckpt is not a training's checkpoint"):
        quietly(config, resume=True)
    header = {"format": 99, "identity": {}, "state": {}}
    path.write_bytes(safetensors.torch.save({}, metadata={"streamrde-checkpoint": json.dumps(header)}))
    with pytest.raises(StateError, match="has format 99, and this version reads 2"):
        quietly(config, resume=True)
