"""Recordings whose channels are spread over the files of a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrde.connectors.columns import Columns
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.samples import Samples
from streamrde.connectors.units import Conversion
from streamrde.errors import DataError, ParameterError
from streamrde.fitting.entry import fit

NAN = float("nan")
CHANNELS = ("Acc.csv:x", "Gyro.txt:x", "Acc.csv:y")
OWN = Columns(channels=CHANNELS, stream=None)


def folder(path: Path, acc: str = "t,x,y\n0,1,2\n2,3,4\n3,5,6\n", gyro: str = "t,x\n0,10\n1,20\n3,30\n4,40\n") -> Path:
    path.mkdir(parents=True)
    (path / "Acc.csv").write_text(acc)
    (path / "Gyro.txt").write_text(gyro)
    (path / "Metadata.csv").write_text("device,app\nx,1\n")
    return path


def rows(batches: list[Samples]) -> list[tuple[str, float, list[float]]]:
    return [
        (name, t, x)
        for one in batches
        for name, t, x in zip(one.streams.to_pylist(), one.t.tolist(), one.x.tolist(), strict=True)
    ]


WHOLE = [(0, [1, 10, 2]), (1, [NAN, 20, NAN]), (2, [3, NAN, 4]), (3, [5, 30, 6]), (4, [NAN, 40, NAN])]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 65536])
def test_files_of_a_folder_are_joined_by_time(tmp_path: Path, batch_rows: int) -> None:
    folder(tmp_path / "in" / "one")
    folder(tmp_path / "in" / "two", gyro="t,x\n0,-1\n")
    found = rows(list(read(tmp_path / "in", OWN, batch_rows=batch_rows)))
    two = [("two", 0, [1, -1, 2]), ("two", 2, [3, NAN, 4]), ("two", 3, [5, NAN, 6])]
    np.testing.assert_equal(found, [*(("one", t, x) for t, x in WHOLE), *two])


@pytest.mark.parametrize("batch_rows", [1, 2, 65536])
def test_reading_goes_on_at_any_row_that_it_names(tmp_path: Path, batch_rows: int) -> None:
    (recording,) = SampleReader(OWN).find(folder(tmp_path / "one"))
    reader, taken = SampleReader(OWN, batch_rows=batch_rows), 0
    for after, samples in reader.read(recording):
        taken += len(samples.t)
        rest = [one for _, one in SampleReader(OWN).read(recording, start=after)]
        np.testing.assert_equal([(t, x) for _, t, x in rows(rest)], WHOLE[taken:])


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=8, unique=True).map(sorted), min_size=2, max_size=2),
    st.integers(1, 5),
)
@settings(deadline=None, max_examples=50)
def test_any_batches_give_the_rows_of_all_files(
    tmp_path_factory: pytest.TempPathFactory, times: list[list[int]], batch_rows: int
) -> None:
    if not all(times):
        return
    path = tmp_path_factory.mktemp("spread") / "one"
    folder(
        path,
        "t,x,y\n" + "".join(f"{t},{t},{-t}\n" for t in times[0]),
        "t,x\n" + "".join(f"{t},{10 * t}\n" for t in times[1]),
    )
    expected = [
        (t, [*((t,) if t in times[0] else (NAN,)), 10 * t if t in times[1] else NAN, -t if t in times[0] else NAN])
        for t in sorted({*times[0], *times[1]})
    ]
    found = [(t, x) for _, t, x in rows(list(read(path, OWN, batch_rows=batch_rows)))]
    np.testing.assert_equal(found, expected)


def test_a_file_that_is_out_of_order_keeps_its_rows(tmp_path: Path) -> None:
    path = folder(tmp_path / "one", gyro="t,x\n3,30\n0,10\n4,40\n1,20\n")
    found = list(read(path, OWN, batch_rows=2))
    values = [value for one in found for value in one.x.ravel().tolist() if value == value]
    assert sorted(values) == [1, 2, 3, 4, 5, 6, 10, 20, 30, 40]


def test_targets_units_and_missing_values_are_those_of_their_file(tmp_path: Path) -> None:
    path = folder(tmp_path / "one", acc="t,x,y,label\n0,1,-9,up\n2,-9,4,down\n", gyro="t,x\n0,-9\n1,20\n")
    own = Columns(channels=CHANNELS, stream=None, missing={"Acc.csv:x": (-9,), "Acc.csv:y": (-9,)})
    reader = SampleReader(
        own,
        extra=["Acc.csv:label"],
        batch_rows=1,
        conversion=Conversion(np.array([2.0, 1.0, 1.0]), np.array([0.0, 100.0, 0.0])),
    )
    found = [one for _, one in reader.read(*reader.find(path))]
    np.testing.assert_equal(
        [(t, x) for _, t, x in rows(found)], [(0, [2, 91, NAN]), (1, [NAN, 120, NAN]), (2, [NAN, NAN, 4])]
    )
    labels = [label for one in found for label in one.extra.column("Acc.csv:label").to_pylist()]  # type: ignore[union-attr]
    assert labels == ["up", None, "down"]
    assert len({one.extra.schema for one in found if one.extra is not None}) == 1


def test_files_of_text_count_by_their_names_beside_others(tmp_path: Path) -> None:
    path = folder(tmp_path / "one")
    found = rows(list(read(path, Columns(channels=("Gyro.txt:x",), stream=None))))
    assert found == [("one", t, [x]) for t, x in ((0, 10), (1, 20), (3, 30), (4, 40))]


def test_limits_are_those_of_the_channels(tmp_path: Path) -> None:
    reader = SampleReader(Columns(channels=CHANNELS, stream=None, limits={"Acc.csv:x": (0, 4), "Gyro.txt:x": (15, 35)}))
    found = [one for _, one in reader.read(*reader.find(folder(tmp_path / "one")))]
    np.testing.assert_equal([x[0] for _, _, x in rows(found)], [1, NAN, 3, NAN, NAN])
    np.testing.assert_equal([x[1] for _, _, x in rows(found)], [NAN, 20, NAN, 30, NAN])
    assert dict(reader.implausible) == {"Acc.csv:x": 1, "Gyro.txt:x": 2}


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "one")
    with pytest.raises(
        DataError, match=r"no folder has the channels' files Mag\.csv; there are Acc\.csv, Metadata\.csv"
    ):
        list(read(path, Columns(channels=("Mag.csv:x",), stream=None)))
    (path / "Gyro.txt").unlink()
    with pytest.raises(DataError, match=r"one: has no file Gyro\.txt, which holds channels"):
        list(read(path, OWN))
    (path / "Gyro.txt").write_text("t,y\n0,1\n")
    with pytest.raises(DataError, match=r"Gyro\.txt: has no column 'x'; it has: t, y"):
        list(read(path, OWN))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"channels": ("Acc.csv:x", "y")}, r"'y' names no file, and others do: write .* Acc\.csv:y"),
        ({"channels": CHANNELS, "stream": "id"}, "a stream is then a folder"),
        ({"channels": CHANNELS, "name": "entity"}, "columns.name = 'entity'"),
    ],
)
def test_keys_that_cannot_go_together_are_refused(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        SampleReader(Columns(**{"stream": None, **keys}))  # type: ignore[arg-type]


def test_a_colon_in_a_columns_name_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("t,acc:x\n0,1\n")
    (one,) = read(tmp_path / "a.csv", Columns(channels=("acc:x",), stream=None))
    assert one.x.tolist() == [[1]]


def test_a_fit_learns_from_folders(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(30) / 10
    for i in range(12):
        level = 3.0 * (i % 2)
        acc = "".join(
            f"{s:.1f},{level + v:.3f},{v:.3f},{'AB'[i % 2]}\n" for s, v in zip(t, rng.normal(size=30), strict=True)
        )
        gyro = "".join(f"{s:.1f},{v:.3f}\n" for s, v in zip(t[::2], rng.normal(size=15), strict=True))
        folder(tmp_path / "in" / f"{i:02d}", "t,x,y,label\n" + acc, "t,x\n" + gyro)
    report = fit(str(tmp_path / "in"), "Acc.csv:label", stream="", time="t", channels=CHANNELS, minutes=0.05)
    assert report.config.channels == CHANNELS
    assert len({name for name, _, _ in rows(list(read(tmp_path / "in", OWN)))}) == 12


def test_a_fit_reads_the_dialect_that_it_recognises_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["id;t;ax;label"]
    for i in range(12):
        for k in range(20):
            value = f"{3.0 * (i % 2) + rng.normal():.3f}".replace(".", ",")
            at = f"{k / 10:.1f}".replace(".", ",")
            lines.append(f"s{i};{at};{value};{'AB'[i % 2]}")
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    said: list[str] = []
    report = fit(str(tmp_path / "a.csv"), "label", stream="id", minutes=0.05, say=said.append)
    assert any('looks like csv = { delimiter = ";", decimal = "," }' in text for text in said)
    assert report.config.columns is not None
    assert report.config.columns.csv.decimal == ","
    assert find_recordings(tmp_path)[0].stream == "a"
