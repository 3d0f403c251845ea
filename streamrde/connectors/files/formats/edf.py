"""EDF, EDF+, BDF and BDF+: recordings of polysomnographs, electroencephalographs and kin. Needs edfio."""

from __future__ import annotations

import datetime
import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from streamrde.arrays import Floats
from streamrde.connectors.files.places import AnyPath
from streamrde.connectors.files.sampled import Mark, Sampled, SampledFormat, Signal
from streamrde.errors import DataError, MissingExtraError

# https://www.edfplus.info/specs/edf.html: a header of 256 bytes, as many for each signal, then records of two bytes a
# sample (three in BDF), signal by signal.
_PART = 256
_BDF = b"\xffBIOSEMI"
_RECORDS = slice(236, 244)
_MARKS = ("EDF Annotations", "BDF Annotations")
# A time-stamped list: an onset, perhaps a duration, and texts.
_LIST = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")


class Edf(SampledFormat):
    """Read EDF and BDF, and the annotations and gaps of their + kinds."""

    reads = (".edf", ".bdf")

    @contextmanager
    def recording(self, path: AnyPath, *, data: bool) -> Iterator[Sampled]:
        """See SampledFormat."""
        with path.open("rb") as file:
            yield _Recording(path, file)


FORMATS = (Edf(),)


class _Recording:
    """Read records by edfio, a few at a time: each batch of records is a short file with the same header."""

    def __init__(self, path: AnyPath, file: IO[bytes]) -> None:
        self.path = path
        self._file = file
        head = file.read(_PART)
        try:
            self._head = head + file.read(int(head[252:256]) * _PART)
            signals = int(head[252:256])
            sizes = [int(self._head[at : at + 8]) for at in _fields(signals, 216, 8)]
            stated, self.duration = int(head[_RECORDS]), float(head[244:252])
            labels = [self._head[at : at + 16].decode("latin-1").strip() for at in _fields(signals, 0, 16)]
        except ValueError:
            raise self._error("is not an EDF or BDF file, or its header is damaged; copy it again") from None
        self._bytes = 3 if head.startswith(_BDF) else 2
        self._record = sum(sizes) * self._bytes
        self._marks = [i for i, label in enumerate(labels) if label in _MARKS]
        self._sizes = sizes
        there = (path.stat().st_size - len(self._head)) // max(1, self._record)
        if there < stated:
            raise self._error(f"is cut: its header tells of {stated} records, and it has {there}; copy it again")
        # -1: it was not known when the header was written.
        self.blocks = there if stated < 0 else stated
        self._gaps = b"+D" in head[192:236]
        self.marks_in: Sequence[str] = ("annotation",) if self._marks else ()
        self.start, self.signals = self._described()
        if not self.signals:
            raise self._error(
                "has annotations and no signals; leave it out, or write its annotations as a table with stream, start, "
                "end and label for data.segments"
            )
        if not self.duration > 0:
            raise self._error(f"has records of {self.duration:g} s; leave it out")

    def _described(self) -> tuple[datetime.datetime | None, Sequence[Signal]]:
        """Return the start, and the signals without annotations."""
        edf = self._edf(1, self._at(0, self._record).ljust(self._record, b"\0"))
        signals = [
            Signal(one.label.strip(), one.physical_dimension.strip(), one.samples_per_data_record)
            for one in edf.signals
        ]
        try:
            return edf.startdatetime.replace(microsecond=0), signals
        except (ValueError, IndexError):  # made anonymous, or never set
            return None, signals

    def onsets(self, first: int, count: int) -> Floats:
        """See Sampled. Records of an EDF+D file say when they begin."""
        if self._gaps and self._marks:
            return np.array([float(self._lists(record)[0][0]) for record in range(first, first + count)])
        onsets: Floats = np.arange(first, first + count, dtype=np.float64) * self.duration + self._offset
        return onsets

    @functools.cached_property
    def _offset(self) -> float:
        """The time of the first record, of which a header tells whole seconds."""
        lists = self._lists(0) if self._marks and self.blocks else []
        return float(lists[0][0]) if lists else 0.0

    def samples(self, first: int, count: int, signals: Sequence[int]) -> list[Floats]:
        """See Sampled."""
        if not signals:
            return []
        edf = self._edf(count, self._at(first * self._record, count * self._record))
        return [np.asarray(edf.signals[place].data, np.float64) for place in signals]

    def marks(self, column: str) -> list[Mark]:
        """See Sampled."""
        found = []
        for record in range(self.blocks):
            for onset, duration, texts in self._lists(record):
                length = float(duration) if duration else None
                each = filter(None, texts.decode("utf-8", "replace").split("\x14"))
                found += [Mark(float(onset), length, text) for text in each]
        return sorted(found, key=lambda mark: mark.onset)

    def _lists(self, record: int) -> list[tuple[bytes, bytes, bytes]]:
        """Return the time-stamped lists of a record."""
        found: list[tuple[bytes, bytes, bytes]] = []
        for place in self._marks:
            start = record * self._record + sum(self._sizes[:place]) * self._bytes
            found += _LIST.findall(self._at(start, self._sizes[place] * self._bytes))
        if self._gaps and not found:
            raise self._error(f"does not say when record {record} begins; copy it again")
        return found

    def _at(self, start: int, size: int) -> bytes:
        self._file.seek(len(self._head) + start)
        return self._file.read(size)

    def _edf(self, records: int, data: bytes) -> Any:
        head = bytearray(self._head)
        head[_RECORDS] = f"{records:<8}".encode()
        edfio = _edfio()
        read = edfio.read_bdf if self._bytes == 3 else edfio.read_edf
        try:
            return read(bytes(head) + data, header_encoding="latin-1")
        except (ValueError, IndexError, KeyError, UnicodeError) as error:
            raise self._error(f"cannot be read ({error}); copy it again or leave it out") from None

    def _error(self, reason: str) -> DataError:
        return DataError(f"{self.path}: {reason}", path=str(self.path))


def _fields(signals: int, offset: int, width: int) -> range:
    """Return where a field of each signal begins in the header."""
    begin = _PART + signals * offset
    return range(begin, begin + signals * width, width)


def _edfio() -> Any:
    try:
        import edfio
    except ImportError:
        raise MissingExtraError("a recording in EDF or BDF", "medical") from None
    return edfio
