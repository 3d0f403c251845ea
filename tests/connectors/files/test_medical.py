"""EDF, BDF and WFDB recordings, written by the libraries that others write them with."""

from __future__ import annotations

import datetime
import warnings
from pathlib import Path

import numpy as np
import places as servers
import pyarrow as pa
import pytest

import streamrde as sr
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.record_batches import read_batches, rows_of, schema_of, starts_of
from streamrde.connectors.files.recordings import Recording, find_recordings
from streamrde.connectors.samples import Columns, Samples
from streamrde.errors import ConfigError, DataError
from streamrde.scoring.job import ColumnsConfig, Job

edfio = pytest.importorskip("edfio", reason="EDF needs the extra medical")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    wfdb = pytest.importorskip("wfdb", reason="WFDB needs the extra medical")
START = datetime.datetime(2020, 3, 1, 23, 30, 5, tzinfo=datetime.UTC)
SECONDS = 30


def signals_of(kind: type = edfio.EdfSignal, rates: tuple[int, ...] = (100, 1)) -> list[object]:
    rng = np.random.default_rng(0)
    names = ("EEG Fpz-Cz", "Temp")
    return [
        kind(
            np.round(rng.normal(size=SECONDS * rate) * 100),
            rate,
            label=name,
            physical_dimension=unit,
            physical_range=(-1000, 1000),
        )
        for name, unit, rate in zip(names, ("uV", "degC"), rates, strict=True)
    ]


def write(path: Path, signals: list[object] | None = None, **settings: object) -> Path:
    kind = edfio.Edf if path.suffix == ".edf" else edfio.Bdf
    own = signals if signals is not None else signals_of(edfio.EdfSignal if kind is edfio.Edf else edfio.BdfSignal)
    settings.setdefault("recording", edfio.Recording(startdate=START.date()))
    kind(own, starttime=START.time(), **settings).write(path)
    return path


def samples_of(source: object, channels: tuple[str, ...], **settings: object) -> Samples:
    keys = {key: settings.pop(key) for key in ("time", "time_zone") if key in settings}
    batches = list(read(source, Columns(channels=channels, stream=None, **keys), **settings))
    t = np.concatenate([batch.t for batch in batches])
    return Samples(batches[0].streams, t, np.concatenate([batch.x for batch in batches]))


@pytest.mark.parametrize("suffix", [".edf", ".bdf"])
@pytest.mark.parametrize("batch_rows", [7, 100, 65536])
def test_signals_have_their_own_times_and_physical_values(tmp_path, suffix, batch_rows):
    path = write(tmp_path / f"night{suffix}")
    written = (edfio.read_edf if suffix == ".edf" else edfio.read_bdf)(path)
    got = samples_of(path, ("EEG Fpz-Cz", "Temp"), batch_rows=batch_rows)
    np.testing.assert_allclose(got.t, np.arange(SECONDS * 100) / 100, rtol=1e-15)
    np.testing.assert_array_equal(got.x[:, 0], written.signals[0].data)
    np.testing.assert_array_equal(got.x[::100, 1], written.signals[1].data)
    assert np.isnan(np.delete(got.x[:, 1], np.s_[::100])).all()
    assert got.streams.to_pylist()[0] == "night"
    fine = 1e-4 if suffix == ".bdf" else 0.02
    np.testing.assert_allclose(got.x[:, 0], np.round(np.random.default_rng(0).normal(size=3000) * 100), atol=fine)


def test_rows_without_any_of_the_channels_are_no_samples(tmp_path):
    got = samples_of(write(tmp_path / "night.edf"), ("Temp",))
    np.testing.assert_array_equal(got.t, np.arange(SECONDS))
    assert not np.isnan(got.x).any()


def test_rates_that_do_not_divide_each_other_share_the_instants_that_they_have(tmp_path):
    got = samples_of(write(tmp_path / "a.edf", signals_of(rates=(3, 2))), ("EEG Fpz-Cz", "Temp"))
    np.testing.assert_allclose(got.t[:5], [0, 1 / 3, 1 / 2, 2 / 3, 1])
    np.testing.assert_array_equal(np.isnan(got.x[:4]), [[False, False], [False, True], [True, False], [False, True]])
    assert len(got.t) == 4 * SECONDS


