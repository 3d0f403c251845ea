"""Commands that use a fitted model are safe for a shell."""

import shlex

import typer

from streamrde.cli import app
from streamrde.connectors.columns import ColumnKeys
from streamrde.connectors.dialect import Dialect
from streamrde.fitting.usage import score_command

USUAL = {"stream": "stream_id", "time": "t", "time_unit": "s"}


def test_usual_columns_need_no_option() -> None:
    command = score_command("x.parquet", "model.safetensors", **USUAL)
    assert command == "streamrde score x.parquet --model model.safetensors --out predictions.parquet"


def test_globs_spaces_and_quotes_reach_the_command_as_they_are() -> None:
    files = ("day*/my file.csv", "it's; rm -rf $HOME")
    command = score_command(files, "out dir/m.safetensors", stream="", time="when", time_unit="ms")
    words = shlex.split(command)
    assert words[2:4] == list(files)
    assert words[4:] == [
        "--model", "out dir/m.safetensors", "--out", "out dir/predictions.parquet", "--stream", "", "--time", "when",
        "--time-unit", "ms",
    ]  # fmt: skip
    assert "'day*/my file.csv'" in command


def test_keys_of_columns_are_options_or_named() -> None:
    columns = ColumnKeys(name="entity", value="state", csv=Dialect(delimiter=";", decimal=",", skip=2, units_row=True))
    command = score_command("x.csv", "m", **USUAL, columns=columns)
    words = shlex.split(command, comments=True)
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--model": "m", "--out": "predictions.parquet", "--name-column": "entity", "--value-column": "state",
        "--delimiter": ";", "--decimal": ",", "--skip-lines": "2",
    }  # fmt: skip
    assert command.endswith("# with csv.units_row of the fit's TOML file under [columns] in --config")
    for option in options:
        assert option in {flag for one in typer.main.get_command(app).commands["score"].params for flag in one.opts}


def test_times_and_units_are_options_and_several_columns_are_named() -> None:
    columns = ColumnKeys(time_format="%d.%m.%Y %H:%M", time_zone="Europe/Vienna", units={"my ax": "m/s2", "b": "degC"})
    command = score_command("x.csv", "m", stream=("site", "pump"), time="when", time_unit="s", columns=columns)
    words = shlex.split(command, comments=True)
    assert words[7:] == [
        "--time", "when", "--time-format", "%d.%m.%Y %H:%M", "--time-zone", "Europe/Vienna", "--unit", "my ax=m/s2",
        "--unit", "b=degC",
    ]  # fmt: skip
    assert command.endswith("  # with stream of the fit's TOML file under [columns] in --config")
    options = {flag for one in typer.main.get_command(app).commands["score"].params for flag in one.opts}
    assert {word for word in words if word.startswith("--")} <= options


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    assert shlex.split(score_command("-x.csv", "m", **USUAL))[-2:] == ["--", "-x.csv"]
