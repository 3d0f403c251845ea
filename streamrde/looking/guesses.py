"""Results of a look at data: a guess for each setting, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamrde.looking.rates import Rate


class Other(NamedTuple):
    """Describe what else a setting may be, for a comment."""

    key: str
    value: Any
    when: str
    """Condition under which this is right, after "if"."""


class Guess(NamedTuple):
    """Hold a setting's value and why it has it."""

    value: Any
    why: str
    """Evidence: a phrase."""
    unsure: str = ""
    """Reason for doubt, or "" if there is none."""
    others: tuple[Other, ...] = ()

    def also(self, *others: Other) -> Guess:
        """Return the guess with further alternatives."""
        return self._replace(others=(*self.others, *others))


class Channel(NamedTuple):
    """Describe a data channel as the rows that were looked at have it."""

    name: str
    """Column of a file, or path in a payload."""
    low: float
    high: float
    missing: float
    """Share of the rows without a value."""
    unit: str = ""
    note: str = ""

    @property
    def text(self) -> str:
        """Describe the channel for a comment."""
        unit = f" {self.unit}" if self.unit else ""
        parts = [f"{self.low:.4g} to {self.high:.4g}{unit}"] if self.low == self.low else []
        if self.missing:
            parts.append(f"{percent(self.missing)} of the rows without a value")
        return ", ".join([*parts, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class Findings:
    """Hold all guesses about one source of data."""

    source: str
    """Path or URL, as it was given."""
    seen: str
    """Sentence that says what was looked at."""
    columns: dict[str, Guess]
    """Keys of [columns] but `channels`, those that differ from the defaults or have been looked for."""
    channels: tuple[Channel, ...]
    rate: Rate
    unused: tuple[tuple[str, str], ...] = ()
    """Columns that are no channels, and why."""
    remarks: tuple[str, ...] = ()
    """Doubts that no key can settle, with what to do."""
    target: Guess | None = None
    target_at: str = "auto"
    task: str = "classification"
    group: Guess | None = None
    split: Guess | None = None
    restarts: Guess | None = None
    faults: Guess | None = None
    connection: dict[str, Guess] = field(default_factory=dict)
    """Keys of [source] beside those of [columns], for live data."""

    @property
    def doubts(self) -> list[str]:
        """List the guesses that are unsure, a sentence each."""
        named = {**self.connection, **self.columns}
        named |= {key: one for key in ("target", "group", "split", "restarts", "faults") if (one := getattr(self, key))}
        return [*(f"{key}: {one.unsure}" for key, one in named.items() if one.unsure), *self.remarks]

    def as_dict(self) -> dict[str, Any]:
        """Return the findings as plain values, for JSON."""

        def plain(one: Guess | None) -> dict[str, Any] | None:
            if one is None:
                return None
            others = [other._asdict() for other in one.others]
            return {"value": one.value, "why": one.why, "unsure": one.unsure, "others": others}

        return {
            "source": self.source,
            "seen": self.seen,
            "connection": {key: plain(one) for key, one in self.connection.items()},
            "columns": {key: plain(one) for key, one in self.columns.items()},
            "channels": [channel._asdict() for channel in self.channels],
            "unused": dict(self.unused),
            "rate": self.rate.as_dict(),
            "target": plain(self.target),
            "task": self.task if self.target else None,
            "group": plain(self.group),
            "split": plain(self.split),
            "restarts": plain(self.restarts),
            "unsure": self.doubts,
        }


def percent(share: float) -> str:
    """Write a share in percent, such that neither 0 nor 100 stands for almost.

    >>> percent(0.5), percent(0.9996), percent(0.00002)
    ('50 %', '99.9 %', '0.1 %')
    """
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    shown = min(max(round(100 * share, 1), 0.1), 99.9)
    return f"{shown:g} %"
