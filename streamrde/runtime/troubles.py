"""Streams that go wrong: what a run says, shows and does about them."""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec

from streamrde.connectors.ends import Source
from streamrde.errors import ParameterError
from streamrde.inference.fleet import Fleet
from streamrde.inference.plausibility import Plausible
from streamrde.inference.troubles import Kind, Trouble, Vigilance

logger = logging.getLogger(__name__)
_LINES = 10
_INTERVAL = 10.0
"""At most _LINES lines are written in _INTERVAL seconds. Others are counted, and the counts are written afterwards."""
_REMEMBERED = 100
"""Troubles whose beginning, by the clock, is remembered for the status."""


class StreamRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rules of a run for streams that go wrong.

    Args:
        late: a stream all of whose samples come late, after its clock began again or one stamp was ahead: "warn" says
            so; "restart" takes the late samples in a new segment; "set aside" leaves its messages unread for
            quarantine_seconds, over and over.
        late_rows: late samples in a row until then.
        unseen: a channel that never comes although others do, or no longer comes: "warn" or "ignore".
        unseen_rows: samples without the channel until then.
        implausible: a value outside of its channel's limits is taken as "missing", its sample is rejected ("reject"),
            or it is used ("use"). It is counted, and said once per stream and channel.
        limits: smallest and largest plausible value by channel, in the model's units; instead of training's range.
        ranges: how many sizes of training's range a plausible value may lie beyond its ends; 0: training decides
            nothing.
    """

    late: Literal["warn", "restart", "set aside"] = "warn"
    late_rows: Annotated[int, msgspec.Meta(ge=2)] = 10
    unseen: Literal["warn", "ignore"] = "warn"
    unseen_rows: Annotated[int, msgspec.Meta(ge=1)] = 20
    implausible: Literal["missing", "reject", "use"] = "missing"
    limits: Mapping[str, tuple[float, float]] = msgspec.field(default_factory=dict)
    ranges: Annotated[float, msgspec.Meta(ge=0)] = 10.0

    @property
    def plausible(self) -> Plausible:
        """Which values can be real."""
        return Plausible(limits=self.limits, ranges=self.ranges, otherwise=self.implausible)

    @property
    def vigilance(self) -> Vigilance:
        """When a stream counts as gone wrong."""
        rows = self.unseen_rows if self.unseen == "warn" else None
        return Vigilance(late_rows=self.late_rows, unseen_rows=rows)

    @property
    def restart_after(self) -> int:
        """Late samples in a row with which a stream's time begins again. If 0, it never does."""
        return self.late_rows if self.late == "restart" else 0


class TroubleLog:
    """Take a fleet's troubles, log each once, and follow the rules.

    Args:
        fleet: its troubles come here from now on, unless they go elsewhere already.
        rules: of the run.
        source: may know a stream's topic (`topic_of`), and have a `quarantine`.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        fleet: Fleet,
        rules: StreamRules | None = None,
        *,
        source: Source[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fleet = fleet
        self._rules = rules or StreamRules()
        self._source = source
        self._clock = clock
        self._lines: deque[float] = deque(maxlen=_LINES)
        self._beyond: Counter[Kind] = Counter()
        self._seen: OrderedDict[tuple[str, Kind, str], dict[str, Any]] = OrderedDict()
        sets_aside = self._rules.late == "set aside"
        self._quarantine = source.quarantine if source is not None and sets_aside else None
        if sets_aside and self._quarantine is None:
            raise ParameterError("streams.late = 'set aside' is for a source that can leave messages unread: MQTT")
        if fleet.on_trouble is None:
            fleet.on_trouble = self.report

    def report(self, trouble: Trouble) -> None:
        """Write a trouble that was just noticed, unless many were, and act on it."""
        if self._quarantine is not None and trouble.kind in ("late", "restart"):
            self._quarantine.set_aside(trouble.stream, self._clock())
        if trouble.again:
            return
        topic = self._topic(trouble.stream)
        self._seen[trouble.stream, trouble.kind, trouble.channel] = {"since": time.time(), "topic": topic}
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        now = self._clock()
        if len(self._lines) == _LINES and now - self._lines[0] < _INTERVAL:
            self._beyond[trouble.kind] += 1
            return
        self.catch_up()
        self._lines.append(now)
        where = f" (topic {topic})" if topic else ""
        logger.warning("stream %r%s: %s; %s", trouble.stream, where, trouble.reason, trouble.remedy)

    def catch_up(self, *, at_once: bool = True) -> None:
        """Write how many more streams went wrong than there were lines for.

        Args:
            at_once: even where lines could not be written again yet.
        """
        if not self._beyond or (not at_once and self._clock() - self._lines[0] < _INTERVAL):
            return
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._beyond.most_common())
        logger.warning("and %d more streams went wrong: %s", self._beyond.total(), kinds)
        self._beyond.clear()

    def status(self, most: int = 20) -> list[dict[str, Any]]:
        """Return the latest troubles for JSON, the last one first, each with its time and topic."""
        found = []
        for trouble in self._fleet.troubles(most):
            about = self._seen.get((trouble.stream, trouble.kind, trouble.channel), {})
            fields = msgspec.structs.asdict(trouble)
            del fields["again"]
            found.append({**fields, "since": about.get("since"), "topic": about.get("topic") or ""})
        return found

    def _topic(self, stream: str) -> str:
        return "" if self._source is None else self._source.topic_of(stream) or ""
