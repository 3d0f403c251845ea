"""WFDB, the format of PhysioNet: a header names the files with the signals. Needs the package wfdb."""

from __future__ import annotations

import datetime
import math
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.sampled import Mark, Sampled, SampledFormat, Signal
from streamrde.errors import DataError, MissingExtraError

# A header has a line for each signal or segment.
_HEAD_BYTES = 1 << 20
# Of a record of several segments: nothing was recorded.
_NOTHING = "~"
# The usual file of reference annotations.
_ANNOTATOR = "atr"
_RHYTHM, _NOTE = "+", '"'


class Wfdb(SampledFormat):
    """Read records by their headers, with the annotations of the file NAME.atr beside it."""

    reads = (".hea",)

    def parts(self, path: AnyPath) -> tuple[str, ...]:
        """Return the headers of a record's segments. Its first line then is NAME/SEGMENTS ..."""
        with path.open("rb") as file:
            lines = [line.split() for line in file.read(_HEAD_BYTES).decode("latin-1").splitlines()]
        lines = [line for line in lines if line and not line[0].startswith("#")]
        if not lines or "/" not in lines[0][0]:
            return ()
        return tuple(f"{line[0]}.hea" for line in lines[1:] if line[0] != _NOTHING)

    @contextmanager
    def recording(self, path: AnyPath, *, data: bool) -> Iterator[Sampled]:
        """See SampledFormat. What is not on this machine is fetched to the folder for temporary files."""
        if isinstance(path, Path):
            yield _Recording(path, str(path), data=data)
            return
        with tempfile.TemporaryDirectory(prefix="streamrde-") as folder:
            for name in _needed(path, Path(folder), data):
                _fetch(path, name, Path(folder))
            yield _Recording(Path(folder) / path.name, str(path), data=data)


FORMATS = (Wfdb(),)


class _Segment(NamedTuple):
    name: str
    start: int
    """First frame in the whole record."""
    stop: int


class _Recording:
    """Read frames, which are the blocks, by wfdb. Frames of a segment that was not recorded are NaN."""

    def __init__(self, path: Path, shown: str, *, data: bool) -> None:
        self._path = path
        self._shown = shown
        head = self._header(path.stem)
        self._segments = _segments(head, path.stem)
        described = head
        if hasattr(head, "seg_name"):
            described = self._header(next((name for name in head.seg_name if name != _NOTHING), path.stem))
        if not head.sig_len or not head.fs or not described.n_sig:
            raise self._error("tells of no samples; leave it out, or write its length into the header")
        self._rate = float(head.fs)
        self.duration = 1 / self._rate
        self.blocks = int(head.sig_len)
        each = zip(described.sig_name, described.units, described.samps_per_frame, strict=True)
        self.signals: Sequence[Signal] = [Signal(str(name), str(unit or ""), int(n)) for name, unit, n in each]
        self.start: datetime.datetime | None = None
        if head.base_date is not None and head.base_time is not None:
            self.start = datetime.datetime.combine(head.base_date, head.base_time)
        noted = path.with_suffix(f".{_ANNOTATOR}").exists()
        self.marks_in: Sequence[str] = ("annotation", "rhythm") if noted else ()
        if data:
            self._check_files()

    def onsets(self, first: int, count: int) -> Floats:
        """See Sampled."""
        onsets: Floats = np.arange(first, first + count, dtype=np.float64) / self._rate
        return onsets

    def samples(self, first: int, count: int, signals: Sequence[int]) -> list[Floats]:
        """See Sampled."""
        own = [np.full((count, self.signals[place].samples), np.nan) for place in signals]
        for segment in self._segments:
            a, b = max(segment.start, first), min(segment.stop, first + count)
            if a >= b or segment.name == _NOTHING or not signals:
                continue
            # A segment may have the signals in another order, and not all of them.
            names = self._header(segment.name).sig_name if len(self._segments) > 1 else None
            for column, place in zip(own, signals, strict=True):
                name = self.signals[place].name
                if names is not None and name not in names:
                    continue
                channel = place if names is None else names.index(name)
                values = self._read(segment, a, b, channel)
                column[a - first : b - first] = values.reshape(b - a, -1)
        return [column.ravel() for column in own]

    def _read(self, segment: _Segment, a: int, b: int, channel: int) -> Floats:
        try:
            record = _wfdb().rdrecord(
                str(self._path.with_name(segment.name)),
                sampfrom=a - segment.start,
                sampto=b - segment.start,
                channels=[channel],
                smooth_frames=False,
            )
            return np.asarray(record.e_p_signal[0], np.float64).reshape(-1)
        except (ValueError, IndexError, TypeError) as error:
            raise self._error(f"frames {a} to {b} cannot be read ({error}); copy its files again") from None

    def marks(self, column: str) -> list[Mark]:
        """See Sampled. A rhythm lasts until the next."""
        try:
            found = _wfdb().rdann(str(self._path.with_suffix("")), _ANNOTATOR)
        except (ValueError, IndexError, KeyError) as error:
            raise self._error(f"its annotations cannot be read ({error}); copy the file again") from None
        times = np.asarray(found.sample) / float(found.fs or self._rate)
        notes = [note.strip("\x00 ") for note in found.aux_note]
        each = list(zip(times.tolist(), found.symbol, notes, strict=True))
        if column == "annotation":
            return [Mark(t, None, note if symbol == _NOTE else symbol) for t, symbol, note in each if symbol != _RHYTHM]
        rhythms = [(t, note.removeprefix("(")) for t, symbol, note in each if symbol == _RHYTHM]
        ends = [t for t, _ in rhythms[1:]] + [math.inf]
        return [Mark(t, end - t, note) for (t, note), end in zip(rhythms, ends, strict=True) if note]

    def _header(self, name: str) -> Any:
        return _header(self._path.with_name(name), self._shown)

    def _check_files(self) -> None:
        for segment in self._segments:
            if segment.name == _NOTHING or segment.start == segment.stop:
                continue
            for file in self._header(segment.name).file_name or ():
                if not self._path.with_name(file).exists():
                    raise self._error(f"has no {file} beside it, which has its signals; copy it there")

    def _error(self, reason: str) -> DataError:
        return DataError(f"{self._shown}: {reason}", path=self._shown)


