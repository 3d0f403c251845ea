"""Commands that use a fitted model are safe for a shell."""

import shlex

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


def test_a_name_that_begins_with_a_dash_is_no_option() -> None:
    assert shlex.split(score_command("-x.csv", "m", **USUAL))[-2:] == ["--", "-x.csv"]
