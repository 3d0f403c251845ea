"""Look at data before reading them: their size, and each stream's rows, target and group, without its samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.arrays import Bools, Floats, Indices, Ints
from streamrde.connectors.files.errors import mapped_errors
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.record_batches import rows_of
from streamrde.connectors.files.recordings import Recording
from streamrde.connectors.files.restarts import Restarts, part_name
from streamrde.connectors.samples import Samples
from streamrde.errors import DataError
from streamrde.fitting.inputs import DataConfig

FILE_ROWS = 1 << 40
"""Places of a file's rows begin at its number times this."""
_SCAN_ROWS = 1 << 15
_NEVER = np.iinfo(np.int64).max


@dataclass(eq=False)
class Survey:
    """Describe all streams of a data set. Arrays have an entry per stream, in the order in which streams appear."""

    names: dict[str, int]
    """Number of each stream."""
    rows: Ints
    first: Ints
    """Place before which none of its rows is."""
    last: Ints
    """Place before which all of its rows are."""
    target: Floats
    """Numbers, or the number of the class, (streams, targets). NaN where there is none."""
    classes: tuple[str, ...]
    group: Ints
    """Hash of its group. Streams of one group have the same, those of two groups different ones."""
    cuts: dict[str, list[int]]
    """Rows with which streams begin again."""
    varied: str = ""
    """Describes a stream whose target changes. "": there is none."""
    split: Indices | None = None
    """Number of what the column of parts says of it, among `splits`. None: there is no such column, or it changes
    within a stream."""
    splits: tuple[str, ...] = ()

    @property
    def usable(self) -> Bools:
        """Mark the streams that have two rows or more, and a target."""
        return np.asarray((self.rows > 1) & np.isfinite(self.target).any(axis=1))

    @property
    def codes(self) -> Indices:
        """Return the number of each stream's class. Streams without one have 0."""
        return np.nan_to_num(self.target[:, 0]).astype(np.intp)

    def most_open(self) -> int:
        """Return the largest number of streams that are open at once when rows are read in order."""
        own = self.usable
        edges, count = np.concatenate([self.last[own], self.first[own]]), int(own.sum())
        # Sorted stably: of equal places, those where streams end come first.
        change = np.repeat([-1, 1], count)[np.argsort(edges, kind="stable")]
        return int(np.cumsum(change).max(initial=0))


class Size(NamedTuple):
    """Size of data as their files tell it."""

    rows: int
    exact: bool
    """False if a file does not tell its rows. `rows` is then a guess from its bytes."""


def size_of(data: DataConfig) -> Size:
    """Return the number of rows of all files, before filters.

    Raises:
        DataError: a file cannot be opened.
    """
    rows, exact = 0, True
    for recording in find_files(data):
        try:
            found = rows_of(recording)
        except DataError:
            if data.on_error == "stop":
                raise
            continue
        if found is None:
            exact = False
            with mapped_errors(recording.path):
                # A row of text has two bytes a column at least.
                found = recording.size()[0] // (2 * (len(data.channels) + 2))
        rows += found
    return Size(rows, exact)


def find_files(data: DataConfig) -> list[Recording]:
    """Return the files of a data set, in order."""
    return data.find()


def read_places(
    data: DataConfig, reader: SampleReader, *, on_file: Callable[[int], None] = lambda number: None
) -> Iterator[tuple[int, Samples]]:
    """Yield the samples of all files, each batch with the place before which all of its rows are."""
    for number, recording in enumerate(find_files(data)):
        before = reader.dropped.copy(), reader.nameless.copy()
        try:
            for row, samples in reader.read(recording):
                yield number * FILE_ROWS + row, samples
        except DataError:
            if data.on_error == "stop":
                raise
            reader.dropped, reader.nameless = before
        on_file(number)


def survey(
    data: DataConfig, *, group: str = "", split: str = "", seed: int = 0, batch_rows: int = _SCAN_ROWS
) -> Survey:
    """Look at all rows of a data set once, without their channels. Memory: about 400 bytes a stream.

    Args:
        group: column of the group; "" makes each stream its own.
        split: column of the parts; "" = none.
        seed: changes the hashes of the groups.
        batch_rows: rows that are read at once.
    Raises:
        DataError: a file cannot be read, or a stream has two groups.
    """
    classify = data.task == "classification"
    columns = [_Column(name, "target", classify) for name in data.targets]
    columns += [_Column(name, kind, True) for name, kind in ((group, "group"), (split, "split")) if name]
    reader = SampleReader(
        data.columns(channels=None if data.name else 1),
        extra=tuple(dict.fromkeys(column.name for column in columns)),
        filters=data.filters,
        batch_rows=batch_rows,
        faults=data.faults,
        numbers=() if classify else data.targets,
    )
    found = _Streams(str(data.files), columns)
    for place, samples in read_places(data, reader):
        names = found.number(samples)
        extra = samples.extra
        assert extra is not None  # noqa: S101 (they were asked for)
        found.take(place, names, samples.t, [column.numbers(extra.column(column.name)) for column in columns])
    return found.survey(data, classify=classify, seed=seed)


