"""The command `fit`: what it prints and writes, what it refuses, and that its TOML file repeats it."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fit_data import turning
from typer.testing import CliRunner, Result

from streamrde.cli import app
from streamrde.cli.fit import _show
from streamrde.fitting import entry, recipe
from streamrde.fitting.config import FitConfig
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.record import read_runs
from streamrde.inference.bundle import load


def table() -> pa.Table:
    return turning(streams=20, length=40, noise=0.3)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pq.write_table(table(), tmp_path / "x.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FIT = ("fit", "x.parquet", "--target", "label", "--drop", "size")


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def refused(*words: str) -> str:
    result = run(*words)
    assert isinstance(result.exception, Exception), result.output
    return str(result.exception)


def test_it_says_in_plain_words_how_good_the_model_is_and_writes_all_three_files(folder: Path) -> None:
    result = run(*FIT)
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert re.search(r"right on \d+ of 20 streams that it had not seen: [\d.]+ % \(95 % interval", out)
    assert "plain models on the same: always 'left' 50.0 %, nearest neighbour" in out
    assert re.search(r"right early in each stream: [\d.]+ % after 10 %, .*, [\d.]+ % after 100 %", out)
    assert "found of each class:" in out
    assert "wrote model.safetensors, model.html, model.toml in" in out
    assert "\x1b" not in result.output, "no colours in a pipe"
    page = (folder / "model.html").read_text("utf-8")
    assert not re.search(r"(src|href)=|@import|url\(", page), "the page needs no other file"
    for heading in (
        "One stream while it runs",
        "The data as it was understood",
        "What was compared",
        "Can the probabilities be trusted?",
    ):
        assert heading in page
    assert "The model that answers has not seen it." in page
    assert f"report: {(folder / 'model.html').as_uri()} (a browser opens it)" in out
    # It holds the fit as data, for comparisons: `streamrde inspect`.
    (own,) = read_runs(folder / "model.html")
    assert (own.kind, own.fingerprint) == ("fit", load(folder / "model.safetensors").fingerprint)
    assert own.measures["validation_streams"] == 20
    assert own.settings["choice"]


def test_the_report_is_opened_in_a_browser_where_there_is_one(folder, monkeypatch, capsys) -> None:
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or len(opened) == 1)
    for quiet in (False, True):
        _show(folder / "model.html", opens=True, quiet=quiet)
    _show(folder / "model.html", opens=False, quiet=False)
    _show(folder / "model.html", opens=True, quiet=False)
    address = (folder / "model.html").as_uri()
    assert opened == [address] * 3
    said = [line.removeprefix(f"report: {address} ") for line in capsys.readouterr().out.splitlines()]
    assert said == ["(opened in a browser)", "(a browser opens it)", "(no browser was found: open it yourself)"]
    assert "--open: there is no report with --no-report" in refused(*FIT, "--open", "--no-report")


def test_the_command_that_it_prints_works_as_it_stands(folder: Path) -> None:
    (command,) = re.findall(r"^  streamrde (score .*)$", run(*FIT).stdout, re.MULTILINE)
    result = run(*shlex.split(command))
    assert result.exit_code == 0, result.output
    assert (folder / "predictions.parquet").exists()


def test_its_toml_file_makes_the_same_bits_again(folder: Path) -> None:
    run(*FIT, "--seed", "3")
    first = (folder / "model.safetensors").read_bytes()
    result = run("fit", "model.toml", "--out", "again.safetensors", "--quiet")
    assert result.exit_code == 0, result.output
    again = load(folder / "again.safetensors")
    for name, tensor in load(folder / "model.safetensors").tensors.items():
        assert np.array_equal(tensor, again.tensors[name]), name
    assert (folder / "again.safetensors").read_bytes() == first


def test_an_unknown_key_of_its_toml_file_is_an_error(folder: Path) -> None:
    Path("fit.toml").write_text('data = "x.parquet"\ntarget = "label"\nchanels = ["a"]\n', encoding="utf-8")
    assert "unknown key 'chanels'; did you mean 'channels'?" in refused("fit", "fit.toml")


def test_nothing_is_overwritten_without_force(folder: Path) -> None:
    for name in ("model.safetensors", "model.html", "model.toml"):
        Path(name).write_text("precious", encoding="utf-8")
        assert f"{name}: the file exists; add --force" in refused(*FIT)
        assert Path(name).read_text("utf-8") == "precious"
        Path(name).unlink()
    run(*FIT)
    assert "the file exists; add --force" in refused("fit", "model.toml")
    assert run("fit", "model.toml", "--force", "--quiet").exit_code == 0
    assert "because of --seed" in refused("fit", "model.toml", "--force", "--seed", "4")


@pytest.mark.parametrize("words", [("--out", "m.html"), ("--out", "m.toml"), ("--report", "model.safetensors")])
def test_the_files_that_are_written_have_different_names(folder: Path, words: tuple[str, ...]) -> None:
    assert "need different names; give an --out that ends in .safetensors" in refused(*FIT, *words)


def test_json_has_measures_intervals_and_early_answers(folder: Path) -> None:
    result = run(*FIT, "--json", "--no-report")
    found = json.loads(result.stdout)
    low, high = found["intervals"]["accuracy"]
    assert low <= found["accuracy"] <= high
    assert [own["share"] for own in found["early"]] == [0.1, 0.25, 0.5, 1.0]
    assert found["early"][-1]["measures"]["accuracy"] == pytest.approx(found["accuracy"])
    assert np.sum(found["confusion"]) == 20
    assert found["written"] == ["model.safetensors", "model.toml"]
    assert not Path("model.html").exists()


def test_progress_is_lines_on_standard_error_and_quiet_shows_none(folder: Path) -> None:
    assert "fit candidates ..." in run(*FIT).stderr
    assert run(*FIT, "--force", "--quiet").stderr == ""


def test_ctrl_c_keeps_the_best_so_far_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(examples: Examples) -> Iterator[Candidate]:
        yield next(iter(fit_reservoirs(examples)))
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "FAMILIES", (interrupted,))
    result = run(*FIT)
    assert result.exit_code == 130
    assert result.stdout.count("stopped by Ctrl-C: the best candidate so far was kept") == 1
    assert Path("model.safetensors").exists()


def test_minutes_end_the_search(folder: Path) -> None:
    found = json.loads(run(*FIT, "--minutes", "1e-6", "--json").stdout)
    assert found["stopped"] == "time"
    assert "minutes=0: give a number above 0" in refused(*FIT, "--minutes", "0", "--force")


def test_a_number_is_reported_by_its_error(folder: Path) -> None:
    out = run("fit", "x.parquet", "--target", "size", "--task", "regression", "--drop", "label").stdout
    assert re.search(
        r"off by [\d.]+ \(root mean squared error\) on 20 streams that it had not seen \(95 % interval", out
    )
    assert re.search(r"error early in each stream: [\d.]+ after 10 %", out)


def test_every_setting_has_an_option_that_reaches_the_fit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"minutes": 2.0, "seed": 5}
    lists = {"channels", "drop"}
    asked: dict[str, object] = {}

    def fit(**settings: object) -> None:
        asked.update(settings)
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "fit", fit)
    others = ("data", "choice", "columns")  # an argument, and what the TOML file alone has
    names = [field.name for field in msgspec.structs.fields(FitConfig) if field.name not in others]
    given = {name: numbers.get(name, "classification" if name == "task" else f"the-{name}") for name in names}
    run("fit", "x.parquet", *(word for name in names for word in (f"--{name.replace('_', '-')}", str(given[name]))))
    assert {name: (given[name],) if name in lists else given[name] for name in names}.items() <= asked.items()


def test_without_a_target_the_error_names_the_option(folder: Path) -> None:
    assert refused("fit", "x.parquet") == "--target is missing: give the column to predict, such as --target label"


def test_weights_of_classes_are_a_word_or_factors(folder: Path) -> None:
    words = (*FIT, "--minutes", "0.001", "--no-report")
    assert run(*words, "--class-weights", "left=3,right=1").exit_code == 0
    assert 'class_weights = "equal"' not in (folder / "model.toml").read_text("utf-8")
    assert "[class_weights]\nleft = 3.0\nright = 1.0\n" in (folder / "model.toml").read_text("utf-8")
    assert "no factor of a class; give a name and a number" in refused(*words, "--class-weights", "left=many")
    assert "class_weights='some': give 'equal', 'balanced'" in refused(*words, "--force", "--class-weights", "some")
