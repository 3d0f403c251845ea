"""The list of streams: how far each is, its latest prediction, and what calls for a look."""

from __future__ import annotations

import time
from collections.abc import Iterable
from enum import IntEnum
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamrde.inference.fleet import Fleet
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.recent import Recent, join_batches

MOST = 20_000
"""Streams on the list. Others are counted; they take the place of streams that end."""
_MOST_TROUBLES = 200
_RARE = 0.01
"""P-value below which a window calls for a look, as in `StateCounts.novel`."""
_AT_ONCE = 2000
"""Streams in a message to a viewer."""


class Care(IntEnum):
    """Order streams by how much they call for a look."""

    ENDED = 0
    FINE = 1
    LATE = 2
    NOVEL = 3
    FLAGGED = 4
    TROUBLE = 5
    ASIDE = 6


_ROW = np.dtype(
    [
        ("t", "f8"), ("window", "i8"), ("samples", "i8"), ("unused", "i8"), ("heard", "f8"), ("t_end", "f8"),
        ("value", "f8"), ("novelty", "f8"), ("label", "i4"), ("care", "i2"), ("version", "i8"), ("live", "?"),
        ("refused", "i8"), ("flag", "?"),
    ]
)  # fmt: skip
_SENT = ("t", "window", "samples", "unused", "heard", "value", "novelty")


