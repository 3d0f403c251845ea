"""Read what the keys of a configuration mean from the classes that hold them."""

from __future__ import annotations

import ast
import functools
import inspect
import re
import textwrap

import msgspec

# Headings that may follow the arguments in a docstring.
_AFTER = "Raises|Returns|Reference|Attributes"


@functools.lru_cache(maxsize=256)
def documented(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text of each documented field: the docstring below it, or its entry under ``Args:`` in the class's.

    A field's own text wins over that of a class above.
    """
    found: dict[str, str] = {}
    for own in reversed(kind.__mro__):
        if issubclass(own, msgspec.Struct) and own is not msgspec.Struct:
            try:
                source = textwrap.dedent(inspect.getsource(own))
            except (OSError, TypeError):
                continue  # defined where no file is
            found |= _arguments(own.__doc__ or "")
            found |= _below(source)
    return found


def _below(source: str) -> dict[str, str]:
    (definition,) = ast.parse(source).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 (what the source of a class is)
    found, field = {}, None
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            field = statement.target.id
            continue
        text = statement.value if isinstance(statement, ast.Expr) else None
        if field is not None and isinstance(text, ast.Constant) and isinstance(text.value, str):
            found[field] = on_one_line(text.value)
        field = None
    return found


def _arguments(docstring: str) -> dict[str, str]:
    match = re.search(rf"\n\s*Args:\n(?P<entries>.*?)(?:\n\s*(?:{_AFTER})\b.*)?\Z", docstring, re.DOTALL)
    if match is None:
        return {}
    entries = textwrap.dedent(match["entries"])
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=\S)", entries.strip("\n")):
        names, colon, text = entry.partition(":")
        if colon:
            found |= {name.strip(): on_one_line(text) for name in names.split(",")}
    return found


def on_one_line(text: str) -> str:
    """Return a text of several lines on one line, without marks of code."""
    return " ".join(text.split()).replace("``", "").replace("`", "")
