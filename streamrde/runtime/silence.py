"""Time that passes without data: windows that close by it, and streams that it ends."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.connectors.ends import ConnectionCounts
from streamrde.inference.fleet import Fleet
from streamrde.runtime.clock import Clock
from streamrde.runtime.pace import SLICE_WINDOWS
from streamrde.settings import Seconds

# A source whose latest samples are this many seconds old has a backlog, and the clock is ahead of it.
_OLD = 5.0


class Silence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules for silent streams.

    A window closes by time only if the model holds the last value, and never before the fleet's lateness allows.

    Args:
        advance: source of the time. "watermark": the latest time of any stream's samples (of several sources, the one
            that is furthest behind). "clock": the machine's clock, if samples carry seconds since 1970. "no": windows
            wait for samples.
        every: seconds of the clock between two checks.
        idle: end a stream, and free its memory, when its latest sample is this many seconds old. None: never.
        returning: a stream that returns after that starts "anew", or continues with its "state".
        source_idle: ignore a source for the watermark after this many seconds of silence by the clock.
        ahead: keep samples out of the watermark if their time is this many seconds ahead of the clock. Their stream
            takes them. None: trust all.
    """

    advance: Literal["no", "watermark", "clock"] = "no"
    every: Seconds = 1.0
    idle: Seconds | None = None
    returning: Literal["anew", "state"] = "anew"
    source_idle: Seconds = 60.0
    ahead: Seconds | None = None

    @property
    def active(self) -> bool:
        """Return True if there is anything to do."""
        return self.advance != "no" or self.idle is not None


class Timekeeper:
    """Tell a fleet the time.

    Args:
        fleet: its streams are advanced, and ended where they are idle.
        clock: the machine's, or one advanced by hand.
    """

    def __init__(self, fleet: Fleet, silence: Silence, clock: Clock) -> None:
        self._fleet, self._silence, self._clock = fleet, silence, clock
        self._sources: dict[str, tuple[float, float]] = {}  # latest time of a sample, and when that was seen
        self._next = clock.now() + silence.every

    def observe(self, t: Floats, source: str = "") -> None:
        """Note that samples with times t, (rows,), came from a source."""
        now = self._clock.now()
        believed = t[np.isfinite(t)]
        if self._silence.ahead is not None:
            believed = believed[believed <= now + self._silence.ahead]
        before, _ = self._sources.get(source, (-math.inf, now))
        self._sources[source] = (max(before, float(believed.max(initial=-math.inf))), now)

    @property
    def time(self) -> float:
        """Time of the streams, seconds, or -inf while it is unknown."""
        now = self._clock.now()
        if self._silence.advance == "clock":
            return now
        awake = [t for t, seen in self._sources.values() if now - seen <= self._silence.source_idle]
        # Where all are silent none holds up another; where one has said nothing yet nobody knows how far it is.
        return min(awake) if awake else max((t for t, _ in self._sources.values()), default=-math.inf)

    @property
    def due(self) -> bool:
        """Return True if a tick is due. A clock that was set back delays it by at most `every`."""
        now = self._clock.now()
        return now >= self._next or now < self._next - self._silence.every

    def tick(self, *, trust_clock: bool = True) -> pa.RecordBatch | None:
        """If due, close the windows that have ended by now and end idle streams. Return the predictions, or None.

        Args:
            trust_clock: False where samples may be on their way that are older than the clock says; nothing is done
                then by the clock.
        """
        slices = list(self.slices(windows=SLICE_WINDOWS, trust_clock=trust_clock))
        return pa.concat_batches(slices) if slices else None

    def slices(self, *, windows: int, trust_clock: bool = True) -> Iterator[pa.RecordBatch]:
        """Do the work of `tick`, a limited number of windows at a time. Samples may be pushed in between."""
        if not (self._silence.active and self.due) or (self._silence.advance == "clock" and not trust_clock):
            return
        self._next = self._clock.now() + self._silence.every
        time = self.time
        if not math.isfinite(time) or not len(self._fleet):
            return
        slices = self._fleet.slices(windows=windows)
        if self._silence.advance != "no":
            yield from slices.advance(time)
        if self._silence.idle is not None:
            yield from slices.evict(idle=self._silence.idle, now=time)


class Backlog:
    """Notice that samples are on their way that are older than the clock says."""

    def __init__(self) -> None:
        self._connects = -1
        self._latest: dict[str, float] = {}

    def observe(self, latest: float, source: str) -> None:
        """Note the latest time of samples that came from a source."""
        self._latest[source] = max(latest, self._latest.get(source, -math.inf))

    def is_over(self, connections: Sequence[ConnectionCounts], now: float) -> bool:
        """Return True if no source is away, or was since the last call, and none has delivered old samples since."""
        connects = sum(connection.connects for connection in connections)
        new, self._connects = connects != self._connects, connects
        latest, self._latest = self._latest, {}
        away = any(not connection.connected for connection in connections)
        return not new and not away and all(t >= now - _OLD for t in latest.values())