def _segments(head: Any, name: str) -> list[_Segment]:
    if not hasattr(head, "seg_name"):
        return [_Segment(name, 0, int(head.sig_len or 0))]
    stops = np.cumsum([int(length) for length in head.seg_len]).tolist()
    starts = [0, *stops]
    return [_Segment(*own) for own in zip(head.seg_name, starts, stops, strict=False)]


def _header(path: Path, shown: str) -> Any:
    try:
        return _wfdb().rdheader(str(path))
    except FileNotFoundError:
        raise DataError(f"{shown}: has no {path.name}.hea beside it; copy it there", path=shown) from None
    except (ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        raise DataError(f"{shown}: is not a WFDB header ({error}); copy it again or leave it out", path=shown) from None


def _needed(path: AnyPath, folder: Path, data: bool) -> list[str]:
    """Fetch the headers of a record, and return the names of its other files."""
    _fetch(path, path.name, folder)
    stem = path.name.removesuffix(".hea")
    head = _header(folder / stem, str(path))
    parts = [name for name in dict.fromkeys(getattr(head, "seg_name", [])) if name != _NOTHING]
    for name in parts:
        _fetch(path, f"{name}.hea", folder)
    annotations = f"{stem}.{_ANNOTATOR}"
    needed = [annotations] if path.with_name(annotations).exists() else []
    if data:
        heads = [_header(folder / name, str(path)) for name in parts] or [head]
        needed += [file for one in heads for file in one.file_name or () if file != _NOTHING]
    return list(dict.fromkeys(needed))


def _fetch(path: AnyPath, name: str, folder: Path) -> None:
    with path.with_name(name).open("rb") as source, (folder / Path(name).name).open("wb") as file:
        while block := source.read(1 << 20):
            file.write(block)


def _wfdb() -> Any:
    try:
        with warnings.catch_warnings():  # its own use of pandas
            warnings.simplefilter("ignore")
            import wfdb
    except ImportError:
        raise MissingExtraError("a WFDB recording", "medical") from None
    return wfdb
