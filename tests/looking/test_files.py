"""Recorded files are looked at: roles, times, channels, and a file that the command reads at once."""

import csv
import itertools
import json
import math
import tomllib
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.recordings import find_recordings
from streamrde.demo.watch_data import MODEL
from streamrde.errors import ConfigError, DataError
from streamrde.fitting.config import FitConfig
from streamrde.fitting.recordings import read_recordings
from streamrde.fitting.survey import survey
from streamrde.inference.bundle import load
from streamrde.looking.documents import document
from streamrde.looking.files import look_at_files
from streamrde.looking.guesses import percent
from streamrde.looking.rates import measure, nice, spoken
from streamrde.looking.roles import Given
from streamrde.models.training.config import as_train_config
from streamrde.scoring.job import Job
from streamrde.settings import convert

T0 = 1_709_640_000
WAVES = [[round(math.sin(0.3 * i + c), 4) for c in range(2)] for i in range(200)]


def write(path, names, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows(rows)
    return str(path)


def look(path, target=(), **given):
    return look_at_files(path, Given(target, **given))


def values(found):
    return {key: guess.value for key, guess in found.columns.items()}


def moment(i, step=0.5):
    return datetime(2024, 3, 25, 12, tzinfo=UTC) + timedelta(seconds=i * step)


TIMES = {
    "seconds": ("t", lambda i: i * 0.02, {"time": "t"}),
    "epoch_s": ("timestamp", lambda i: T0 + i, {"time": "timestamp"}),
    "epoch_ms": ("timestamp", lambda i: T0 * 1000 + 20 * i, {"time": "timestamp", "time_unit": "ms"}),
    "epoch_us": ("ts", lambda i: T0 * 10**6 + 20_000 * i, {"time": "ts", "time_unit": "us"}),
    "epoch_ns": ("ns", lambda i: T0 * 10**9 + 20_000_000 * i, {"time": "ns", "time_unit": "ns"}),
    "excel": ("Date", lambda i: round(45356.5 + i / 86400, 9), {"time": "Date", "time_unit": "excel"}),
    "named": ("elapsed [min]", lambda i: i * 0.5, {"time": "elapsed [min]", "time_unit": "min"}),
    "millis": ("millis", lambda i: 20 * i, {"time": "millis", "time_unit": "ms"}),
    "unnamed millis": ("stamp", lambda i: 517 + 20 * i + i % 2, {"time": "stamp", "time_unit": "ms"}),
    "digits": (
        "time", lambda i: moment(i, 1).strftime("%Y%m%d%H%M%S"), {"time": "time", "time_format": "%Y%m%d%H%M%S"}
    ),
    "iso": ("last_changed", lambda i: moment(i).isoformat(), {"time": "last_changed"}),
    "local iso": ("time", lambda i: moment(i).strftime("%Y-%m-%d %H:%M:%S.%f"), {"time": "time", "time_zone": ""}),
    "german": (
        "Zeit",
        lambda i: moment(i, 1).strftime("%d.%m.%Y %H:%M:%S"),
        {"time": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S", "time_zone": ""},
    ),
    "american": (
        "Date/Time",
        lambda i: moment(i, 1).strftime("%m/%d/%Y %I:%M:%S %p"),
        {"time": "Date/Time", "time_format": "%m/%d/%Y %I:%M:%S %p", "time_zone": ""},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TIMES)
def test_times_are_found_with_their_unit_and_form(case, tmp_path):
    name, at, expected = TIMES[case]
    path = write(tmp_path / "a.csv", ["ax", name, "ay"], [[x, at(i), y] for i, (x, y) in enumerate(WAVES)])
    found = look(path)
    assert {key: value for key, value in values(found).items() if key != "stream"} == expected
    assert [channel.name for channel in found.channels] == ["ax", "ay"]


def test_a_day_and_a_month_that_may_be_either_are_told_apart_by_order_or_said_to_be_unsure(tmp_path):
    def rows(start, step):
        return [[(start + i * step).strftime("%d/%m/%Y %H:%M"), x] for i, (x, _) in enumerate(WAVES[:20])]

    clear = look(write(tmp_path / "a.csv", ["time", "x"], rows(datetime(2024, 3, 1, tzinfo=UTC), timedelta(hours=12))))
    assert clear.columns["time_format"] == clear.columns["time_format"]._replace(value="%d/%m/%Y %H:%M", unsure="")
    either = look(
        write(tmp_path / "b.csv", ["time", "x"], rows(datetime(2024, 3, 5, tzinfo=UTC), timedelta(minutes=1)))
    )
    guess = either.columns["time_format"]
    assert "fits" in guess.unsure
    assert [other.value for other in guess.others] == ["%m/%d/%Y %H:%M"]


def test_a_date_and_a_time_of_day_in_two_columns_are_one_time(tmp_path):
    rows = [[f"{moment(i):%d.%m.%Y}", f"{moment(i, 1):%H:%M:%S}", x] for i, (x, _) in enumerate(WAVES)]
    found = look(write(tmp_path / "a.csv", ["Datum", "Uhrzeit", "x"], rows))
    assert values(found)["time"] == ("Datum", "Uhrzeit")
    assert values(found)["time_format"] == "%d.%m.%Y %H:%M:%S"
    assert found.rate.interval == 1


def test_a_second_time_a_counter_and_what_is_constant_are_no_channels(tmp_path):
    names = ["", "time", "received", "seq", "ax", "device_id", "firmware version"]
    rows = [[i, T0 + i, T0 + i + 0.3, 17 + i, x, "a", 3] for i, (x, _) in enumerate(WAVES)]
    found = look(write(tmp_path / "a.csv", names, rows))
    assert [channel.name for channel in found.channels] == ["ax"]
    why = dict(found.unused)
    assert set(why) == {"", "received", "seq", "firmware version"}
    assert why["seq"] == "it numbers the rows"
    assert why["received"] == "it holds times too"


def test_no_time_is_said(tmp_path):
    found = look(write(tmp_path / "a.csv", ["ax", "ay"], WAVES))
    assert values(found) == {"stream": "", "time": ""}
    assert found.doubts == ["time: no column was recognised as the time"]


def test_numbers_are_found_among_other_spellings(tmp_path):
    spelled = ["unavailable", "NaN", "", "1.5", "2", "---"]
    rows = [
        [i, spelled[i % 6] if i % 20 == 1 else x, "ERR" if i % 30 == 0 else y, "on" if i % 3 else "off",
         -9999 if i % 50 == 3 else 20.5 + x, "low"]
        for i, (x, y) in enumerate(WAVES)
    ]  # fmt: skip
    found = look(write(tmp_path / "a.csv", ["t", "ax", "ay", "pump", "temp (degC)", "level"], rows))
    by_name = {channel.name: channel for channel in found.channels}
    assert list(by_name) == ["ax", "ay", "pump", "temp (degC)"]
    assert found.columns["missing"].value == {"ay": ["ERR"], "temp (degC)": [-9999.0]}
    assert "'ay'" in found.columns["missing"].unsure
    assert (by_name["temp (degC)"].low, by_name["temp (degC)"].unit) == (pytest.approx(19.5, abs=0.01), "degC")
    assert dict(found.unused) == {"level": "it has text (low)"}


def test_numbers_that_are_written_otherwise_are_no_spellings_of_no_value(tmp_path):
    rows = [
        [i, "40,6" if i in (7, 70) else x, "12 C" if i % 30 == 9 else y, "x" if i == 5 else y]
        for i, (x, y) in enumerate(WAVES)
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(";".join(map(str, row)) for row in [["t", "a", "b", "c"], *rows]) + "\n")
    found = look(str(path))
    assert [channel.name for channel in found.channels] == ["a", "b", "c"]
    assert "missing" not in values(found)
    assert [remark.split(",")[0] for remark in found.remarks] == [
        "2 of 200 values in 'a' have a decimal comma", "7 of 200 values in 'b' are no numbers",
        "1 of 200 values in 'c' are no numbers",
    ]  # fmt: skip
    assert 'faults = "drop"' in document(found, "score", command="")
    assert set(found.remarks) <= set(found.doubts)


def test_points_among_decimal_commas_are_said(tmp_path):
    def comma(number):
        return f"{number:.3f}".replace(".", ",")

    rows = [
        [comma(0.1 * i), f"{x:.3f}" if i in (7, 70) else comma(x), f"{y:.4f}", comma(y)]
        for i, (x, y) in enumerate(WAVES)
    ]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(map(";".join, [["t", "a", "b", "c"], *rows])) + "\n")
    found = look(str(path))
    assert found.columns["csv"].value["decimal"] == ","
    assert [channel.name for channel in found.channels] == ["a", "c"]
    assert "missing" not in values(found)
    assert [remark.split(",")[0] for remark in found.remarks] == ["2 of 200 values in 'a' have a decimal point"]
    assert dict(found.unused)["b"].startswith("its numbers have a decimal point")


def test_words_become_numbers(tmp_path):
    rows = [[i, x, "open" if x > 0 else "closed", "b" if x > 0 else "c"] for i, (x, _) in enumerate(WAVES)]
    found = look(write(tmp_path / "a.csv", ["t", "x", "door", "mode"], rows))
    assert [channel.name for channel in found.channels] == ["x", "door"]
    assert found.columns["words"].value == {"open": 1, "closed": 0}
    assert "a choice" in found.columns["words"].unsure


def test_files_of_one_recording_are_joined(tmp_path):
    for walk in ("walk-1", "walk-2"):
        (tmp_path / walk).mkdir()
        for name in ("Accelerometer", "Gyroscope"):
            write(tmp_path / walk / f"{name}.csv", ["time", "x", "y"], [[T0 + i, *own] for i, own in enumerate(WAVES)])
        write(tmp_path / walk / "Metadata.csv", ["version", "device"], [[3, "phone"]])
    found = look(str(tmp_path))
    names = ["Accelerometer.csv:x", "Accelerometer.csv:y", "Gyroscope.csv:x", "Gyroscope.csv:y"]
    assert [channel.name for channel in found.channels] == names
    assert values(found) == {"stream": "", "time": "time"}
    assert "Metadata.csv" in dict(found.unused)


@pytest.fixture
def walks(tmp_path):
    for number in range(6):
        folder = tmp_path / f"walk-{number}"
        folder.mkdir()
        label = "abc"[number % 3]
        rows = [[T0 + i, *own, label] for i, own in enumerate(WAVES[:60])]
        write(folder / "Acc.csv", ["time", "x", "y", "kind"], rows)
        write(folder / "Gyr.csv", ["time", "x", "y"], [row[:-1] for row in rows])
        write(folder / "Notes.csv", ["mood"], [["good"]])
    return tmp_path


@pytest.mark.parametrize("target", ["kind", "Acc.csv:kind"])
def test_the_target_is_in_one_of_the_files_that_are_joined(walks, target):
    found = look(str(walks), (target,))
    assert (found.target.value, found.task, found.rate.streams) == ("Acc.csv:kind", "classification", 6)
    names = ["Acc.csv:x", "Acc.csv:y", "Gyr.csv:x", "Gyr.csv:y"]
    assert [channel.name for channel in found.channels] == names
    config = as_train_config(tomllib.loads(document(found, "train", command="")))
    assert config.data.targets == ("Acc.csv:kind",)
    assert [channel.name for channel in config.data.channels] == names
    assert len(config.data.find()) == 6
    assert survey(config.data).usable.sum() == 6
    fit = convert(tomllib.loads(document(found, "fit", command="")), FitConfig)
    assert (fit.target, fit.channels) == ("Acc.csv:kind", tuple(names))


def test_a_target_that_is_in_none_of_the_joined_files_is_named(walks):
    with pytest.raises(DataError, match=r"none of the files Acc.csv, Gyr.csv has a column 'kin'.*Acc.csv:kind"):
        look(str(walks), ("kin",))
    with pytest.raises(DataError, match=r"has a column 'mood'.*not in Notes.csv, which cannot be joined by time"):
        look(str(walks), ("mood",))
    with pytest.raises(DataError, match=r"has a column 'Gyr.csv:kind'"):
        look(str(walks), ("Gyr.csv:kind",))


def test_streams_are_found_by_name_or_by_where_the_time_jumps_back(tmp_path):
    rows = [[stream, 0.1 * i, x] for stream in ("p1", "p2", "p3") for i, (x, _) in enumerate(WAVES[:60])]
    named = look(write(tmp_path / "a.csv", ["machine", "t", "x"], rows))
    assert named.columns["stream"].value == "machine"
    assert not named.doubts
    odd = look(write(tmp_path / "b.csv", ["charge", "t", "x"], rows))
    assert odd.columns["stream"].value == "charge"
    assert odd.columns["stream"].why == "the time jumps 2 times, each where column 'charge' changes"
    assert odd.columns["stream"].unsure
    assert odd.restarts is None


def test_streams_are_found_by_where_the_time_is_silent(tmp_path):
    rows = [[f"{T0 + 1000 * s + 0.5 * i}", x, f"r{s}", "a"] for s in range(3) for i, (x, _) in enumerate(WAVES[:60])]
    found = look(write(tmp_path / "a.csv", ["time", "x", "Aufnahme", "mode"], rows))
    assert found.columns["stream"].value == "Aufnahme"


def test_long_form_with_a_target_is_fitted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [
        [stream, 0.1 * i, name, value * (1 + 2 * (stream % 2)), "walk" if stream % 2 else "sit"]
        for stream in range(20)
        for i, wave in enumerate(WAVES[:80])
        for name, value in zip(("ax", "ay"), wave, strict=True)
    ]
    write(tmp_path / "long.csv", ["device", "time", "channel", "value", "activity"], rows)
    run("init", "long.csv", "--target", "activity", "--out", "fit.toml")
    written = tomllib.loads((tmp_path / "fit.toml").read_text())
    assert written["columns"] == {"name": "channel", "value": "value"}
    assert written["channels"] == ["ax", "ay"]
    run("fit", "fit.toml", "--minutes", "0.02", "--quiet")
    assert (tmp_path / "model.safetensors").exists()


def test_a_column_called_id_that_numbers_the_rows_is_no_stream(tmp_path):
    found = look(write(tmp_path / "a.csv", ["id", "t", "x"], [[i, 0.1 * i, x] for i, (x, _) in enumerate(WAVES)]))
    assert values(found) == {"stream": "", "time": "t"}
    assert [channel.name for channel in found.channels] == ["x"]


def test_a_recording_that_begins_again_is_split(tmp_path):
    rows = [[0.02 * i, x] for _ in range(2) for i, (x, _) in enumerate(WAVES)]
    found = look(write(tmp_path / "a.csv", ["t", "x"], rows))
    assert found.restarts is not None
    assert found.restarts.value == "split"


def test_rows_in_another_order_than_their_times_are_sorted(tmp_path):
    order = [i ^ 1 if i % 20 < 2 else i for i in range(len(WAVES))]
    rows = [[0.02 * place, x] for place, (x, _) in zip(order, WAVES, strict=True)]
    found = look(write(tmp_path / "a.csv", ["t", "x"], rows))
    assert found.restarts is not None
    assert (found.restarts.value, found.restarts.why[:8]) == ("sort", "10 rows ")
    assert 'restarts = "sort"' in document(found, "train", command="")
    assert "restarts" not in document(found, "score", command="")


def test_long_form_is_found(tmp_path):
    rows = [
        [f"sensor.{name}", value if i != 5 else "unavailable", moment(i, 10).isoformat()]
        for i, (x, y) in enumerate(WAVES)
        for name, value in (("kitchen", 20 + x), ("mode", "auto"), ("bath", 22 + y))
    ]
    found = look(write(tmp_path / "history.csv", ["entity_id", "state", "last_changed"], rows))
    assert values(found) == {"stream": "", "time": "last_changed", "name": "entity_id", "value": "state"}
    assert [channel.name for channel in found.channels] == ["sensor.kitchen", "sensor.bath"]
    assert found.rate.interval == 10
    with pytest.raises(ConfigError, match="each row has one value of one channel"):
        run("init", tmp_path / "history.csv", "--for", "fit")


def labelled(tmp_path, **more):
    rows = [
        [
            stream,
            0.1 * i,
            x * (1 + 2 * (stream % 2)),
            y,
            "walk" if stream % 2 else "sit",
            f"s{stream % 5}",
            *more.values(),
        ]
        for stream in range(20)
        for i, (x, y) in enumerate(WAVES[:80])
    ]
    return write(tmp_path / "walks.csv", ["recording", "time", "ax", "ay", "activity", "subject", *more], rows)


def test_a_target_and_groups_are_found(tmp_path):
    found = look(labelled(tmp_path))
    assert found.target is not None
    assert found.group is not None
    assert (found.target.value, found.task, found.target_at, found.group.value) == (
        "activity",
        "classification",
        "auto",
        "subject",
    )
    assert found.target.unsure
    assert not look(labelled(tmp_path), ("activity",)).doubts


def test_what_is_written_is_read_by_train_and_gives_the_streams(tmp_path):
    path = labelled(tmp_path)
    config = as_train_config(tomllib.loads(document(look(path, ("activity",)), "train", command="")))
    recordings = read_recordings(config.data)
    assert len(recordings) == 20
    assert config.split.group == "subject"
    assert config.windows.seconds == 1
    rows = [recording.x for recording in recordings]
    assert {len(x) for x in rows} == {80}
    assert np.isclose(rows[1][:, 0], [3 * x for x, _ in WAVES[:80]]).all()


def run(*arguments):
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done


def test_init_and_train_are_all_that_a_newcomer_types(tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="training needs torch")
    monkeypatch.chdir(tmp_path)
    labelled(tmp_path)
    done = run("init", "walks.csv", "--target", "activity", "--out", "train.toml")
    assert "next: streamrde train train.toml" in done.output
    run("train", "train.toml", "--set", "choice.minutes=0.02")
    assert (tmp_path / "model.safetensors").exists()


def test_init_and_fit_and_score(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    labelled(tmp_path)
    assert "streamrde fit fit.toml" in run("init", "walks.csv", "--target", "activity", "--out", "fit.toml").output
    run("fit", "fit.toml", "--minutes", "0.02", "--quiet")
    run("init", "walks.csv", "--model", "model.safetensors", "--for", "score", "--out", "score.toml")
    assert "predictions" in run("score", "--config", "score.toml").output
    assert (tmp_path / "predictions.parquet").exists()


def test_a_forecast_is_what_stands_there_if_nothing_looks_like_a_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.csv", ["t", "x"], [[0.1 * i, x] for i, (x, _) in enumerate(WAVES * 3)])
    text = document(look(path), "train", command="")
    config = as_train_config(tomllib.loads(text))
    assert (config.data.target, config.data.horizon > 0, config.split.by) == ("x", True, "time")
    assert "--target" in text


def test_channels_of_a_model_are_matched_with_columns(tmp_path):
    names = ["Time", "Gyro_wx", "wy", "WZ", "acc.ax", "acc.ay", "acc.az"]
    path = write(tmp_path / "a.csv", names, [[0.02 * i, *[x] * 6] for i, (x, _) in enumerate(WAVES)])
    done = run("init", path, "--model", MODEL, "--json")
    written = tomllib.loads(json.loads(done.output)["toml"])
    assert written["columns"]["channels"] == ["acc.ax", "acc.ay", "acc.az", "Gyro_wx", "wy", "WZ"]
    names = [f"{sensor}.csv:{axis}" for sensor in ("Accelerometer", "Gyroscope") for axis in "zyx"]
    path = write(tmp_path / "c.csv", ["time", *names], [[0.02 * i, *[x] * 6] for i, (x, _) in enumerate(WAVES)])
    written = tomllib.loads(json.loads(run("init", path, "--model", MODEL, "--json").output)["toml"])
    assert written["columns"]["channels"] == [names[i] for i in (2, 1, 0, 5, 4, 3)]
    few = write(tmp_path / "b.csv", ["t", "ax"], [[i, x] for i, (x, _) in enumerate(WAVES)])
    with pytest.raises(ConfigError, match="no column was found for its channels ay, az, wx, wy, wz"):
        run("init", few, "--model", MODEL)


def test_units_that_differ_from_the_models_are_converted(tmp_path):
    units = {channel.name: channel.unit for channel in load(MODEL).header.channels}
    assert units["ax"] == "g"
    names = ["t", *(f"{name} [{'m/s^2' if name == 'ax' else unit}]" for name, unit in units.items())]
    path = write(tmp_path / "a.csv", names, [[0.02 * i, *[x] * 6] for i, (x, _) in enumerate(WAVES)])
    columns = tomllib.loads(json.loads(run("init", path, "--model", MODEL, "--json").output)["toml"])["columns"]
    assert columns["units"] == {"ax [m/s^2]": "m/s2"}


def test_units_in_the_metadata_of_a_file_are_seen(tmp_path):
    field = pa.field("x", pa.float64(), metadata={"unit": "mV"})
    table = pa.table([np.arange(50) * 0.1, np.sin(np.arange(50.0))], pa.schema([pa.field("t", pa.float64()), field]))
    pq.write_table(table, tmp_path / "a.parquet")
    assert [channel.unit for channel in look(str(tmp_path / "a.parquet")).channels] == ["mV"]


def test_the_files_that_come_with_the_package_are_understood():
    found = look(str(MODEL.parent / "subject-01.parquet"))
    assert values(found) == {"stream": "stream_id", "time": "t"}
    assert [channel.name for channel in found.channels] == ["ax", "ay", "az", "wx", "wy", "wz"]
    assert found.rate.interval == pytest.approx(0.02)


DIALECTS = {
    "commas for points": ("a.csv", "utf-8", lambda rows: "\n".join(";".join(row).replace(".", ",") for row in rows)),
    "a preamble": ("a.csv", "utf-8", lambda rows: "Logger,X1\nRate,50\n\n" + "\n".join(map(",".join, rows))),
    "tabs": ("a.tsv", "utf-8", lambda rows: "\n".join(map("\t".join, rows))),
    "spaces": ("a.txt", "utf-8", lambda rows: "\n".join(map("   ".join, rows))),
    "comments and UTF-16": ("a.csv", "utf-16", lambda rows: "# by me\n" + "\n".join(map(",".join, rows))),
    "units": ("a.csv", "utf-8", lambda rows: "\n".join(map(",".join, [rows[0], ["s", "g", "g"], *rows[1:]]))),
}


@pytest.mark.parametrize("case", DIALECTS)
def test_dialects_of_text_are_written_down_and_read(case, tmp_path):
    name, encoding, text = DIALECTS[case]
    rows = [["t", "ax", "ay"], *([f"{0.02 * i:.2f}", f"{x:.4f}", f"{y:.4f}"] for i, (x, y) in enumerate(WAVES))]
    (tmp_path / name).write_text(text(rows) + "\n", encoding=encoding)
    found = look(str(tmp_path / name))
    assert values(found)["time"] == "t"
    assert [channel.name for channel in found.channels] == ["ax", "ay"]
    assert [channel.unit for channel in found.channels] == (["g", "g"] if case == "units" else ["", ""])
    job = convert(tomllib.loads(document(found, "score", command="", channels={"ax": "ax", "ay": "ay"})), Job)
    columns = job.columns.columns_for(["ax", "ay"])
    (recording,) = find_recordings(job.files, csv=columns.csv)
    x = np.concatenate([samples.x for _, samples in SampleReader(columns).read(recording)])
    assert np.array_equal(x, WAVES)


def test_many_files_are_looked_at_from_all_over(tmp_path):
    for i in range(30):
        pq.write_table(
            pa.table({"time": np.arange(50) * 0.1, "x": np.sin(np.arange(50.0) + i), f"y{i}": np.zeros(50)}),
            tmp_path / f"{i:02}.parquet",
        )
    found = look(str(tmp_path))
    assert "in 12 of 30 files" in found.seen
    assert [channel.name for channel in found.channels] == ["x"]
    assert found.columns["stream"].why == "no column names streams: each file is one"


def test_columns_that_are_not_there_are_named(tmp_path):
    path = write(tmp_path / "a.csv", ["t", "temperature"], [[0, 1], [1, 2]])
    with pytest.raises(DataError, match=r"no column 'Temperature'.*did you mean 'temperature'"):
        look(path, ("Temperature",))
    with pytest.raises(DataError, match="no column of numbers is left"):
        look(path, ("temperature",))


def test_a_run_reads_no_files(tmp_path):
    path = write(tmp_path / "a.csv", ["t", "x"], WAVES)
    with pytest.raises(ConfigError, match="use --for score"):
        run("init", path, "--for", "run")


def test_rates_gaps_and_windows():
    t = np.concatenate([np.arange(100) * 0.1, 100 + np.arange(100) * 0.1])
    rate = measure([t])
    assert (rate.interval, rate.steady, rate.gaps) == (pytest.approx(0.1), True, 1)
    assert rate.longest == pytest.approx(90.1)
    assert rate.gap == 2
    assert measure([np.array([np.nan])]).window == 1
    # Short streams have shorter windows, so that there are some.
    assert [measure([np.arange(rows) * 0.1]).window for rows in (2000, 80)] == [5.0, 1.0]
    assert nice(45.0) == 50
    assert spoken(3e-6) == "3 us"
    assert list(itertools.starmap(percent, [(0.0,), (1.0,), (0.033,)])) == ["0 %", "100 %", "3.3 %"]
