"""Streams that go wrong: noticed once per stream and kind, with the reason and what helps."""

from __future__ import annotations

import itertools
import warnings
from collections import Counter, OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeAlias, TypeVar, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats, Indices, Ints, Structured
from streamrde.errors import ParameterError, SampleError
from streamrde.inference.clocks import Clocks
from streamrde.inference.header import Header
from streamrde.inference.names import StreamNames
from streamrde.inference.plausibility import SENTINELS, Plausible
from streamrde.inference.table import StreamTable
from streamrde.kernels import observe
from streamrde.kernels.reference import Event
from streamrde.windowing.ordering import Fault
from streamrde.windowing.rows import Column

G = TypeVar("G", bound=np.generic)

Kind: TypeAlias = Literal[
    "late", "restart", "stuck", "rejected", "unseen", "gone", "far", "implausible", "cut", "not_finite", "unit"
]
"""late: all samples come late, behind one stamp that was ahead or a time that passed. restart: the stream's times
went back. stuck: all samples have one time. rejected: no sample can be used. unseen: a channel never came although
others do; gone: it no longer does. far: a channel stays far outside of training's range. implausible: a value that
cannot be. cut: it was silent for longer than the model bridges. not_finite: its state was no number any more.
unit: its times cannot be right in the unit they are taken for, and its samples are rejected."""
KINDS: tuple[Kind, ...] = get_args(Kind)
_NEVER = np.iinfo(np.uint32).max
_MOST = 1000
"""Troubles that are kept with their words. Streams beyond are counted."""
_ENOUGH = 5
"""Rows after which a stream that ends is asked which channels it never had."""
_FAR_ROWS = 100
_GONE_ROWS = 100


class ImplausibleValueWarning(UserWarning):
    """A value that cannot be real was not used as if it were."""


class Vigilance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a stream counts as gone wrong.

    Args:
        late_rows: samples in a row that are late, repeat a time or are rejected.
        unseen_rows: samples in which a channel did not come; None: no channel is missed. Where training had longer runs
            without the channel, three times the longest of these; a channel that some stream of training never had is
            not missed at all.
    """

    late_rows: Annotated[int, msgspec.Meta(ge=2)] = 10
    unseen_rows: Annotated[int, msgspec.Meta(ge=1)] | None = 20

    def __post_init__(self) -> None:
        if self.late_rows < 2 or (self.unseen_rows is not None and self.unseen_rows < 1):
            raise ParameterError(
                f"late_rows={self.late_rows}, unseen_rows={self.unseen_rows}: give at least 2 and at least 1"
            )


class Trouble(msgspec.Struct, frozen=True):
    """A stream's trouble: a fault, its reason and its remedy."""

    stream: str
    kind: Kind
    channel: str
    """"" where it is not about one."""
    reason: str
    remedy: str
    t: float | None
    """Time of the sample with which it was noticed, seconds. None stands for the stream's end."""
    again: bool = False
    """It was reported before, and goes on."""
    over: bool = False
    """The stream has gone on as it should since, or its time began again."""

    def __str__(self) -> str:
        return f"stream {self.stream!r}: {self.reason}; {self.remedy}"