def test_the_header_dates_the_recording(tmp_path):
    path = write(tmp_path / "a.edf")
    begin = START.timestamp()
    np.testing.assert_allclose(samples_of(path, ("Temp",), time="time").t, begin + np.arange(SECONDS), rtol=1e-15)
    local = samples_of(path, ("Temp",), time="time", time_zone="Europe/Vienna")
    assert local.t[0] == begin - 3600
    schema = schema_of(Recording(path, "a"))
    assert schema.names == ["t", "time", "EEG Fpz-Cz", "Temp"]
    assert schema.field("EEG Fpz-Cz").metadata == {b"unit": b"uV"}
    anonymous = write(tmp_path / "b.edf", recording=edfio.Recording())
    assert "time" not in schema_of(Recording(anonymous, "b")).names


def test_annotations_are_a_column_of_what_holds_at_a_time(tmp_path):
    notes = [(0, 10, "W"), (10, 10, "N1"), (12.5, None, "spike"), (29.999, None, "end"), (15, 2, "µ-arousal")]
    path = write(tmp_path / "a.edf", annotations=[edfio.EdfAnnotation(*note) for note in notes])
    for batch_rows in (150, 65536):
        batches = read_batches(Recording(path, "a"), ["t", "annotation"], batch_rows=batch_rows)
        table = pa.Table.from_batches([batch for _, batch in batches])
        at = dict(zip(np.round(table["t"].to_numpy(), 2).tolist(), table["annotation"].to_pylist(), strict=True))
        assert [at[t] for t in (0.0, 9.99, 10.0, 12.49, 12.5, 12.51, 15.0, 16.99, 17.0, 20.0)] == [
            *("W", "W", "N1", "N1", "spike", "N1", "µ-arousal", "µ-arousal", "N1", None)
        ]
        assert table["annotation"].to_pylist().count("spike") == 1
        assert "end" not in at.values()  # no row comes after it


def test_a_gap_of_a_discontinuous_recording_is_a_gap_of_the_times(tmp_path):
    path = write(tmp_path / "a.edf", annotations=[])
    data = path.read_bytes()
    head = bytearray(data[: 256 * 4])
    head[192:197] = b"EDF+D"
    late = data[256 * 4 :]
    for second in range(20, SECONDS):
        late = late.replace(f"+{second}\x14\x14".encode(), f"+{second + 60}\x14\x14".encode())
    path.write_bytes(bytes(head) + late)
    times = samples_of(path, ("Temp",)).t
    np.testing.assert_array_equal(times, [*range(20), *range(80, 90)])


def test_a_job_can_begin_anywhere(tmp_path):
    recording = Recording(write(tmp_path / "a.edf"), "a")
    assert rows_of(recording) == 3000
    assert starts_of(recording)[0] == 0
    first, batch = next(read_batches(recording, ["t", "Temp"], start=1250, stop=1310))
    assert (first, batch.num_rows) == (1250, 60)
    assert batch["t"][0].as_py() == 12.5


def test_names_that_repeat_are_numbered(tmp_path):
    twins = [signals_of()[1], signals_of()[1]]
    assert schema_of(Recording(write(tmp_path / "a.edf", twins), "a")).names[-2:] == ["Temp", "Temp#2"]


def test_what_cannot_be_read_is_said(tmp_path):
    path = write(tmp_path / "a.edf")
    whole = path.read_bytes()

    def refused(data: bytes) -> str:
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.edf: ") as caught:
            samples_of(path, ("Temp",))
        return str(caught.value)

    assert "is cut: its header tells of 30 records, and it has 29" in refused(whole[:-1])
    assert "is not an EDF or BDF file, or its header is damaged" in refused(b"%PDF-1.7 " * 400)
    assert "is not an EDF or BDF file" in refused(whole[:300])
    path.write_bytes(whole[:236] + b"-1      " + whole[244:-1])  # not known when it was written
    assert len(samples_of(path, ("Temp",)).t) == SECONDS - 1
    rng = np.random.default_rng(0)
    for _ in range(200):
        at = rng.integers(0, 1024, size=4)
        broken = bytearray(whole)
        for place in at:
            broken[place] = rng.integers(0, 256)
        path.write_bytes(bytes(broken))
        try:
            samples_of(path, ("Temp",))
        except DataError as error:
            assert str(error).startswith(str(path))  # noqa: PT017


WFDB = pytest.mark.filterwarnings("ignore:The inplace keyword")  # of wfdb's own use of pandas


