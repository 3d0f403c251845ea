"""Divide recorded data into training and test parts, for fit_quality.py. Each set says how its parts may leak."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from streamrde.demo.watch_data import FOLDER

HOUR = 3600.0


class Part(NamedTuple):
    """Rows to learn from and rows to be tested on."""

    name: str
    train: pa.Table
    test: pa.Table
    begin: float = -np.inf
    """Targets of the test are those from this time on; the rows before lead up to it."""


class DataSet(NamedTuple):
    """A data set, and how `streamrde fit` is called on it."""

    title: str
    file: str
    """In the folder of data. "": it ships with the package."""
    target: tuple[str, ...]
    parts: Callable[[pathlib.Path], Iterator[Part]]
    split: str
    """One clause on what is tested on what, for the table."""
    leak: str = ""
    """What the split lets through from training to test, as far as the data tell."""
    options: dict[str, Any] = {}  # noqa: RUF012 (never written to)
    classes: bool = True
    mean: bool = False
    """Counts in the mean over sets of whole streams."""
    peers: str = "padded"
    """How peers get streams: "padded", "hourly", or "" for not at all."""


def official(path: pathlib.Path) -> Iterator[Part]:
    table = plain(pq.read_table(path))
    test = pc.equal(table["split"], "test")
    table = table.drop_columns("split")
    yield Part("official", table.filter(pc.invert(test)), table.filter(test))


def each_person(path: pathlib.Path) -> Iterator[Part]:
    table = plain(pq.read_table(path))
    for person in sorted(pc.unique(table["subject"]).to_pylist()):
        out = pc.equal(table["subject"], person)
        yield Part(f"person {person}", table.filter(pc.invert(out)), table.filter(out))


def last_three(path: pathlib.Path) -> Iterator[Part]:
    table = plain(pa.concat_tables(pq.read_table(file) for file in sorted(path.glob("subject-*.parquet"))))
    out = pc.greater(table["subject"], 7)
    yield Part("people 8 to 10", table.filter(pc.invert(out)), table.filter(out))


def five_folds(path: pathlib.Path) -> Iterator[Part]:
    """Yield folds of streams with the classes in equal shares."""
    table = plain(pq.read_table(path)).drop_columns("age")
    label = np.asarray(table["label"].combine_chunks())
    first = np.unique(codes := np.asarray(table["stream_id"].combine_chunks().dictionary_encode().indices), return_index=True)[1]  # fmt: skip  # noqa: E501
    fold = np.empty(len(first), int)
    rng = np.random.default_rng(0)
    for value in (0, 1):
        own = rng.permutation(np.flatnonzero(label[first] == value))
        fold[own] = np.arange(len(own)) % 5
    for i in range(5):
        out = pa.array(fold[codes] == i)
        yield Part(f"fold {i}", table.filter(pc.invert(out)), table.filter(out))


def new_patients(path: pathlib.Path) -> Iterator[Part]:
    """Yield fifths of the patients, in excerpts of 32 s that begin every 15 s; targets are means over an excerpt."""
    signals, windows = plain(pq.read_table(path)), plain(pq.read_table(path.with_name("bidmc_windows_32s_stride3s.parquet")))  # fmt: skip  # noqa: E501
    excerpts = []
    for patient in sorted(pc.unique(signals["stream_id"]).to_pylist()):
        own = signals.filter(pc.equal(signals["stream_id"], patient))
        t = np.asarray(own["t"])
        for row in windows.filter(pc.equal(windows["stream_id"], patient)).to_pylist()[::5]:
            if not all(np.isfinite(row[name]) for name in ("rr", "hr", "spo2")):
                continue
            some = own.slice(int(np.searchsorted(t, row["t"])), 32 * 125)
            columns: dict[str, Any] = {
                "stream_id": [f"{patient}_{row['t']:.0f}"] * len(some),
                "t": np.asarray(some["t"]) - row["t"],
                "ppg": some["ppg"],
                "ecg_ii": some["ecg_ii"],
                "patient": [patient] * len(some),
            }
            excerpts.append(pa.table(columns | {n: np.full(len(some), row[n]) for n in ("rr", "hr", "spo2")}))
    table = pa.concat_tables(excerpts)
    patients = np.random.default_rng(0).permutation(sorted(pc.unique(table["patient"]).to_pylist()))
    for i in range(5):
        out = pc.is_in(table["patient"], pa.array(patients[i::5].tolist()))
        yield Part(f"patients {i}", table.filter(pc.invert(out)), table.filter(out))


def last_fifth(path: pathlib.Path) -> Iterator[Part]:
    table = plain(pq.read_table(path))
    t = np.asarray(table["t"])
    begin = np.floor(t.max() * 0.8 / HOUR) * HOUR
    yield Part("last fifth", table.filter(pa.array(t < begin)), table, begin)


def plain(table: pa.Table) -> pa.Table:
    """Return the table with text in place of dictionaries."""
    fields = [
        field.with_type(pa.string())
        if pa.types.is_dictionary(field.type) or pa.types.is_large_string(field.type)
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).combine_chunks()


_PERSONS = "a person may be in both parts: the archive's files do not name persons"


def _archive(title: str, file: str, leak: str = "") -> DataSet:
    return DataSet(title, file, ("label",), official, "official split", leak, mean=True)


SETS = {
    "basicmotions": _archive("BasicMotions", "uea_basicmotions.parquet", _PERSONS),
    "epilepsy": _archive("Epilepsy", "uea_epilepsy.parquet", _PERSONS),
    "japanesevowels": _archive(
        "JapaneseVowels", "uea_japanesevowels.parquet", "the speakers are the classes, so they are in both parts"
    ),
    "gunpoint": _archive("GunPoint", "ucr_gunpoint.parquet", "the same two people are in both parts"),
    "arrowhead": _archive("ArrowHead", "ucr_arrowhead.parquet"),
    "italypowerdemand": _archive(
        "ItalyPowerDemand", "ucr_italypowerdemand.parquet", "days of the same year are in both parts"
    ),
    "acsf1": _archive("ACSF1", "ucr_acsf1.parquet"),
    "watch": DataSet(
        "watch", "seglearn_watch_50hz.parquet", ("label",), each_person, "each of 10 people left out", mean=True
    ),
    "demo": DataSet("watch, shipped", "", ("label",), last_three, "people 8 to 10"),
    "physionet": DataSet(
        "PhysioNet 2012", "physionet2012_set_a.parquet", ("label",), five_folds, "5 folds of patients, no age",
        peers="hourly",
    ),
    "bidmc": DataSet(
        "BIDMC", "bidmc_signals_125hz.parquet", ("rr", "hr", "spo2"), new_patients, "5 splits of patients",
        classes=False,
    ),
    **{
        f"beijing{hours}": DataSet(
            f"Beijing PM2.5, {hours} h ahead", "beijing_prsa_hourly.parquet", ("label",), last_fifth,
            "last fifth of the time", "12 stations of one city share the weather, never the time",
            {"horizon": hours * HOUR}, classes=False, peers="",
        )
        for hours in (1, 6, 24)
    },
}  # fmt: skip


def file_of(name: str, folder: pathlib.Path | None) -> pathlib.Path | None:
    """Return where a set's data lie, or None if they are not there."""
    if not SETS[name].file:
        return pathlib.Path(FOLDER)
    path = folder / SETS[name].file if folder else None
    return path if path and path.exists() else None
