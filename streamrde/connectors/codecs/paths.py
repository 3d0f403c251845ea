"""Paths to fields of nested payloads: find what is there, and build what has fields there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from streamrde.connectors.columns import path_of
from streamrde.errors import SampleError

TOPIC, BROKER, KEY, PROPERTY = "@topic", "@broker", "@key", "@property."
"""Places of a stream's name or a time outside of the payload, and the name of the field that a record is under."""
Getter = Callable[[tuple[Any, ...]], Any]
"""Function that finds a field in objects, the innermost first. It gives UNSET if none has it."""


def is_special(source: str) -> bool:
    """Return True if a name stands for something outside of the payload's fields."""
    return source in (TOPIC, BROKER, KEY) or source.startswith(PROPERTY)


def getter(path: str) -> Getter:
    """Return a function that finds the field of a name, or at a path, in nested objects, or UNSET if there is none.

    A field whose own name has dots wins over a path, at each level. "" is the whole of the innermost object.

    Raises:
        ParameterError: it is neither.
    """
    if not path:
        return lambda scopes: scopes[0]
    steps = path_of(path)
    if steps == (path,):

        def plain(scopes: tuple[Any, ...]) -> Any:
            for scope in scopes:
                if type(scope) is dict and (value := scope.get(path, UNSET)) is not UNSET:
                    return value
            return UNSET

        return plain
    names = path.split(".")
    # A name that is a path too: the longest field's name comes first. Places in lists are only those of a path.
    cuts = [(path_of(".".join(names[:i])), ".".join(names[i:])) for i in range(len(names))]
    ways = [*dict.fromkeys([*((*before, rest) for i, (before, rest) in enumerate(cuts) if before or not i), steps])]
    ways = [way for way in ways if way]

    def deep(scopes: tuple[Any, ...]) -> Any:
        for scope in scopes:
            for way in ways:
                value = scope
                for step in way:
                    value = step_into(value, step)
                    if value is UNSET:
                        break
                else:
                    return value
        return UNSET

    return deep


def placed(fields: Sequence[tuple[str, Any]]) -> Any:
    """Return nested objects and lists with these values at these paths, so that `getter` finds them.

    >>> placed([("t", 1), ("values.a", 2), ("acc[1]", 3)])
    {'t': 1, 'values': {'a': 2}, 'acc': [None, 3]}
    """
    whole: dict[str | int, Any] = {}
    for path, value in fields:
        inner, steps = whole, path_of(path) or (path,)
        for step in steps[:-1]:
            inner = inner.setdefault(step, {})
            if not isinstance(inner, dict):
                raise SampleError(f"{path!r} is below another field that is sent: rename one of the two")
        inner[steps[-1]] = value
    return _with_lists(whole)


def _with_lists(value: Any) -> Any:
    """Turn objects whose fields are places in a list into lists."""
    if not isinstance(value, dict):
        return value
    if list(value) == [""]:
        return value[""]
    if all(isinstance(key, int) for key in value):
        return [_with_lists(value.get(i)) for i in range(max(value) + 1)]
    return {key: _with_lists(inner) for key, inner in value.items()}


def step_into(value: Any, step: str | int) -> Any:
    """Return what is under a name in an object, or at a place in a list. UNSET if there is nothing."""
    if type(step) is int:
        return value[step] if type(value) is list and step < len(value) else UNSET
    return value.get(step, UNSET) if type(value) is dict else UNSET