class Roll:
    """Follow the streams of one or more fleets while somebody looks.

    Nothing is done between two looks: `refresh` reads the fleets' tables and the predictions that came since.

    Args:
        recent: where the predictions are.
    """

    def __init__(self, recent: Recent) -> None:
        self.version = 0
        self.beyond = 0
        """Streams that have no place on the list."""
        self.labels: list[str] = []
        self._recent = recent
        self._read = 0
        self._names: list[str] = []
        self._places: dict[str, int] = {}
        self._why: dict[int, str] = {}
        self._rows: NDArray[Any] = np.zeros(0, _ROW)

    def __len__(self) -> int:
        return len(self._names)

    def refresh(self, pipelines: Iterable[Pipeline]) -> None:
        """Bring the list up to date."""
        self.version += 1
        now = time.time()
        before = self._rows.copy()
        why_before = self._why
        pipelines = [*pipelines]
        self._rows["live"] = False
        self.beyond = 0
        for one in pipelines:
            self._look(one.fleet, now)
        self._predictions()
        self._care(pipelines)
        fields = [name for name in _ROW.names or () if name not in ("version", "refused")]
        old = before[fields]
        same = np.zeros(len(self._rows), dtype=bool)
        same[: len(old)] = [*self._equal(self._rows[: len(old)], before, fields)]
        for place in self._why.keys() | why_before.keys():
            if self._why.get(place) != why_before.get(place):
                same[place] = False
        self._rows["version"][~same] = self.version

    def changes(self, seen: int, after: int = -1) -> tuple[list[list[Any]], int]:
        """Return the streams that changed after version `seen`, at most so many, and where to go on.

        Args:
            after: place after which to look, where a call before had no room for the rest.
        Returns:
            a row per stream: its number, name, time, window, samples, unused rows, when it was last heard of (seconds
            since 1970), value, novelty, label, care and reason; and the last place, or -1 if there are no more.
        """
        places = np.flatnonzero(self._rows["version"] > seen)
        places = places[places > after]
        more, places = len(places) > _AT_ONCE, places[:_AT_ONCE]
        rows = self._rows[places]
        labels = [self.labels[i] if i >= 0 else None for i in rows["label"].tolist()]
        columns = [rows[name].tolist() for name in _SENT]
        names = [self._names[place] for place in places.tolist()]
        why = [self._why.get(place, "") for place in places.tolist()]
        found = zip(places.tolist(), names, *columns, labels, rows["care"].tolist(), why, strict=True)
        return [[*row] for row in found], int(places[-1]) if more else -1

    @staticmethod
    def _equal(now: NDArray[Any], before: NDArray[Any], fields: list[str]) -> NDArray[np.bool_]:
        same = np.ones(len(now), dtype=bool)
        for name in fields:
            a, b = now[name], before[name]
            same &= (a == b) | ((a != a) & (b != b))
        return same

    def _look(self, fleet: Fleet, now: float) -> None:
        table = fleet.overview(MOST)
        self.beyond += len(fleet) - table.num_rows
        names = table["stream"].to_pylist()
        places = self._find(names)
        kept = places >= 0
        self.beyond += int((~kept).sum())
        places = places[kept]
        column = {name: table[name].to_numpy()[kept] for name in table.schema.names if name != "stream"}
        rows = self._rows
        moved = rows["samples"][places] != column["samples"]
        rows["heard"][places[moved]] = now
        for name in ("t", "window", "samples", "refused"):
            rows[name][places] = column[name]
        rows["unused"][places] = np.maximum(column["late"], 0) + column["duplicate"] + column["rejected"]
        rows["live"][places] = True

    def _find(self, names: list[str]) -> NDArray[np.intp]:
        """Return the place of each stream. New ones get one, as long as there are any."""
        new = [name for name in names if name not in self._places]
        if new:
            ended: list[int] = []
            if len(self._names) + len(new) > MOST:
                live = set(names)
                ended = [place for place, name in enumerate(self._names) if name not in live]
            room = MOST - len(self._names)
            grown = np.zeros(min(len(new), room), _ROW)
            first = len(self._rows)
            self._rows = np.concatenate([self._rows, grown])
            places = [*range(first, first + len(grown)), *ended]
            for name, place in zip(new, places, strict=False):
                if place < len(self._names):
                    del self._places[self._names[place]]
                    self._names[place] = name
                else:
                    self._names.append(name)
                self._places[name] = place
                self._rows[place] = np.zeros((), _ROW)
                for field in ("t_end", "value", "novelty"):
                    self._rows[field][place] = np.nan
                self._rows["label"][place] = -1
        return np.array([self._places.get(name, -1) for name in names], dtype=np.intp)

    def _predictions(self) -> None:
        """Take in the predictions that came since the last call."""
        ring, begin = self._recent.predictions, self._read
        self._read = ring.end
        for _, batches in groupby(ring.since(begin), key=lambda batch: batch.schema):
            batch = join_batches([*batches])
            names = batch["stream"].to_pylist()
            places = {name: row for row, name in enumerate(names) if name in self._places}
            if not places:
                continue
            taken = np.array([*places.values()])
            to = np.array([self._places[name] for name in places], dtype=np.intp)
            part = batch.take(pa.array(taken))
            rows, outputs = self._rows, part["value"].type.list_size
            values = part["value"].flatten().to_numpy(zero_copy_only=False).reshape(-1, outputs)
            labels = next((name for name in part.schema.names if name.startswith("label")), None)
            rows["value"][to] = _confidence(values) if labels else values[:, 0]
            rows["t_end"][to] = part["t_end"].to_numpy()
            if labels:
                rows["label"][to] = [self._label(label) for label in part[labels].to_pylist()]
            if "novelty" in part.schema.names:
                rows["novelty"][to] = pc.fill_null(part["novelty"], np.nan).to_numpy()
            rows["flag"][to] = pc.is_valid(part["flag"]).to_numpy(zero_copy_only=False)

    def _label(self, label: str | None) -> int:
        if label is None:
            return -1
        if label not in self.labels:
            self.labels.append(label)
        return self.labels.index(label)

    def _care(self, pipelines: Iterable[Pipeline]) -> None:
        rows, why = self._rows, {}
        care = np.full(len(rows), Care.FINE, np.int16)
        care[rows["refused"] > 0] = Care.LATE
        care[rows["novelty"] < _RARE] = Care.NOVEL
        care[rows["flag"]] = Care.FLAGGED
        for one in pipelines:
            for trouble in reversed(one.fleet.troubles(_MOST_TROUBLES)):
                if not trouble.over and (place := self._places.get(trouble.stream)) is not None:
                    care[place], why[place] = Care.TROUBLE, trouble.reason
            if (quarantine := one.source.quarantine) is not None:
                for name in quarantine.names:
                    if isinstance(name, str) and (place := self._places.get(name)) is not None:
                        care[place] = Care.ASIDE
        care[~rows["live"]] = Care.ENDED
        rows["care"], self._why = care, why


def _confidence(values: NDArray[Any]) -> NDArray[Any]:
    """Return the probability of the most probable class, (n, outputs) -> (n,)."""
    if values.shape[1] == 1:
        return np.asarray(np.maximum(values[:, 0], 1 - values[:, 0]))
    return np.asarray(values.max(axis=1))
