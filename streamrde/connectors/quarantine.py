"""Senders that send nothing but faults are set aside, so that they are not reported message by message."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from streamrde.errors import ParameterError

# Names under suspicion or set aside at a time; they are free to invent for whoever publishes.
_MOST = 10_000


class Quarantine:
    """Count faults in a row per name, in constant memory. Knows no clock: times come in as arguments.

    A name is a topic, in bytes, or a stream, as text; they do not mix.

    Args:
        faults: faults in a row after which a name is set aside; 0: never.
        seconds: how long it stays there. Afterwards one more fault sets it aside again; `clear` ends it at any time.
    """

    def __init__(self, *, faults: int = 10, seconds: float = 60.0) -> None:
        if faults < 0 or not seconds > 0:
            raise ParameterError(f"quarantine: faults={faults}, seconds={seconds}: give at least 0, and more than 0 s")
        self._faults = faults
        self.seconds = seconds
        self._in_a_row: OrderedDict[str | bytes, int] = OrderedDict()
        self._until: OrderedDict[str | bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    @property
    def is_empty(self) -> bool:
        """True if no name is under suspicion or set aside."""
        return not (self._in_a_row or self._until)

    @property
    def names(self) -> Mapping[str | bytes, float]:
        """The names set aside, the latest last, with the times until which they are. These may have passed."""
        return self._until

    def knows(self, name: str | bytes) -> bool:
        """Return True if a name is set aside, or has sent faults since its last good message."""
        return name in self._in_a_row or name in self._until

    def holds(self, name: str | bytes, now: float) -> bool:
        """Return True if a name is set aside at time `now`."""
        if not self._until or (until := self._until.get(name)) is None:
            return False
        if now < until:
            return True
        del self._until[name]
        return False

    def fault(self, name: str | bytes, now: float) -> bool:
        """Count a fault. Return True if it sets the name aside."""
        if not self._faults:
            return False
        count = self._in_a_row.pop(name, 0) + 1
        self._in_a_row[name] = count
        _bound(self._in_a_row)
        if count < self._faults:
            return False
        self.set_aside(name, now)
        return True

    def in_a_row(self, name: str | bytes) -> int:
        """Return the number of faults in a row so far."""
        return self._in_a_row.get(name, 0)

    def set_aside(self, name: str | bytes, now: float) -> None:
        """Set a name aside at once, whatever it sent before."""
        self._until[name] = now + self.seconds
        self._until.move_to_end(name)
        _bound(self._until)

    def clear(self, name: str | bytes) -> bool:
        """Forget the name's faults, since a good message came. Return True if that ends its quarantine."""
        if self._in_a_row:
            self._in_a_row.pop(name, None)
        return bool(self._until) and self._until.pop(name, None) is not None


def _bound(table: OrderedDict[str | bytes, Any]) -> None:
    if len(table) > _MOST:
        table.popitem(last=False)
