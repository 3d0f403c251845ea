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
    if below is not None and "[]." in below:
        remedy = f"set records = {below.rpartition('[].')[0]!r}, whose objects are the rows"
    elif below is not None:
        remedy = f"give its path, as channels = [{below!r}, ...]"
    elif alike is not None:
        remedy = f"{alike!r} is spelled differently: capitals count"
    elif any("[" in name for name in found):
        remedy = "name places in it, as acc[0], or set records (and name and value) where its objects are rows"
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