class Troubles:
    """Notices what goes wrong in the streams of a fleet, in some bytes per stream and channel.

    What it knows is not part of a snapshot: after a restart of the process it is learned again, and said again.

    Args:
        header: the model's.
        on_trouble: called once per stream, kind and channel; None: implausible values are warned about, with
            ImplausibleValueWarning, and the rest waits to be asked for.
    """

    def __init__(
        self,
        header: Header,
        *,
        plausible: Plausible | None = None,
        vigilance: Vigilance | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> None:
        self.plausible = plausible or Plausible()
        self._vigilance = vigilance or Vigilance()
        self.on_trouble = on_trouble
        self.counts: Counter[Kind] = Counter()
        """Streams (of unseen, gone, far and implausible: channels of streams) that went wrong, by kind."""
        self.implausible: Counter[str] = Counter()
        """Implausible values by channel."""
        self._standing: OrderedDict[tuple[str, Kind, str], Trouble] = OrderedDict()
        self._take_on(header)
        self._marks = np.zeros((0, 2 + 3 * len(self._channels)), np.uint32)
        # A bit per kind: those about the whole stream in column 0, those about a channel in its column.
        self._said = np.zeros((0, 1 + len(self._channels)), np.uint16)

    def _take_on(self, header: Header) -> None:
        self._header = header
        self._channels = [channel.name for channel in header.channels]
        self._bounds = self.plausible.bounds(header)
        statistics, channels = header.statistics, len(self._channels)
        longest = np.array((statistics and statistics.longest_missing) or np.zeros(channels))
        absent = np.array((statistics and statistics.unseen) or np.zeros(channels))
        rows = self._vigilance.unseen_rows
        unseen = np.maximum(rows or 1, 3 * longest)
        gone = np.maximum(_GONE_ROWS, 10 * longest)
        far = np.where(self._bounds.known, _FAR_ROWS, _NEVER)
        missed = (absent == 0) & (rows is not None)
        unseen[~missed] = gone[~missed] = _NEVER
        self._after = np.minimum([unseen, gone, far], _NEVER).astype(np.uint32)

    def swapped(self, header: Header, before: Indices, now: Indices) -> None:
        """Go on with another model, whose table has the streams of slots `before` at slots `now`."""
        self._take_on(header)
        inside = before < len(self._marks)
        marks, said = self._marks, self._said
        self._marks, self._said = np.zeros_like(marks), np.zeros_like(said)
        self._make_room(int(now.max(initial=-1)) + 1)
        self._marks[now[inside]], self._said[now[inside]] = marks[before[inside]], said[before[inside]]

    def look(self, names: StreamNames, room: int, slots: Indices, t: Floats, x: Floats, *, raises: bool) -> Floats:
        """Look at samples before they are taken, and return them as they are to be taken.

        Args:
            names: of the slots.
            room: slots that the table has.
        Raises:
            SampleError: an implausible value is to be rejected, and `raises`.
        """
        if room > len(self._marks):
            self._make_room(room)
        if not x.flags.c_contiguous:
            x = np.ascontiguousarray(x)
        events = observe(self._marks, slots, x, self._bounds.table, SENTINELS, self._after)
        return x if events is None else self._noticed(events, names, slots, t, x, raises=raises)

    def judge(self, names: StreamNames, slots: Indices, t: Floats, x: Floats, *, raises: bool) -> Floats:
        """Look for implausible values only, as `look` does."""
        self._make_room(int(slots.max(initial=-1)) + 1)
        events = np.argwhere(self._bounds.implausible(x))
        if not len(events):
            return x
        return self._noticed(np.insert(events, 2, Event.IMPLAUSIBLE, axis=1), names, slots, t, x, raises=raises)

    @property
    def near(self) -> tuple[Floats, Floats]:
        """Between what no value needs a second look, (channels,) each."""
        return self._bounds.table[2].copy(), self._bounds.table[3].copy()

    def _make_room(self, slots: int) -> None:
        if slots > len(self._marks):
            self._marks, self._said = _grown(self._marks, slots), _grown(self._said, slots)

    def _noticed(
        self, events: Ints, names: StreamNames, slots: Indices, t: Floats, x: Floats, *, raises: bool
    ) -> Floats:
        values = events[events[:, 2] == Event.IMPLAUSIBLE]
        if raises and len(values) and self.plausible.otherwise == "reject":
            row, channel = values[0, :2].tolist()
            low, high = self._bounds.table[:2, channel]
            raise SampleError(
                f"row {row}: channel {self._channels[channel]!r} of stream '{names[int(slots[row])]}' has "
                f"{x[row, channel]:g}, which is not plausible (limits {low:g} and {high:g}); mend it, give "
                "other limits, or set faults='drop' to count and skip such samples",
                stream=names[int(slots[row])],
                row=row,
            )
        self.implausible.update({self._channels[c]: int(n) for c, n in enumerate(np.bincount(values[:, 1])) if n})
        # The first of each kind, stream and channel, in order of arrival.
        keys = (slots[events[:, 0]] * len(self._channels) + events[:, 1]) * len(Event) + events[:, 2]
        for row, channel, event in events[np.sort(np.unique(keys, return_index=True)[1])].tolist():
            slot = int(slots[row])
            if event in (Event.SEEN_AGAIN, Event.NEAR_AGAIN):
                kinds: tuple[Kind, ...] = ("unseen", "gone") if event == Event.SEEN_AGAIN else ("far",)
                for kind in kinds:
                    self._is_over((names[slot], kind, self._channels[channel]))
                continue
            self._about_channel(names, slot, row, channel, Event(event), t, x)
        return x if self.plausible.otherwise == "use" or not len(values) else self._without(values, x)

    def _without(self, values: Ints, x: Floats) -> Floats:
        x = x.copy()
        x[values[:, 0], values[:, 1]] = np.nan if self.plausible.otherwise == "missing" else np.inf
        return x

    def _about_channel(
        self, names: StreamNames, slot: int, row: int, channel: int, event: Event, t: Floats, x: Floats
    ) -> None:
        name, value, rows = self._channels[channel], float(x[row, channel]), int(self._marks[slot, 0])
        low, high = (float(bound) for bound in self._bounds.table[:2, channel])
        kind: Kind
        if event == Event.IMPLAUSIBLE:
            kind, reason = "implausible", f"channel {name!r} has {value:g}, which is not plausible"
            if low <= value <= high:
                reason += ": loggers write it for 'no value'"
            elif high < 1e29 or low > -1e29:
                reason += f": the limits are {low:g} and {high:g}"
            done = {"missing": "it counts as not observed", "reject": "its sample is rejected", "use": "it is used"}
            reason += f"; {done[self.plausible.otherwise]}"
            remedy = "mend the sensor or its unit, or give the channel's limits (streams.limits, Plausible.limits)"
        elif event == Event.FAR:
            (a, b), count = self._trained(channel), int(self._after[2, channel])
            kind = "far"
            reason = (
                f"channel {name!r} is far outside of training's range ({a:g} to {b:g}) in {count} samples: {value:g}"
            )
            remedy = "check its unit, and that the model is meant for this"
        else:
            kind = "unseen" if event == Event.UNSEEN else "gone"
            count = int(self._marks[slot, 2 + 3 * channel])
            reason = f"channel {name!r} did not come in any of its {rows} samples, although others do"
            if kind == "gone":
                reason = f"channel {name!r} did not come in its last {count} samples, and did before"
            remedy = "check the field's name and the sensor; until it comes the model has no value for it"
        self._report(slot, 1 + channel, Trouble(names[slot], kind, name, reason, remedy, float(t[row])))

    def _trained(self, channel: int) -> tuple[float, float]:
        statistics = self._header.statistics
        return (0.0, 0.0) if statistics is None else (statistics.low[channel], statistics.high[channel])

    def pushed(self, table: StreamTable, slots: Indices, t: Floats, x: Floats, restart_after: int) -> None:
        """Look at what became of the rows of a push.

        Args:
            table: after the push.
            slots, t, x: of all rows of the push, as they came.
            restart_after: late samples in a row with which a stream's time begins again.
        """
        if len(table.unused):
            self.refused(table.names, table.rows, slots, t, x, table.refused["row"], table.refused["fault"])
            self.suspected(table.names, table.clocks)
        if len(table.restarted):
            self.restarted(table.names, slots, t, table.restarted, restart_after)

    def refused(
        self,
        names: StreamNames,
        rows: Floats,
        slots: Indices,
        t: Floats,
        x: Floats,
        unused: Indices,
        fault: Ints,
    ) -> None:
        """Look at the rows of a push that were not used, after it.

        Args:
            rows: the table.
            slots, t, x: of all rows of the push.
            unused, fault: places of those that were not used, and why.
        """
        enough, of = self._vigilance.late_rows, slots[unused]
        found, first, own = np.unique(of, return_index=True, return_counts=True)
        run = rows[found, Column.REFUSED]
        if len(of) >= enough:
            run = np.maximum(run, _longest_runs(slots, unused, found))
        # Each run is reported where it becomes long enough, and again whenever it has grown by as much.
        for i in np.flatnonzero(run // enough > np.maximum(run - own, 0) // enough).tolist():
            places = np.flatnonzero(of == found[i])
            # A stream that repeats its past comes to the very time that it had reached, which is a repeat.
            late = (fault[places] == Fault.LATE).any()
            row = int(unused[places[-1]])
            kind, reason, remedy = self._why(
                rows[found[i]],
                Fault.LATE if late else Fault(fault[places[-1]]),
                int(run[i]),
                float(t[unused[first[i]]]),
                float(t[row]),
                x[row],
            )
            goes_on = bool(run[i] - own[i] >= enough)
            trouble = Trouble(names[int(found[i])], kind, "", reason, remedy, float(t[row]), again=goes_on)
            self._report(int(found[i]), 0, trouble)

    def suspected(self, names: StreamNames, clocks: Clocks) -> None:
        """Look at the streams that a push has just found to have times that cannot be right."""
        for slot in clocks.fresh:
            suspect = clocks.suspects[slot]
            reason, _, remedy = suspect.reason.partition("; ")
            remedy = f"its rows are rejected: {remedy}"
            self._report(slot, 0, Trouble(names[slot], "unit", "", reason, remedy, suspect.last))

    def _why(self, row: Floats, fault: Fault, run: int, began: float, t: float, x: Floats) -> tuple[Kind, str, str]:
        begin = "late = 'restart' (restart_after of a Fleet) begins such a stream again"
        if fault == Fault.REJECTED:
            infinite = np.flatnonzero(np.isinf(x))
            what = (
                f"channel {self._channels[infinite[0]]!r} is {x[infinite[0]]:g}"
                if len(infinite)
                else f"its time is {t}"
            )
            return "rejected", f"none of its last {run} samples can be used: {what}", "look at what it sends"
        if fault == Fault.DUPLICATE:
            return "stuck", f"its last {run} samples repeat a time, {when(t)}", "check its clock"
        top, reached = row[Column.TOP], row[Column.T0] + row[Column.CURSOR]
        if reached > top and row[Column.STARTED]:
            passed = f"time passed, and its windows up to {when(reached)} were closed"
            reason = f"its last {run} samples, now at {when(t)}, are late: {passed}"
            return "late", reason, f"check the clocks of the other streams, set silence.ahead, or {begin}"
        if row[Column.T0] == row[Column.LAST] and row[Column.ORDERED] == top:
            ahead = f"one was stamped {when(top)}, {top - began:g} s ahead"
            reason = f"its last {run} samples, now at {when(t)}, are late: {ahead}"
            return "late", reason, f"correct its clock; {begin}"
        back = f"its times went back {top - began:g} s, from {when(top)} to {when(began)}"
        reason = f"{back}, and its last {run} samples are late"
        return "restart", reason, f"its clock began again or was set back; {begin}"

    def restarted(self, names: StreamNames, slots: Indices, t: Floats, rows: Indices, after: int) -> None:
        """Look at the rows of a push with which a stream's time began again."""
        for row in rows.tolist():
            slot = int(slots[row])
            reason = (
                f"{after} samples in a row came late: its time begins again at {when(float(t[row]))}, in a new segment"
            )
            remedy = "check its clock"
            self._report(slot, 0, Trouble(names[slot], "restart", "", reason, remedy, float(t[row]), over=True))

    def cut(self, names: StreamNames, cuts: Structured) -> None:
        """Report streams that were cut after a silence (rows of `CUT`), unless the model has a gap of its own."""
        if self._header.gap is not None:
            return
        longest = self._header.partition.longest_gap
        for slot, seconds in cuts.tolist():
            reason = (
                f"it was silent for {seconds:g} s, and the model bridges {longest:g} s: it goes on in a new segment"
            )
            remedy = "check its clock and the unit of its times; what is usual belongs into the model's gap"
            self._report(slot, 0, Trouble(names[slot], "cut", "", reason, remedy, None, over=True))

    def not_finite(self, names: StreamNames, slots: Indices, end: Floats, *, mended: bool) -> None:
        """Note states that were not finite after windows with these ends."""
        for slot, t in zip(slots.tolist(), end.tolist(), strict=True):
            reason = f"its state was not finite after the window that ended at {when(t)}"
            reason += ", and was reset" if mended else ", and stays so"
            remedy = "look at its values, and give limits to its channels (streams.limits, Plausible.limits)"
            if not mended:
                remedy += ", or set on_range = 'mend'"
            self._report(slot, 0, Trouble(names[slot], "not_finite", "", reason, remedy, t, over=mended))

    def ended(self, names: StreamNames, slots: Indices) -> None:
        """End streams: report the channels that they never had, and forget them."""
        slots = slots[slots < len(self._marks)]
        marks = self._marks[slots]
        never = (marks[:, 3::3] == 0) & (marks[:, :1] >= _ENOUGH) & (self._after[0] < _NEVER)
        for place, channel in np.argwhere(never).tolist():
            slot, name = int(slots[place]), self._channels[channel]
            rows = int(marks[place, 0])
            reason = f"channel {name!r} did not come in any of its {rows} samples, although others do"
            remedy = "check the field's name and the sensor"
            self._report(slot, 1 + channel, Trouble(names[slot], "unseen", name, reason, remedy, None))
        self.forget(slots)

    def forget(self, slots: Indices) -> None:
        """Free the slots for other streams."""
        slots = slots[slots < len(self._marks)]
        self._marks[slots] = 0
        self._said[slots] = 0

    def _is_over(self, key: tuple[str, Kind, str]) -> None:
        if (trouble := self._standing.get(key)) is not None:
            self._standing[key] = msgspec.structs.replace(trouble, over=True)

    def _report(self, slot: int, column: int, trouble: Trouble) -> None:
        bit = np.uint16(1 << KINDS.index(trouble.kind))
        self._make_room(slot + 1)
        known = bool(self._said[slot, column] & bit)
        if trouble.over or not (known or trouble.again):
            self.counts[trouble.kind] += 1
        if known or trouble.again:
            if not trouble.channel:
                (self.on_trouble or _warn)(msgspec.structs.replace(trouble, again=True))
            return
        self._said[slot, column] |= bit
        self._standing[trouble.stream, trouble.kind, trouble.channel] = trouble
        if len(self._standing) > _MOST:
            self._standing.popitem(last=False)
        (self.on_trouble or _warn)(trouble)

    def latest(self, most: int, names: StreamNames, rows: Floats) -> list[Trouble]:
        """Return the latest troubles, the last one first.

        A trouble of samples that are not used is over once one was used.
        """
        found = []
        for trouble in itertools.islice(reversed(self._standing.values()), most):
            if not trouble.over and not trouble.channel:
                live = trouble.stream in names
                refused = rows[names.find([trouble.stream])[0], Column.REFUSED] if live else 0
                trouble = msgspec.structs.replace(trouble, over=bool(refused < self._vigilance.late_rows))
            found.append(trouble)
        return found


def _grown(table: NDArray[G], slots: int) -> NDArray[G]:
    """Return the table with room for so many slots."""
    grown = np.zeros((slots, table.shape[1]), table.dtype)
    grown[: len(table)] = table
    return grown


def _longest_runs(slots: Indices, unused: Indices, of: Indices) -> Indices:
    """Return, for each slot in `of` (ascending), the longest run of its rows among the unused ones."""
    order = np.argsort(slots, kind="stable")
    flags = np.zeros(len(slots), np.bool_)
    flags[unused] = True
    flags, sorted_slots = flags[order], slots[order]
    run = np.cumsum(~flags | (np.diff(sorted_slots, prepend=-1) != 0))
    lengths = np.bincount(run[flags], minlength=int(run[-1]) + 1)
    longest = np.zeros(len(of), np.intp)
    np.maximum.at(longest, np.searchsorted(of, sorted_slots[flags]), lengths[run[flags]])
    return longest


def when(t: float) -> str:
    """Format a time in seconds, with its date if it looks like seconds since 1970."""
    if not 1e9 <= t < 1e10:
        return f"{t:g} s"
    return f"{t:.3f} s ({datetime.fromtimestamp(t, UTC):%Y-%m-%d %H:%M:%S} UTC)"


def _warn(trouble: Trouble) -> None:
    if trouble.kind == "implausible":
        warnings.warn(str(trouble), ImplausibleValueWarning, stacklevel=4)