class _Column:
    """Collect the one value that each stream has in a column."""

    def __init__(self, name: str, kind: str, is_text: bool) -> None:
        self.name, self.kind = name, kind
        self.texts: dict[str, int] | None = {} if is_text else None
        """Number of each text. None: values are numbers."""
        self.values: Floats = np.empty(0)
        """Value of each stream, NaN where there is none."""
        self.varied = ""
        """Describes a stream that has several. "": there is none."""

    def numbers(self, column: pa.Array) -> Floats:
        """Return the values of rows as numbers, NaN = null."""
        known = self.texts
        if known is None:
            return np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False))
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        encoded = pc.cast(column, pa.string()).dictionary_encode()
        found = [known.setdefault(text, len(known)) for text in encoded.dictionary.to_pylist()]
        numbers: Floats = np.array([*found, np.nan])
        return np.asarray(numbers[encoded.indices.fill_null(len(found)).to_numpy()])

    def take(self, stream: Indices, values: Floats, lead: Indices, where: str, names: dict[str, int]) -> None:
        """Take the values of rows in order of streams. `lead` are the places of each stream's first.

        Raises:
            DataError: a stream has two groups.
        """
        known = np.where(np.isfinite(values), values, np.nan)
        who = stream[lead]
        low, high = (np.fmin.reduceat(known, lead), np.fmax.reduceat(known, lead))
        low, high = np.fmin(low, self.values[who]), np.fmax(high, self.values[who])
        if not self.varied and (several := np.flatnonzero(high > low)).size:
            i, name = int(several[0]), list(names)[int(who[several[0]])]
            texts = list(self.texts or ())
            shown = ", ".join(repr(texts[int(v)]) if texts else f"{v:g}" for v in (low[i], high[i]))
            self.varied = (
                f"{where}: stream '{name}' has {shown} in column '{self.name}'; it must be one value per stream"
            )
            if self.kind == "group":
                raise DataError(self.varied, path=where, column=self.name)
        self.values[who] = low

    def codes(self, where: str, names: dict[str, int]) -> Indices:
        """Return the number of each stream's text.

        Raises:
            DataError: a stream has none.
        """
        if (without := np.flatnonzero(~np.isfinite(self.values))).size:
            name = list(names)[int(without[0])]
            raise DataError(
                f"{where}: stream '{name}' has none in column '{self.name}'; it must be one value per stream",
                path=where,
                column=self.name,
            )
        return self.values.astype(np.intp)


