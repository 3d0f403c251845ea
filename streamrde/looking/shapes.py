"""Turn decoded payloads into rows, and find the keys that say how: records, columnar lists, vectors, bare values."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from streamrde.looking.guesses import Guess

# Elements of a list that are channels each. A longer list holds samples.
_MOST_ELEMENTS = 64
_DEEPEST = 8
_TIME = re.compile(r"(?i)(^|[^a-z])(t|ts|time|timestamp|date|datetime|epoch)($|[^a-z])|time(stamp)?$|_at$|At$|^time")
_NAME = re.compile(r"(?i)^(n|name|id|key|tag|channel|sensor|metric|parameter|variable|field|entity_id)$")
_VALUE = re.compile(r"(?i)^(v|value|values|val|reading|state|data)$")
# Lists about the way of a message, not about the sensor.
_TRAVEL = re.compile(r"(?i)rx|gateway|uplink|header|hop|route|metadata")


class Shape(NamedTuple):
    """Rows of payloads, by path."""

    rows: list[dict[str, Any]]
    messages: list[int]
    """For each row the number of its message."""
    keys: dict[str, Guess]
    """records and, of a table with names as keys, stream."""
    bare: bool
    """Payloads are bare values."""
    inner: frozenset[str] = frozenset()
    """Paths in the objects of a list, not in the message around it."""


def shape_of(objects: Sequence[Any]) -> Shape:
    """Find the shape of payloads and return their rows."""
    known = [(i, one) for i, one in enumerate(objects) if one is not None]
    if all(not isinstance(one, dict | list) for _, one in known):
        return Shape([{"": one} for _, one in known], [i for i, _ in known], {}, bare=True)
    if (by_key := _by_key(known)) is not None:
        return by_key
    path = _records(known)
    rows: list[dict[str, Any]] = []
    messages: list[int] = []
    for i, one in known:
        for row in _rows(one, path):
            rows.append(row)
            messages.append(i)
    keys = {}
    if path:
        keys["records"] = Guess(
            path, f"'{path}' is a list of objects, each with a time or a name and a value of its own"
        )
    around = {own for _, one in known for own in _flat(one)} if path else set()
    inner = frozenset(own for row in rows for own in row if own not in around) if path else frozenset()
    return Shape(rows, messages, keys, bare=False, inner=inner)


def _rows(one: Any, records: str) -> Iterator[dict[str, Any]]:
    if isinstance(one, list):
        if any(isinstance(item, dict) for item in one):
            for item in one:
                if isinstance(item, dict):
                    yield from _rows(item, "")
        elif any(isinstance(item, list) for item in one):
            yield from (_flat(item) for item in one if isinstance(item, list))
        else:
            yield _flat(one)
        return
    if not isinstance(one, dict):
        yield {"": one}
        return
    if records:
        items = _at(one, records)
        around = {
            path: value for path, value in _flat(one).items() if not path.startswith((f"{records}[", f"{records}."))
        }
        for item in items if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield {**around, **_flat(item)}
        return
    flat = _flat(one)
    lists = _columnar(one)
    if not lists:
        yield flat
        return
    single = {path: value for path, value in flat.items() if not any(path.startswith(f"{own}[") for own in lists)}
    for values in zip(*lists.values(), strict=True):
        yield {**single, **dict(zip(lists, values, strict=True))}


def _flat(one: Any, path: str = "", depth: int = 0) -> dict[str, Any]:
    """Return the values of nested objects and lists by their paths."""
    found: dict[str, Any] = {}
    if isinstance(one, Mapping):
        for key, value in one.items():
            if depth < _DEEPEST:
                name = str(key).encode("utf-8", "replace").decode()  # half a pair of UTF-16 cannot be written
                found |= _flat(value, f"{path}.{name}" if path else name, depth + 1)
    elif isinstance(one, list | tuple):
        for i, value in enumerate(one[:_MOST_ELEMENTS]):
            if depth < _DEEPEST:
                found |= _flat(value, f"{path}[{i}]", depth + 1)
    else:
        found[path] = one
    return found


def _lists(one: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(one, Mapping) and depth < _DEEPEST:
        for key, value in one.items():
            own = f"{path}.{key}" if path else str(key)
            if isinstance(value, list):
                yield own, value
            else:
                yield from _lists(value, own, depth + 1)


def _columnar(one: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return lists of one length, one of them of times, whose places are samples."""
    lists = {
        path: value for path, value in _lists(one) if value and not any(isinstance(item, dict | list) for item in value)
    }
    times = [path for path in lists if _TIME.search(path)]
    if not times:
        return {}
    length = len(lists[times[0]])
    same = {path: value for path, value in lists.items() if len(value) == length}
    return same if len(same) > 1 else {}


def _records(known: Sequence[tuple[int, Any]]) -> str:
    """Return the path of a list of objects that are rows, or ""."""
    found: Counter[str] = Counter()
    for _, one in known:
        if not isinstance(one, dict):
            continue
        for path, value in _lists(one):
            items = [item for item in value if isinstance(item, dict)]
            if items and len(items) == len(value) and not _TRAVEL.search(path.rsplit(".", 1)[-1]) and _alike(items):
                found[path] += len(items)
    return found.most_common(1)[0][0] if found else ""


def _alike(items: Sequence[Mapping[str, Any]]) -> bool:
    """Return True if each object has a time of its own, or a name and a value."""
    timed = all(any(_TIME.search(key) for key in item) for item in items)
    named = all(any(map(_NAME.match, item)) and any(map(_VALUE.match, item)) for item in items)
    return timed or named


def _by_key(known: Sequence[tuple[int, Any]]) -> Shape | None:
    """Return the rows of objects whose keys are names of streams, each with a list of rows, or None."""
    rows: list[dict[str, Any]] = []
    messages: list[int] = []
    for i, one in known:
        if not isinstance(one, dict) or not one or not all(_is_rows(value) for value in one.values()) or len(one) < 1:
            return None
        if len(one) == 1 and _NAME.match(next(iter(one))) is None and re.fullmatch(r"[a-z_]+", next(iter(one))):
            return None  # one list below a plain word: records
        for key, items in one.items():
            rows += [{"@key": key, **_flat(item)} for item in items]
            messages += [i] * len(items)
    keys = {
        "records": Guess("*", "each key of the payload has a list of objects"),
        "stream": Guess("@key", f"the keys of the payload name the streams, such as {rows[0]['@key']!r}"),
    }
    return Shape(rows, messages, keys, bare=False)


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value) and _alike(value)


def _at(one: Any, path: str) -> Any:
    for key in path.split("."):
        one = one.get(key) if isinstance(one, dict) else None
    return one
