"""The command line: help, and errors that name what is wrong."""

import json

import pytest
from bundles import make_bundle
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app, main

COMMANDS = ["demo", "init", "train", "sweep", "score", "run", "replay", "inspect", "bench"]


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.safetensors"
    make_bundle(metrics={"test_accuracy": 0.75}, description="a toy", units=("m", "", "")).save(path)
    return path


def call(monkeypatch, capsys, *arguments):
    """Exit status, output and errors of the command as the shell would see them."""
    monkeypatch.setattr("sys.argv", ["streamrde", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        main()
    return exit_.value.code or 0, *capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0
    assert f"Example: streamrde {command}" in " ".join(done.output.split())


def test_every_option_has_help():
    import typer

    for name, command in typer.main.get_command(app).commands.items():
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{name} {parameter.name}"


def test_version(monkeypatch, capsys):
    assert call(monkeypatch, capsys, "--version")[:2] == (0, f"{sr.__version__}\n")


def test_inspect_shows_the_card(monkeypatch, capsys, model):
    monkeypatch.setenv("COLUMNS", "120")
    status, out, _ = call(monkeypatch, capsys, "inspect", model)
    assert status == 0
    for fact in ("a toy", "classification", "x (m), y, z", "1 s each", "depth 3", "accuracy", "0.75", "m/s2"):
        assert fact in out


def test_inspect_tells_which_kernels_run(monkeypatch, capsys):
    from streamrde.kernels import IMPLEMENTATION

    shown = call(monkeypatch, capsys, "inspect", "--kernels")[1]
    assert shown.startswith(f"{IMPLEMENTATION.name}: {IMPLEMENTATION.reason}\n")
    assert all(name in shown for name in IMPLEMENTATION.available)
    assert json.loads(call(monkeypatch, capsys, "inspect", "--kernels", "--json")[1])["name"] == IMPLEMENTATION.name
    assert "pass a model file, or use --kernels" in call(monkeypatch, capsys, "inspect")[2]


def test_inspect_as_json(monkeypatch, capsys, model):
    status, out, _ = call(monkeypatch, capsys, "inspect", model, "--json")
    assert status == 0
    assert json.loads(out)["depth"] == 3
    assert json.loads(out)["fingerprint"] == sr.load(model).fingerprint
    assert {"training", "notes", "metrics", "parameters", "path_channels", "logsig_channels"} <= json.loads(out).keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('model = "m"\nmodle = 1\n', "unknown key 'modle'; did you mean 'model'?"),
        ("", "'model' is missing"),
        ('model = 3\n[source]\nkind="arrow"\nfiles="f"\n[sink]\nkind="arrow"\npath="p"', "model = 3: expected text"),
        ('model = "m"\n[source]\nkind = "pigeon"\n', 'source.kind = "pigeon": use "amqp", '),
        ('model = "m"\n[source]\nkind = "arrow"\n[sink]\nkind="arrow"\npath="p"', "streamrde score FILES"),
        ('model = "m"\n[source]\nkind = "mqtt"\nurl = 1\n[sink]\nkind="arrow"\npath="p"', "source.url = 1: expected"),
        ('model = "m"\n[source]\nkind = "mqtt"\nurl="u"\ntopic="t"\nqos=2\n', "source.qos = 2: use 0 or 1"),
        ("model = \n", "not valid TOML"),
    ],
)
def test_a_config_error_names_file_and_key(monkeypatch, capsys, tmp_path, text, match):
    config = tmp_path / "run.toml"
    config.write_text(text)
    status, _, errors = call(monkeypatch, capsys, "run", config)
    assert status == 1
    assert str(config) in errors
    assert match in errors


@pytest.mark.parametrize(
    ("source", "match"),
    [
        ('kind = "mqtt"\nurl = "http://x"\ntopic = "a/{stream}"', "mqtt://"),
        ('kind = "mqtt"\nurl = "mqtt://x"\ntopic = "a/b"', "{stream}"),
        ('kind = "mqtt"\nurl = "mqtt://x"\ntopic = "a/{stream}"\nchannels = ["one"]', "the model has 2 channels: a, b"),
    ],
)
def test_a_value_that_cannot_work_is_named(monkeypatch, capsys, tmp_path, model, source, match):
    config = tmp_path / "run.toml"
    config.write_text(f'model = "{model}"\n[source]\n{source}\n[sink]\nkind = "arrow"\npath = "{tmp_path}/o.csv"')
    status, _, errors = call(monkeypatch, capsys, "run", config)
    assert status == 1
    assert match in errors