class _Streams:
    """Collect what rows say of each stream."""

    def __init__(self, where: str, columns: Sequence[_Column]) -> None:
        self.where, self.columns = where, columns
        self.names: dict[str, int] = {}
        self.rows, self.first, self.last = (np.empty(0, np.int64) for _ in range(3))
        self.time = np.empty(0)
        self.disordered = np.empty(0, bool)
        self.place = 0

    def number(self, samples: Samples) -> Indices:
        """Return the number of each row's stream."""
        codes, names = samples.by_code()
        return number_names(self.names, codes, names, add=True)

    def take(self, place: int, stream: Indices, t: Floats, values: Sequence[Floats]) -> None:
        """Take rows: the number of each one's stream, its time, and what each of the columns says, NaN = none."""
        self._make_room()
        if not len(stream):
            return
        order = np.argsort(stream, kind="stable") if (np.diff(stream) < 0).any() else np.arange(len(stream))
        own, at = stream[order], t[order]
        lead = np.flatnonzero(np.diff(own, prepend=-1))
        stop = np.append(lead[1:], len(own))
        who = own[lead]
        self.first[who] = np.minimum(self.first[who], self.place)
        self.last[who] = place
        self.rows[who] += stop - lead
        with np.errstate(invalid="ignore"):
            back = np.append(False, at[1:] < at[:-1])
            back[lead] = at[lead] < self.time[who]
        self.disordered[own[back]] = True
        self.time[who] = at[stop - 1]
        for column, of_rows in zip(self.columns, values, strict=True):
            column.take(own, of_rows[order], lead, self.where, self.names)
        self.place = place

    def survey(self, data: DataConfig, *, classify: bool, seed: int) -> Survey:
        """Return what was seen, with classes in alphabetical order."""
        self._make_room()
        of = {kind: [c for c in self.columns if c.kind == kind] for kind in ("target", "group", "split")}
        target = np.stack([column.values for column in of["target"]], axis=1)
        classes: tuple[str, ...] = ()
        if classify:
            texts = list(of["target"][0].texts or ())
            ranks = np.argsort(np.argsort(texts)).astype(float) if texts else np.empty(0)
            target = np.append(ranks, np.nan)[np.where(np.isfinite(target), target, len(texts)).astype(int)]
            classes = tuple(sorted(texts))
        names = self.names
        if of["group"]:
            group = _hashes(of["group"][0].texts or {}, seed)[of["group"][0].codes(self.where, names)]
        else:
            group = _hashes(names, seed)
        split: Indices | None = None
        splits: tuple[str, ...] = ()
        for column in of["split"]:
            if not column.varied and np.isfinite(column.values).all():
                split, splits = column.codes(self.where, names), tuple(column.texts or {})
        varied = next((column.varied for column in of["target"] if column.varied), "")
        found = Survey(
            names, self.rows, self.first, self.last, target, classes, group, {}, varied, split=split, splits=splits
        )
        return self._split(found, data) if self.disordered.any() and data.restarts == "split" else found

    def _make_room(self) -> None:
        new = len(self.names) - len(self.rows)
        if not new:
            return
        self.rows, self.last = (np.append(old, np.zeros(new, np.int64)) for old in (self.rows, self.last))
        self.first = np.append(self.first, np.full(new, _NEVER))
        self.time = np.append(self.time, np.full(new, -np.inf))
        for column in self.columns:
            column.values = np.append(column.values, np.full(new, np.nan))
        self.disordered = np.append(self.disordered, np.zeros(new, bool))

    def _split(self, found: Survey, data: DataConfig) -> Survey:
        """Make each part of a stream that begins again a stream. Only those whose times jump back are read again."""
        names = list(self.names)
        wanted = [names[i] for i in np.flatnonzero(self.disordered).tolist()]
        reader = SampleReader(data.columns(), filters=data.filters, faults=data.faults)
        restarts = Restarts(partial=reader.is_partial)
        for recording in find_files(data):
            for _, samples in reader.read(recording, streams=wanted):
                restarts.push(samples, str(recording.path))
        # Files without a column of streams are each read whatever is wanted.
        cuts = {name: own for name, own in restarts.places().items() if name in set(wanted)}
        parts, rows = [], []
        for name, places in cuts.items():
            number = self.names[name]
            lengths = np.diff([0, *places, int(found.rows[number])]).tolist()
            found.rows[number] = lengths[0]
            for part, length in enumerate(lengths[1:], 1):
                if part_name(name, part) in self.names:
                    other = part_name(name, part)
                    raise DataError(
                        f"{self.where}: '{other}' is another stream's name already; rename that one", path=self.where
                    )
                self.names[part_name(name, part)] = len(self.names)
                parts.append(number)
                rows.append(length)
        own = np.array(parts, np.intp)
        return replace(
            found,
            rows=np.append(found.rows, rows).astype(np.int64),
            first=np.append(found.first, found.first[own]).astype(np.int64),
            last=np.append(found.last, found.last[own]).astype(np.int64),
            target=np.concatenate([found.target, found.target[own]]),
            group=np.append(found.group, found.group[own]).astype(np.int64),
            split=None if found.split is None else np.append(found.split, found.split[own]),
            cuts=cuts,
        )


def number_names(numbers: dict[str, int], codes: Indices, names: pa.Array, *, add: bool = False) -> Indices:
    """Return the number of each row's name, and with `add` number new names. Without it they have -1."""
    used = np.flatnonzero(np.bincount(codes, minlength=len(names)))
    texts = names.take(pa.array(used)).to_pylist()
    table = np.full(len(names), -1, np.intp)
    if add:
        table[used] = [numbers.setdefault(text, len(numbers)) for text in texts]
    else:
        table[used] = [numbers.get(text, -1) for text in texts]
    return table[codes]


def _hashes(names: Sequence[str] | dict[str, int], seed: int) -> Ints:
    """Return 63 bits of each name's hash."""
    salt = (seed % (1 << 63)).to_bytes(8, "little")
    found = b"".join(blake2b(name.encode(), digest_size=8, salt=salt).digest() for name in names)
    return (np.frombuffer(found, "<u8") >> 1).astype(np.int64)
