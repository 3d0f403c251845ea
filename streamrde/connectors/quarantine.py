"""Streams that send nothing but faults are set aside, so that they cost the others nothing."""

from __future__ import annotations

from collections import OrderedDict

from streamrde.errors import ParameterError

# Streams under suspicion or in quarantine at a time; names are free to invent for whoever publishes.
_MOST = 10_000


class Quarantine:
    """Counts faults in a row per stream, in constant memory. Knows no clock: times come in as arguments.

    Args:
        faults: faults in a row after which a stream is set aside; 0: never.
        seconds: how long it stays there. Afterwards one more fault sets it aside again, and one good message clears it.
    """

    def __init__(self, *, faults: int = 10, seconds: float = 60.0) -> None:
        if faults < 0 or not seconds > 0:
            raise ParameterError(f"quarantine: faults={faults}, seconds={seconds}: give at least 0, and more than 0 s")
        self._faults = faults
        self._seconds = seconds
        self._in_a_row: OrderedDict[str, int] = OrderedDict()
        self._until: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def holds(self, stream: str, now: float) -> bool:
        """Whether a stream is set aside at time `now`."""
        if not self._until or (until := self._until.get(stream)) is None:
            return False
        if now < until:
            return True
        del self._until[stream]
        return False

    def fault(self, stream: str, now: float) -> bool:
        """Count a fault; True where it sets the stream aside."""
        if not self._faults:
            return False
        count = self._in_a_row.pop(stream, 0) + 1
        self._in_a_row[stream] = count
        _bound(self._in_a_row)
        if count < self._faults:
            return False
        self.set_aside(stream, now)
        return True

    def set_aside(self, stream: str, now: float) -> None:
        """Set a stream aside at once, whatever it sent before."""
        self._until[stream] = now + self._seconds
        self._until.move_to_end(stream)
        _bound(self._until)

    def clear(self, stream: str) -> None:
        """A good message came: forget the stream's faults."""
        if self._in_a_row:
            self._in_a_row.pop(stream, None)


def _bound(table: OrderedDict[str, int] | OrderedDict[str, float]) -> None:
    if len(table) > _MOST:
        table.popitem(last=False)
