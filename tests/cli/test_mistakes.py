"""Mistakes of a user end in one line that says what is wrong, and never in a traceback."""

import sys

import pytest
from models.recordings import write_recordings
from scoring_data import make_model

from streamrde.cli import main
from streamrde.errors import StreamRDEError

TRAIN = (
    '[data]\nfiles = "recordings.parquet"\nchannels = ["a", "b"]\ntarget = "turn"\n[model]\n[training]\nepochs = 1\n'
)
SCORE = ("score", "recordings.parquet", "--model", "model.safetensors", "--out", "o.parquet")
BROKER = "mqtt://127.0.0.1:1"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of good files and of all that may be mistaken for them."""
    write_recordings(tmp_path)
    make_model(tmp_path)
    (tmp_path / "train.toml").write_text(TRAIN)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").write_text("")
    (tmp_path / "file").write_text("x")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for name in ("empty.toml", "empty.parquet", "empty.csv", "empty.safetensors"):
        (tmp_path / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["streamrde", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code or 0, capsys.readouterr().err


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["train", "sweep", "run"])
@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nowhere", "No such file"),
        ("folder", "directory"),
        ("file", "not valid TOML"),
        ("binary.toml", "not UTF-8"),
        ("empty.toml", "is missing: give"),
        ("recordings.parquet", "not UTF-8"),
    ],
)
def test_a_configuration_that_is_none_is_named(monkeypatch, capsys, command, path, told):
    if command != "run":
        pytest.importorskip("torch", reason="training needs torch")
    status, errors = call(monkeypatch, capsys, command, path)
    assert status == 1
    assert errors.startswith(f"streamrde: {path}: ")
    assert told in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("path", ["nowhere", "folder", "file", "empty.parquet", "empty.csv", "folder/*.parquet"])
@pytest.mark.parametrize("command", [("score", "--model", "model.safetensors", "--out", "o.csv"), ("replay",)])
def test_recordings_that_are_none_are_named(monkeypatch, capsys, command, path):
    rest = command[1:] or ("--to", BROKER, "--channels", "a")
    status, errors = call(monkeypatch, capsys, command[0], path, *rest)
    assert status == 1
    assert errors.startswith("streamrde: ")
    assert path in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("model", ["nowhere", "folder", "file", "empty.safetensors", "train.toml"])
@pytest.mark.parametrize("command", ["score", "inspect", "replay"])
def test_a_model_that_is_none_is_named(monkeypatch, capsys, command, model):
    arguments = {
        "score": ("recordings.parquet", "--model", model, "--out", "o.parquet"),
        "inspect": (model,),
        "replay": ("recordings.parquet", "--to", BROKER, "--model", model),
    }
    status, errors = call(monkeypatch, capsys, command, *arguments[command])
    assert status == 1
    assert errors.startswith(f"streamrde: {model}: ")
    assert len(errors.splitlines()) == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*SCORE[:-1], "file/x.parquet"), "out: nothing can be written in 'file'"),
        ((*SCORE[:-1], "/proc/nothing/x.parquet"), "out: nothing can be written in '/proc/nothing'"),
        ((*SCORE[:-1], "folder"), "the folder exists and is not empty"),
        ((*SCORE, "--sort", "alway"), "did you mean 'always'?"),
        ((*SCORE, "--on-error", "skp"), "did you mean 'skip'?"),
        ((*SCORE, "--engine", "thread"), "did you mean 'threads'?"),
        ((*SCORE, "--time-unit", "fortnights"), "time_unit"),
        ((*SCORE, "--features", "hidden"), '"logsignature" or "state"'),
        ((*SCORE, "--evaluate", "turm"), "did you mean 'turn'?"),
        ((*SCORE, "--channels", "a"), "the model has 2 channels"),
        ((*SCORE, "--where", "x"), "is not a filter"),
        ((*SCORE, "--state-in", "nowhere"), "no such state store"),
        (("score", "--config", "nowhere"), "No such file"),
        (("bench", "--only", "psh"), "did you mean 'push'?"),
        (("bench", "--only", "push", "--out", "folder"), "is a folder"),
        (("bench", "--only", "push", "--chart", "file/x"), "--chart: nothing can be written"),
        (("init", "train", "--out", "file"), "the file exists"),
        (("init", "run", "--out", "file/x"), "--out: nothing can be written"),
        (("replay", "recordings.parquet", "--to", "nonsense", "--channels", "a"), "mqtt://"),
        (("replay", "recordings.parquet", "--to", BROKER, "--channels", "turm"), "did you mean 'turn'?"),
    ],
)
def test_an_option_that_cannot_work_is_named(monkeypatch, capsys, arguments, told):
    status, errors = call(monkeypatch, capsys, *arguments)
    assert status == 1
    assert errors.startswith("streamrde: ")
    assert told in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", "--set", "output.model=file/x"), "output.model: nothing can be written"),
        (("train", "--set", "training.epoch=1"), "did you mean 'training.epochs'?"),
        (("train", "--set", "x"), "write it as key=value"),
        (("train", "--where", "subjct == 1"), "did you mean 'subject'?"),
        (("train", "--set", "data.target=turm"), "did you mean 'turn'?"),
        (("train", "--set", "data.files=empty.parquet"), "has no rows"),
        (("train", "--set", "training.device=cudo"), "use 'auto' or 'cpu'"),
        (("train", "--resume"), "set training.checkpoint"),
        (("sweep", "--out", "folder"), "--out = 'folder': is a folder"),
        (("sweep", "--best", "folder"), "--best = 'folder': is a folder"),
        (("sweep", "--resume"), "give --out"),
        (("sweep", "--minutes", "-1"), "give a time > 0"),
        (("sweep", "--set", "sweep.over.model.hiden=[1]"), "did you mean 'model.hidden'?"),
    ],
)
def test_a_training_that_cannot_work_is_named(monkeypatch, capsys, arguments, told):
    pytest.importorskip("torch", reason="training needs torch")
    status, errors = call(monkeypatch, capsys, arguments[0], "train.toml", *arguments[1:])
    assert status == 1
    assert told in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("command", [["trian"], ["train", "--sett", "x"], ["train"], ["demo", "--speed", "0"]])
def test_a_word_that_is_none_ends_with_status_2(monkeypatch, capsys, command):
    status, errors = call(monkeypatch, capsys, *command)
    assert status == 2
    assert "Traceback" not in errors


def test_what_no_one_foresaw_is_mapped_where_it_is_a_users_mistake(monkeypatch, capsys):
    def broken(*arguments: object) -> None:
        raise StreamRDEError("what is wrong, and what to do")

    monkeypatch.setattr(sys.modules["streamrde.cli"], "app", broken)
    assert call(monkeypatch, capsys) == (1, "streamrde: what is wrong, and what to do\n")