def write_wfdb(folder: Path, name: str = "a", *, frames: int = 2500, notes: bool = False) -> Path:
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    wfdb.wrsamp(
        name, fs=250, units=["mV", "mmHg"], sig_name=["MLII", "ABP"], fmt=["16", "16"], samps_per_frame=[2, 1],
        e_p_signal=[rng.normal(size=2 * frames), rng.normal(size=frames)], write_dir=str(folder),
        base_datetime=START.replace(tzinfo=None),
    )  # fmt: skip
    if notes:
        symbols, texts = np.array(["+", "N", "V", "+", '"']), ["(N", "", "", "(AFIB", "moved"]
        wfdb.wrann(
            name, "atr", np.array([0, 10, 300, 301, 900]), symbols, aux_note=texts, fs=250, write_dir=str(folder)
        )
    return folder / f"{name}.hea"


@WFDB
@pytest.mark.parametrize("batch_rows", [99, 65536])
def test_a_wfdb_record_gives_what_wfdb_reads(tmp_path, batch_rows):
    path = write_wfdb(tmp_path / "in")
    record = wfdb.rdrecord(str(path.with_suffix("")), smooth_frames=False)
    got = samples_of(tmp_path / "in", ("MLII", "ABP"), batch_rows=batch_rows)
    np.testing.assert_allclose(got.t, np.arange(5000) / 500, rtol=1e-15)
    np.testing.assert_array_equal(got.x[:, 0], record.e_p_signal[0])
    np.testing.assert_array_equal(got.x[::2, 1], record.e_p_signal[1])
    assert np.isnan(got.x[1::2, 1]).all()
    assert got.streams.to_pylist()[0] == "a"
    assert samples_of(path, ("ABP",), time="time").t[0] == START.timestamp()
    assert schema_of(Recording(path, "a")).field("ABP").metadata == {b"unit": b"mmHg"}


@WFDB
def test_annotations_of_a_wfdb_record(tmp_path):
    path = write_wfdb(tmp_path, notes=True)
    batches = read_batches(Recording(path, "a"), ["t", "annotation", "rhythm"], batch_rows=100)
    rows = [row for _, batch in batches for row in batch.to_pylist()]
    noted = {row["t"]: row["annotation"] for row in rows if row["annotation"]}
    assert noted == {10 / 250: "N", 300 / 250: "V", 900 / 250: "moved"}
    rhythms = [row["rhythm"] for row in rows]
    assert rhythms == ["N"] * 602 + ["AFIB"] * 4398


@WFDB
def test_segments_that_were_not_recorded_are_a_gap(tmp_path):
    write_wfdb(tmp_path, "a")
    write_wfdb(tmp_path, "b", frames=1000)
    (tmp_path / "m.hea").write_text("m/3 2 250 4000\na 2500\n~ 500\nb 1000\n")
    got = samples_of(tmp_path / "m.hea", ("ABP",), batch_rows=333)
    np.testing.assert_allclose(got.t, np.r_[0:2500, 3000:4000] / 250)
    own = [wfdb.rdrecord(str(tmp_path / name), smooth_frames=False).e_p_signal[1] for name in "ab"]
    np.testing.assert_array_equal(got.x[:, 0], np.concatenate(own))
    write_wfdb(tmp_path, "other")
    assert [one.stream for one in find_recordings(tmp_path)] == ["m", "other"]
    assert [one.stream for one in find_recordings(tmp_path / "b.hea")] == ["b"]


@WFDB
def test_segments_with_other_signals_leave_theirs_out(tmp_path):
    write_wfdb(tmp_path, "a")
    wfdb.wrsamp(
        "b",
        fs=250,
        units=["mmHg"],
        sig_name=["ABP"],
        fmt=["16"],
        p_signal=np.ones((100, 1)) * np.arange(100)[:, None],
        write_dir=str(tmp_path),
    )
    layout = "l 2 250 0\n~ 0x2 200(0)/mV 0 0 0 0 0 MLII\n~ 0 100(0)/mmHg 0 0 0 0 0 ABP\n"
    (tmp_path / "l.hea").write_text(layout)
    (tmp_path / "m.hea").write_text("m/3 2 250 2600\nl 0\na 2500\nb 100\n")
    got = samples_of(tmp_path, ("MLII", "ABP"))
    assert np.isnan(got.x[5000:, 0]).all()
    np.testing.assert_allclose(got.x[5000:, 1], np.arange(100), atol=0.01)
    np.testing.assert_allclose(got.t[5000:], 10 + np.arange(100) / 250)


