"""Print results for scripts, and predictions as lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from streamrde.runtime.tally import LabelTally

# Values of a prediction that are shown.
_MOST_VALUES = 4
# Times from here on, in seconds, are shown as dates. It is March 1973: no clock that counts from its start is so old.
_DATED = 1e8
# P-values that are shown.
_RARE = 0.01


def print_json(value: Any) -> None:
    """Print one JSON object on a line."""
    print(msgspec.json.encode(value).decode())


def plain(text: str) -> str:
    """Return text that moves no cursor and changes no colour: signs that do are written as Python writes them.

    >>> plain("pump-7"), plain("a\\x1b[2J\\n")
    ('pump-7', 'a\\\\x1b[2J\\\\n')
    """
    return text if text.isprintable() else "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def moment(t: float) -> str:
    """Return a time of samples for people: as a date in UTC, or as seconds where it is too small for one.

    >>> moment(12.25), moment(1.7e9)
    ('12.2 s', '2023-11-14 22:13:20.0')
    """
    if t >= _DATED:
        try:
            return datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-5]
        except (OverflowError, ValueError):
            pass
    return f"{t:.1f} s"


def said_labels(tally: LabelTally) -> str:
    """Return what became of labels, the error of what was served beside others, and the coverage, for people."""
    parts = [", ".join(f"{count:,} {name}" for name, count in tally.outcomes.items() if count) or "none yet"]
    errors = tally.errors
    for output, error in [*errors["served"].items()][:_MOST_VALUES]:
        if error is not None:
            others = ", ".join(f"{name} {errors[name][output]:.3g}" for name in ("frozen", "last", "mean"))
            parts.append(f"error of {plain(output)} {error:.3g} ({others})")
    for output, share in [*tally.coverage.items()][:_MOST_VALUES]:
        if share is not None:
            parts.append(f"{share:.1%} of {plain(output)} within")
    return "; ".join(parts)


def said(row: Mapping[str, Any]) -> str:
    """Return what a prediction says: the label with its probability, or the values, and what is unusual about it.

    Args:
        row: fields of a payload, as `decode_prediction` returns them.

    >>> said({"value": [0.1, 0.9], "label": "walk"}), said({"value": [1.5, -2.0], "flag": "out_of_range"})
    ('walk 90 %', '1.5, -2 (state out of range)')
    """
    value, label, labels = row["value"], row.get("label"), row.get("labels") or {}
    if label is not None:
        best = max(value[0], 1.0 - value[0]) if len(value) == 1 else max(value)
        text = f"{plain(label)} {100 * best:.0f} %"
    elif any(labels.values()):
        text = ", ".join(f"{plain(head)} {plain(own or '?')}" for head, own in labels.items())
    else:
        shown = [f"{one:.4g}" for one in value[:_MOST_VALUES]]
        text = ", ".join([*shown, "..."] if len(value) > _MOST_VALUES else shown)
    notes = [f"state {plain(row['flag']).replace('_', ' ')}"] if row.get("flag") else []
    if (novelty := row.get("novelty")) is not None and novelty < _RARE:
        notes.append(f"new to the model, p {novelty:.2g}")
    if row.get("provisional"):
        notes.append("provisional")
    return f"{text} ({', '.join(notes)})" if notes else text
