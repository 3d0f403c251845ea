"""Words for payloads that are not samples: what was looked for, what was found, and the remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from streamrde.connectors.columns import Columns

# A message says enough with so many names, and with names so long; whoever publishes is free to send more.
_MOST_NAMES = 8
_LONGEST = 40
# Levels below which a nested payload's names are not listed.
_DEEPEST = 4


def refusal(payload: Any, columns: Columns) -> str | None:
    """Return why a parsed payload is not samples with these columns, or None if its names and types are not the reason.

    Args:
        payload: what JSON, MessagePack or CBOR gave: objects are dicts, everything else is Python's own.
        columns: the time's and the channels' fields.
    """
    if isinstance(payload, Mapping):
        return _of_object(payload, columns)
    if not isinstance(payload, list):
        return f"it is {described(payload)}, not an object: send {example(columns)}"
    for i, row in enumerate(payload):
        place = f"element {i} of its list" if len(payload) > 1 else "its list's element"
        if not isinstance(row, Mapping):
            return f"{place} is {described(row)}, not an object: send {example(columns)}"
        if reason := _of_object(row, columns):
            return f"{place}: {reason}"
    return None


def no_channel(names: Iterable[str], columns: Columns) -> str:
    """Say that no channel's field is present, and which fields are.

    Args:
        names: fields found, without the time's.
    """
    wanted = columns.channels
    missing = f"has none of {listed(wanted)}" if len(wanted) > 1 else f"has no field {wanted[0]!r}"
    found = list(names)
    below = next((name for name in found if "." in name and name.rpartition(".")[2].strip("[]") in wanted), None)
    alike = next((name for name in found if name.lower() in {channel.lower() for channel in wanted}), None)
    if below is not None:
        remedy = f"{below.rpartition('.')[2]!r} must stand at the top level of the message, not below another field"
    elif alike is not None:
        remedy = f"{alike!r} is spelled differently: capitals count"
    elif any("[" in name for name in found):
        remedy = "send an object with a field of its own for each channel"
    else:
        remedy = "name its fields in channels, in the model's order (or in value, where the topic has the channel)"
    return f"{missing}; it has: {listed(found) or 'no other field'}; {remedy}"


def described(value: Any) -> str:
    """Describe a value in words: its kind, and the value itself if it is short."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        text = str(value) if not isinstance(value, int) or abs(value) < 10**_LONGEST else "a very long integer"
        return f"a bare number, {text}"
    if isinstance(value, str):
        return f"text, {shortened(value)!r}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return f"an object with {listed(fields_of(value)) or 'no fields'}"
    if isinstance(value, Sequence):
        kinds = {_kind(element) for element in value}
        return f"a list of {len(value)} {kinds.pop() if len(kinds) == 1 else 'values'}" if value else "an empty list"
    return f"a value of type {type(value).__name__}"


def listed(names: Iterable[str]) -> str:
    """Join names with commas, as many as fit into a message."""
    shown = [_printable(name) for name in names]
    more = f", ... ({len(shown)} in all)" if len(shown) > _MOST_NAMES else ""
    return ", ".join(shown[:_MOST_NAMES]) + more


def fields_of(payload: Mapping[Any, Any], without: Iterable[str] = ()) -> list[str]:
    """Return names of an object's fields.

    Those of nested ones are `outer.inner`, and those of lists of objects are `outer[].inner`.
    """
    beside = {name: value for name, value in payload.items() if name not in without}
    return list(dict.fromkeys(_paths(beside, "", 0)))


def shortened(text: str) -> str:
    """Cut a text to a length that fits into a message."""
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def example(columns: Columns) -> str:
    """Return an example of a valid payload."""
    time = {columns.time: 12.34} if columns.time else {}
    fields = [*time, *columns.channels[:2]]
    body = ", ".join(f'"{_printable(name)}": {12.34 if name == columns.time else 0.1}' for name in fields)
    return "{" + body + (", ...}" if len(columns.channels) > 2 else "}")


def _of_object(row: Mapping[Any, Any], columns: Columns) -> str | None:
    timeless = bool(columns.time) and columns.time not in row
    if not any(name in row for name in columns.channels):
        reason = no_channel(fields_of(row, (columns.time,)), columns)
        return f"has no time {columns.time!r} and {reason}" if timeless else reason
    if timeless:
        found = listed(fields_of(row, columns.channels))
        return f"has no field {columns.time!r} with the time; it has: {found or 'no other field'}; name it in time"
    for name in columns.values:
        if (value := row.get(name)) is not None and not _is_number(value) and not _is_numbers(value):
            return f"field {name!r} is {described(value)}: send a number, or null where it was not observed"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(_is_number(x) or x is None for x in value)


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "values"
    if isinstance(value, (int, float)):
        return "numbers" if not (isinstance(value, float) and math.isnan(value)) else "values"
    return "texts" if isinstance(value, str) else "objects" if isinstance(value, Mapping) else "values"


def _paths(value: Any, path: str, depth: int) -> Iterator[str]:
    if depth < _DEEPEST and isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _paths(inner, f"{path}.{name}" if path else str(name), depth + 1)
    elif depth < _DEEPEST and isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield from _paths(value[0], f"{path}[]", depth + 1)
    elif path:
        yield f"{path}[{len(value)}]" if isinstance(value, list) else path


def _printable(name: str) -> str:
    name = shortened(str(name))
    return name if name.isprintable() and "," not in name else repr(name)
