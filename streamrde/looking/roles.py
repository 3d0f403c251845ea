"""Find what the columns of a table hold: streams, time, channels, target, groups and parts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Ints
from streamrde.connectors.files.restarts import find_restarts
from streamrde.errors import DataError
from streamrde.fitting.discovery import FURTHER_STREAMS, GROUPS, SPLITS, STREAMS, find_roles, find_task
from streamrde.looking.cells import Cells, decimal_sign
from streamrde.looking.clocks import Reading, counts_rows, find_time, looks_like_time
from streamrde.looking.guesses import Channel, Findings, Guess, Other, percent
from streamrde.looking.long_form import Long, find_long, widened
from streamrde.looking.rates import measure
from streamrde.looking.table import Table, split_by
from streamrde.nearest import did_you_mean, listed

# Names of columns that hold what is worth predicting, the most telling first.
TARGETS = (
    "label",
    "target",
    "class",
    "y",
    "activity",
    "outcome",
    "diagnosis",
    "category",
    "fault",
    "failure",
    "anomaly",
    "event",
    "state",
    "condition",
    "gesture",
    "exercise",
    "stage",
    "rul",
)
_MOST_CLASSES = 30
_MANY = 50  # rows from which on a spelling of no value comes more than once
_LONG = 20.0  # usual steps of time that a pause between two streams has
_MOSTLY = 0.99
_UNIT = re.compile(r"^(?P<name>.*?)\s*[\[(](?P<unit>[^\])]{1,12})[\])]\s*$")
_WORD_PAIRS = (
    {"open", "closed"},
    {"open", "close"},
    {"high", "low"},
    {"active", "inactive"},
    {"occupied", "clear"},
    {"detected", "clear"},
    {"running", "stopped"},
    {"home", "away"},
    {"home", "not_home"},
    {"locked", "unlocked"},
)
_ONES = frozenset(("open", "high", "active", "occupied", "detected", "running", "home", "locked"))


class Found(NamedTuple):
    """Hold the channels of a table."""

    channels: list[Channel]
    unused: list[tuple[str, str]]
    """Columns that are no channels, and why."""
    keys: dict[str, Guess]
    """The keys words and missing."""
    remarks: list[str]
    """Doubts that no key can settle."""


@dataclass
class Given:
    """Hold the columns that the caller named, so that they need not be found."""

    target: tuple[str, ...] = ()
    stream: str | None = None
    time: str | None = None
    units: dict[str, str] = field(default_factory=dict)
    """Units by column, as a line of the file has them."""


def find(table: Table, source: str, seen: str, given: Given) -> Findings:
    """Find all roles in the rows of files.

    Raises:
        DataError: a column that was named is not there, or nothing is left for channels.
    """
    for name in (*given.target, given.stream, given.time):
        if name and name not in table.columns:
            raise DataError(
                f"{table.where}: has no column '{name}'{did_you_mean(name, table.names)}; it has {listed(table.names)}",
                path=table.where, column=name,
            )  # fmt: skip
    long = find_long(table)
    if long is not None and {long.name, long.value} & set(given.target):
        long = None
    stream = _stream(table, given, long)
    taken = [name for name in (*given.target, *columns_of(stream.value)) if name]
    if long is not None:
        taken += [long.name, long.value]
    time = find_time(table, table.streams(stream.value), given=given.time, taken=taken)
    if stream.value == "" and given.stream is None and time is not None and long is None:
        stream = _stream_by_time(table, time, stream, taken)
    keys = {"stream": stream}
    keys |= time.keys if time else {"time": _no_time(len(table))}
    codes = table.streams(stream.value)
    target = _target(table, given, stream, time, codes, long)
    targets = columns_of(target.value) if target else []
    task = find_task(table, targets) if targets else "classification"
    if long is not None:
        keys |= {"name": long.guess, "value": Guess(long.value, f"column '{long.value}' has the numbers")}
        wide, seconds, parts = widened(table, long, stream.value, time.seconds if time else None)
    else:
        wide, seconds, parts = table, time.seconds if time else _row_numbers(codes), codes
    own_channels = find_channels(wide, given, keys, targets, parts, long)
    keys |= own_channels.keys
    seconds_by = split_by(parts, seconds)
    own = stream.value if isinstance(stream.value, str) and stream.value in table.columns else ""
    number = next((name for name in table.names if table.cells(name).is_number), "")
    roles = find_roles(table, targets, stream=own, time="", channels=[number or table.names[0]])
    return Findings(
        source=source,
        seen=seen,
        columns=keys,
        channels=tuple(own_channels.channels),
        rate=measure(seconds_by),
        unused=tuple(own_channels.unused),
        remarks=tuple(own_channels.remarks),
        target=target,
        target_at=_target_at(table, targets, codes, task),
        task=task,
        group=Guess(roles.group, f"streams with the same '{roles.group}' are kept together") if roles.group else None,
        split=_split(table, roles.split),
        restarts=_restarts(seconds_by, time),
        faults=_faults(seconds_by, time),
    )


def _no_time(rows: int) -> Guess:
    unsure = "no column was recognised as the time" if rows > 1 else ""
    return Guess("", "no column holds times: rows are a second apart", unsure)


def columns_of(stream: str | Sequence[str] | None) -> list[str]:
    """Return the columns that a key names: none, one or several."""
    return [stream] if isinstance(stream, str) and stream else list(stream or ())


def _stream(table: Table, given: Given, long: Long | None) -> Guess:
    if given.stream is not None:
        return Guess(given.stream, "as it was given")
    none = Guess("", f"no column names streams: {table.whole}")
    by_name = {name.lower().strip(): name for name in reversed(table.names)}
    rows = len(table)
    for usual in (*STREAMS, *FURTHER_STREAMS):
        name = by_name.get(usual)
        if name is None or name in given.target or (long is not None and name in (long.name, long.value)):
            continue
        cells = table.cells(name)
        count = cells.distinct
        if rows > 3 and (count > rows / 3 or (cells.is_number and not cells.whole)):
            continue  # it numbers the rows, or measures something
        if cells.found + sum(cells.texts.values()) < 0.5 * rows:
            continue
        shown = listed([str(value) for value in dict.fromkeys(cells.values) if value is not None], most=3)
        return Guess(name, f"column '{name}' has {count:,} value{'s' if count != 1 else ''} ({shown})")
    return none


def _stream_by_time(table: Table, time: Reading, none: Guess, taken: Sequence[str]) -> Guess:
    """Find a column that changes wherever the time jumps back, or is silent for long."""
    steps = np.diff(time.seconds)
    same = np.diff(table.parts) == 0
    forward = steps[same & (steps > 0)]
    if not len(forward):
        return none
    jumps = np.flatnonzero(((steps < 0) | (steps > _LONG * np.median(forward))) & same)
    if not len(jumps):
        return none
    fewest, best = len(table), none
    for name in table.names:
        if (
            name in taken
            or name in columns_of(time.time)
            or (table.cells(name).is_number and not table.cells(name).whole)
        ):
            continue
        values = [repr(value) for value in table.columns[name]]
        changes = np.flatnonzero([a != b for a, b in itertools.pairwise(values)])
        distinct = len(set(values))
        if not 2 <= distinct <= len(values) / 3 or distinct < len(changes) / 50 or len(changes) >= fewest:
            continue
        if np.isin(jumps, changes).mean() >= _MOSTLY:
            fewest = len(changes)
            why = f"the time jumps {len(jumps):,} times, each where column '{name}' changes"
            best = Guess(name, why, f"column '{name}' is taken for the stream only because of that")
    return best


def _row_numbers(codes: Ints) -> Floats:
    numbers = np.zeros(len(codes))
    counts: dict[int, int] = {}
    for i, code in enumerate(codes.tolist()):
        numbers[i] = counts[code] = counts.get(code, -1) + 1
    return numbers


def _target(
    table: Table, given: Given, stream: Guess, time: Reading | None, codes: Ints, long: Long | None
) -> Guess | None:
    if given.target:
        return Guess(given.target[0] if len(given.target) == 1 else given.target, "as it was given")
    used = {*columns_of(stream.value), *(columns_of(time.time) if time else ())}
    used |= set() if long is None else {long.name, long.value}
    by_name = {name.lower().strip(): name for name in reversed(table.names) if name not in used}
    for usual in TARGETS:
        if usual in by_name and not (usual == "y" and "x" in by_name):  # of a vector
            name = by_name[usual]
            if table.cells(name).distinct >= 2:
                return Guess(
                    name,
                    f"column '{name}' has a usual name of targets",
                    "no target was given, so it may be another column",
                )
    streams = len(set(codes.tolist()))
    for name in table.names:
        if name in used or name.lower() in (*GROUPS, *SPLITS):
            continue
        cells = table.cells(name)
        if (
            2 <= cells.distinct <= min(_MOST_CLASSES, streams - 1)
            and _per_stream(cells.values, codes)
            and not cells.is_number
        ):
            return Guess(
                name,
                f"column '{name}' has {cells.distinct} values, one for each stream",
                "no target was given, so it may be another column",
            )
    return None


def _per_stream(values: Sequence[object], codes: Ints) -> bool:
    """Return True if each stream has one value at most."""
    pairs = {(code, repr(value)) for code, value in zip(codes.tolist(), values, strict=True) if value is not None}
    return len(pairs) == len({code for code, _ in pairs})


def _target_at(table: Table, targets: Sequence[str], codes: Ints, task: str) -> str:
    if not targets:
        return "auto"
    constant = all(_per_stream(table.columns[name], codes) for name in targets)
    usual = "stream" if task == "classification" else "window"
    return "auto" if constant == (usual == "stream") else "stream" if constant else "window"


def find_channels(
    table: Table,
    given: Given,
    keys: Mapping[str, Guess],
    targets: Sequence[str],
    codes: Ints,
    long: Long | None,
    *,
    live: bool = False,
) -> Found:
    """Find the channels, and why other columns are none.

    Args:
        live: few rows were seen, so that what does not change may be a channel all the same.
    Raises:
        DataError: there is no channel.
    """
    roles = {*targets, *columns_of(keys["stream"].value), *columns_of(keys["time"].value)}
    channels: list[Channel] = []
    unused: list[tuple[str, str]] = []
    spelled: dict[str, list[str | float]] = {}
    words: dict[str, float] = {}
    doubts: list[str] = []
    remarks: list[str] = []
    names = long.names if long is not None else table.names
    for name in names:
        if name in roles:
            continue
        cells = table.cells(name)
        if long is None and name.lower() in (*GROUPS, *SPLITS):
            unused.append((name, "it names a group or a part"))
        elif not cells.there and live and long is not None:
            channels.append(_channel(name, table, given, "no value was seen"))
        elif not cells.there:
            unused.append((name, "it is empty"))
        elif not cells.is_number:
            odd = [text for text, _ in cells.texts.most_common(6)]
            if (numbers := _words_of(cells)) is not None:
                words |= numbers
                channels.append(
                    _channel(name, table, given, " and ".join(f"{own} is {one:g}" for own, one in numbers.items()))
                )
                continue
            nothing = _spellings(cells)
            if cells.found >= cells.there / 2 and len(cells.texts) <= 3 and len(nothing) == len(cells.texts):
                spelled[name] = list(nothing)
                doubts.append(f"{listed(nothing)} in '{name}' is taken for no value")
                channels.append(_channel(name, table, given, f"{listed(nothing)} is taken for no value"))
                continue
            unused.append((name, _why_no_number(odd, cells.other_sign)))
        elif long is None and counts_rows(cells, codes):
            unused.append((name, "it numbers the rows"))
        elif long is None and looks_like_time(table, name, codes):
            unused.append((name, "it holds times too"))
        elif cells.constant and (live or len(table) > 2) and _only_whole_ids(name, cells.whole):
            unused.append((name, f"it is {cells.numbers[np.isfinite(cells.numbers)][0]:g} in all rows"))
        elif (
            long is None
            and not live
            and cells.whole
            and not cells.words
            and len(set(codes.tolist())) > 1
            and _per_stream(cells.values, codes)
        ):
            unused.append((name, "it does not change along a stream"))
        else:
            nothing = _spellings(cells)
            if nothing:
                spelled[name] = list(nothing)
                doubts.append(f"{listed(nothing)} in '{name}' is taken for no value")
            if odd := [text for text in cells.texts if text not in nothing]:
                remarks.append(_not_numbers(cells, odd))
            if sentinels := cells.sentinels():
                spelled.setdefault(name, []).extend(sentinels)
                doubts.append(f"{listed([f'{number:g}' for number in sentinels])} in '{name}' is taken for no value")
            channels.append(_channel(name, table, given))
    if not channels:
        raise DataError(
            f"{table.where}: no column of numbers is left for channels; it has {listed(table.names)}", path=table.where
        )
    more: dict[str, Guess] = {}
    if words:
        named = ", ".join(f"'{own}'" for own in words)
        more["words"] = Guess(words, f"{named} become numbers", f"which of {named} is 1 is a choice")
    if spelled:
        every = list(dict.fromkeys(word for own in spelled.values() for word in own))
        why = "; ".join(doubts)
        more["missing"] = Guess(every if long is not None else spelled, why, why)
    return Found(channels, unused, more, remarks)


def _spellings(cells: Cells) -> list[str]:
    """Return words that probably say that there is no value: those without digits that come again.

    A text with digits is a number that is written otherwise, which must not be lost.
    """
    often = 2 if len(cells.values) >= _MANY else 1
    return [text for text, count in cells.texts.items() if count >= often and not re.search(r"\d", text)][:6]


def _not_numbers(cells: Cells, odd: Sequence[str]) -> str:
    """Say what to do about texts among numbers."""
    count = sum(cells.texts[text] for text in odd)
    signs = {decimal_sign(text) for text in odd}
    what = f"have a decimal {signs.pop()}" if len(signs) == 1 and "" not in signs else "are no numbers"
    return (
        f"{count:,} of {cells.there:,} values in '{cells.name}' {what}, such as {odd[0][:40]!r}; correct them, or set "
        'faults = "drop" to count and leave out their rows'
    )


def _words_of(cells: Cells) -> dict[str, float] | None:
    """Return the numbers of words such as open and closed, or None if there is anything else."""
    found = {text.lower() for text in cells.texts}
    pairs = [pair for pair in _WORD_PAIRS if found <= pair]
    if not found or not pairs or cells.words < cells.found or (len(found) == 1 and not cells.words):
        return None
    return {word: float(word in _ONES) for word in sorted(pairs[0], key=lambda word: word not in _ONES)}


def _only_whole_ids(name: str, whole: bool) -> bool:
    return whole and bool(re.search(r"(?i)(id|version|channel|port|type|serial|unit|qos|flag)s?$", name))


def _why_no_number(texts: Sequence[str], sign: str) -> str:
    if sign:
        return f"its numbers have a decimal {sign} ({listed(texts, most=2)})"
    return f"it has text ({listed([text[:20] for text in texts], most=3)})"


def _channel(name: str, table: Table, given: Given, note: str = "") -> Channel:
    cells = table.cells(name)
    numbers = cells.numbers[np.isfinite(cells.numbers) & ~np.isin(cells.numbers, cells.sentinels())]
    low, high = (float(numbers.min()), float(numbers.max())) if len(numbers) else (np.nan, np.nan)
    if cells.words and not note:
        note = "on and off, as 1 and 0"
    elif cells.constant and not note:
        note = "constant"
    if cells.spelled and not note:
        note = f"{listed([repr(text) for text in cells.spelled], most=3)} is no value"
    found = _UNIT.match(name)
    unit = given.units.get(name, "") or (found["unit"] if found else "")
    return Channel(name, low, high, 1 - len(numbers) / max(1, len(table)), unit, note)


def _split(table: Table, name: str) -> Guess | None:
    if not name:
        return None
    values = [str(value) for value in dict.fromkeys(table.columns[name]) if value is not None]
    return Guess(name, f"column '{name}' has {listed(values, most=5)}", others=(Other("values", values, ""),))


def _restarts(seconds: Sequence[Floats], time: Reading | None) -> Guess | None:
    if time is None:
        return None
    count = sum(len(find_restarts(t[np.isfinite(t)])) for t in seconds)
    if not count:
        return _disorder(seconds)
    return Guess(
        "split",
        f"the time jumps back {count:,} times and goes on: each part becomes a stream of its own",
        others=(Other("restarts", "sort", "the rows are one recording in another order"),),
    )


def _disorder(seconds: Sequence[Floats]) -> Guess | None:
    """Return the treatment of rows that are not in order of time, or None if they are."""
    steps = [np.diff(t[np.isfinite(t)]) for t in seconds]
    back = sum(int((step < 0).sum()) for step in steps)
    if not back:
        return None
    rows = f"{back:,} rows are" if back > 1 else "a row is"
    return Guess("sort", f"{rows} earlier than the one above: all are put in order of time")


def _faults(seconds: Sequence[Floats], time: Reading | None) -> Guess | None:
    if time is None:
        return None
    rows = sum(map(len, seconds))
    lacking = sum(int((~np.isfinite(t)).sum()) for t in seconds)
    repeated = sum(int((np.diff(np.sort(t[np.isfinite(t)])) == 0).sum()) for t in seconds)
    said = []
    if lacking:
        said.append(f"{percent(lacking / rows)} of the rows have no time that can be read")
    if repeated:
        said.append(f"{percent(repeated / rows)} of the rows have the time of another one of their stream")
    return Guess("drop", f"{' and '.join(said)}: they are counted and left out") if said else None