def score(monkeypatch, capsys, tmp_path, model, csv, *options):
    (tmp_path / "in.csv").write_text(csv)
    return call(monkeypatch, capsys, "score", tmp_path / "in.csv", "-m", model, "-o", tmp_path / "out.csv", *options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("csv", "match"),
    [
        ("stream_id,t,a\ns,0,1\n", "'b'"),
        ("stream_id,t,a,b\ns,0,1,high\n", "'b'"),
        ("stream_id,t,a,b\n", "no rows"),
        ("", "in.csv"),
        ("stream_id,t,a,b\ns,1,1,1\ns,1,1,1\n", "--skip-faults counts and skips such rows"),
    ],
)
def test_a_bad_file_is_a_clear_error_and_leaves_no_output(monkeypatch, capsys, tmp_path, model, csv, match):
    status, _, errors = score(monkeypatch, capsys, tmp_path, model, csv)
    assert status == 1
    assert errors.startswith("streamrde: ")
    assert match in errors
    assert not (tmp_path / "out.csv").exists()


def test_faults_can_be_counted_and_skipped(monkeypatch, capsys, tmp_path, model):
    csv = "stream_id,t,a,b\ns,0,1,1\ns,0.5,1,1\ns,0.2,1,1\ns,0.5,2,1\ns,1.5,1,1\n"
    status, out, _ = score(monkeypatch, capsys, tmp_path, model, csv, "--skip-faults", "--sort", "never")
    assert status == 0
    assert "skipped: 1 late, 1 duplicate" in out
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0].replace('"', "") == "stream,window,t_start,t_end,x,y,z,label,flag,step_error"
    assert len(lines) == 3


def test_a_model_that_is_none_is_a_clear_error(monkeypatch, capsys, tmp_path):
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0")
    status, _, errors = call(monkeypatch, capsys, "inspect", tmp_path / "cut.safetensors")
    assert status == 1
    assert "not a whole safetensors file" in errors


def test_replay_needs_to_know_the_columns(monkeypatch, capsys):
    status, _, errors = call(monkeypatch, capsys, "replay", "x.parquet", "--to", "mqtt://127.0.0.1:1")
    assert status == 1
    assert "--channels ax,ay,az or --model" in errors


@pytest.mark.parametrize("heads", [True, False])
def test_measures_are_shown_as_tables(monkeypatch, capsys, tmp_path, heads):
    from streamrde.inference.header import Head

    two = (
        Head(name="kind", task="classification", outputs=2, labels=("x", "y")),
        Head(name="size", outputs=1, units=("mm",)),
    )
    changes = (
        {"heads": two, "task": "regression", "labels": ()} if heads else {"task": "regression", "units": ("mm",) * 3}
    )
    make_bundle(**changes).save(tmp_path / "m.safetensors")
    csv = "stream_id,t,a,b,k,u,v\n" + "".join(f"s,{i / 4},{i},1,x,0.5,{i}\n" for i in range(20))
    truth = "k,u" if heads else "u,u2,v"
    csv = csv if heads else csv.replace(",k,", ",u2,").replace(",x,", ",1.5,")
    monkeypatch.setenv("COLUMNS", "140")
    status, out, _ = score(monkeypatch, capsys, tmp_path, tmp_path / "m.safetensors", csv, "--evaluate", truth)
    assert status == 0
    for text in ("rmse", "99 % of |error|", "(mm)", *(("kind: Windows by class", "size: Errors") if heads else ())):
        assert text in out


@pytest.mark.slow
def test_train_takes_settings_and_a_seed(monkeypatch, capsys, tmp_path):
    pytest.importorskip("torch", reason="training needs torch")
    from models.recordings import config_for, write_recordings

    tables = config_for(write_recordings(tmp_path))
    lines = []
    for name, table in tables.items():
        field = table.pop("field", None)
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value).replace(': ', ' = ')}" for key, value in table.items())]
        lines += [f"[{name}.field]", 'field = "mlp"', f"width = {field['width']}"] if field else []
    path = tmp_path / "run.toml"
    path.write_text("\n".join(lines).replace('"name" = ', "name = ").replace('"unit" = ', "unit = "))
    arguments = ("train", path, "--json", "--set", "training.epochs=1", "--set", f"output.model={tmp_path / 'm'}")
    status, out, _ = call(monkeypatch, capsys, *arguments, "--seed", "1")
    assert status == 0
    assert json.loads(out)["epochs"] == 1
    first = sr.load(tmp_path / "m").fingerprint
    call(monkeypatch, capsys, *arguments, "--seed", "2")
    assert sr.load(tmp_path / "m").fingerprint != first
    status, _, err = call(monkeypatch, capsys, "train", path, "--set", "training.epoch=1")
    assert status == 1
    assert "unknown key 'training.epoch'; did you mean 'training.epochs'?" in err