@WFDB
def test_what_is_wrong_with_a_wfdb_record_is_said(tmp_path):
    path = write_wfdb(tmp_path)
    path.with_suffix(".dat").write_bytes(path.with_suffix(".dat").read_bytes()[:-100])
    with pytest.raises(DataError, match=r"a\.hea: frames 0 to 2500 cannot be read .*copy its files again"):
        samples_of(path, ("ABP",))
    path.with_suffix(".dat").unlink()
    with pytest.raises(DataError, match=r"a\.hea: has no a\.dat beside it, which has its signals"):
        samples_of(path, ("ABP",))
    path.write_text("not a header at all\n")
    with pytest.raises(DataError, match=r"a\.hea: (is not a WFDB header|tells of no samples)"):
        samples_of(path, ("ABP",))


@WFDB
def test_medical_recordings_are_read_from_the_web(tmp_path):
    pytest.importorskip("fsspec")
    write_wfdb(tmp_path, notes=True)
    write(tmp_path / "night.edf")
    with servers.web_server(tmp_path) as (address, _):
        for name, channel in (("a.hea", "ABP"), ("night.edf", "Temp")):
            there, here = samples_of(f"{address}/{name}", (channel,)), samples_of(tmp_path / name, (channel,))
            np.testing.assert_array_equal(there.x, here.x)
            assert there.streams.to_pylist() == here.streams.to_pylist()


def test_a_file_in_another_unit_than_the_models_is_converted(tmp_path):
    path = write(tmp_path / "a.edf")
    recorded = samples_of(path, ("EEG Fpz-Cz",)).x

    def read_as(unit: str, channels: tuple[str, ...] = ("EEG Fpz-Cz",)) -> np.ndarray:
        reader = SampleReader(Columns(channels=channels, stream=None), units={channels[0]: unit})
        return np.concatenate([samples.x for _, samples in reader.read(Recording(path, "a"))])

    np.testing.assert_allclose(read_as("mV"), recorded / 1000)
    np.testing.assert_array_equal(read_as("uV"), recorded)
    np.testing.assert_array_equal(read_as(""), recorded)
    np.testing.assert_allclose(read_as("K", ("Temp",)), samples_of(path, ("Temp",)).x + 273.15)
    with pytest.raises(
        ConfigError, match=r"a\.edf: column 'EEG Fpz-Cz' is in 'uV', a unit of voltage, and the model's"
    ):
        read_as("degC")
    with pytest.raises(ConfigError, match=r"no conversion from 'uV' to the model's 'furlong'.*give scale and offset"):
        read_as("furlong")


@pytest.mark.slow
def test_a_fitted_model_has_the_units_of_its_files(tmp_path):
    rng = np.random.default_rng(0)

    def night(name: str, kind: str, unit: str, factor: float) -> None:
        t = np.arange(600) / 20
        x = np.sin(t * (9 if kind == "b" else 3)) * 50 + rng.normal(size=600)
        signal = edfio.EdfSignal(
            x * factor, 20, label="EEG", physical_dimension=unit, physical_range=(-100 * factor, 100 * factor)
        )
        note = edfio.EdfAnnotation(0, 30, kind)
        edfio.Edf([signal], annotations=[note]).write(tmp_path / f"{name}.edf")

    for i in range(10):
        night(f"{i}", "ab"[i % 2], "uV", 1.0)
    report = sr.fit(str(tmp_path), "annotation", time="t", channels=["EEG"], out=tmp_path / "m.safetensors")
    assert report is not None
    bundle = sr.load(tmp_path / "m.safetensors")
    assert [channel.unit for channel in bundle.header.channels] == ["uV"]
    night("mv", "b", "mV", 1e-3)
    night("uv", "b", "uV", 1.0)
    found = {}
    for name in ("mv", "uv"):
        columns = ColumnsConfig(stream="", time="t")
        job = Job(model=str(tmp_path / "m.safetensors"), files=str(tmp_path / f"{name}.edf"), columns=columns)
        (_, samples), *_ = job.reader(bundle.header).read(Recording(tmp_path / f"{name}.edf", name))
        found[name] = np.abs(samples.x).max()
    assert 45 < found["mv"] < 60
    assert 45 < found["uv"] < 60


@WFDB
def test_a_folder_of_them_is_found(tmp_path):
    write(tmp_path / "b.edf")
    write(tmp_path / "c.bdf")
    write_wfdb(tmp_path, "a")
    assert [one.stream for one in find_recordings(tmp_path)] == ["a", "b", "c"]
