"""A configuration with every key and its default, written from the classes that read it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import NODEFAULT, inspect

from streamrde import toml
from streamrde.cli.documented import documented, on_one_line
from streamrde.nearest import either
from streamrde.settings import bounds_of, choices

_WIDTH = 120


def template(kind: type[msgspec.Struct], examples: Mapping[str, Any]) -> str:
    """Return TOML with all keys of `kind`: each with what it means, what it may be and its default.

    Keys without a default value, and tables that are left out by default, stand in comments.

    Args:
        examples: values, by dotted key, that are written instead of defaults; of keys without a default at least.
    """
    writer = _Writer(examples)
    root = inspect.type_info(kind)
    assert isinstance(root, inspect.StructType)  # noqa: S101 (what a struct's type is)
    writer.table(root, "", None)
    return "\n".join(writer.lines).strip("\n") + "\n"


class _Writer:
    def __init__(self, examples: Mapping[str, Any]) -> None:
        self.lines: list[str] = []
        self._examples = examples

    def table(
        self, kind: inspect.StructType, path: str, default: Any, *, off: bool = False, tags: Sequence[object] = ()
    ) -> None:
        """Write a table: its plain keys first, as TOML wants it, then the tables in it.

        Args:
            default: the struct whose values are the defaults; None: those of its class.
            off: in comments.
            tags: those of the tables that may stand here.
        """
        sign = "# " if off else ""
        if path:
            self.lines += [
                "",
                *self._comment(on_one_line((kind.cls.__doc__ or "").strip().split("\n\n")[0])),
                f"{sign}[{path}]",
            ]
        if kind.tag_field is not None:
            self.lines += self._comment(f"Which kind of table this is: {either(tags)}.")
            self.lines.append(f"{sign}{kind.tag_field} = {toml.value(kind.tag)}")
        texts, tables = documented(kind.cls), []
        for field in kind.fields:
            key = f"{path}.{field.encode_name}" if path else field.encode_name
            own = _structs(field.type)
            if own:
                tables.append((key, field, own))
                continue
            value = self._default(key, field, default)
            self.lines += self._comment(_sentence(texts.get(field.name, "")) + _allowed(field))
            left_out = value is None
            shown = "..." if left_out else toml.value(value)
            self.lines.append(f"{'# ' if left_out else sign}{field.encode_name} = {shown}")
        for key, field, own in tables:
            self._inner(key, field, own, default, off=off)

    def _inner(self, key: str, field: inspect.Field, own: list[inspect.StructType], default: Any, *, off: bool) -> None:
        value = self._default(key, field, default)
        value = value if isinstance(value, msgspec.Struct) else None
        tag = self._examples.get(f"{key}.kind")
        chosen = next((kind for kind in own if isinstance(value, kind.cls) or kind.tag == tag), None)
        off = off or (value is None and not field.required)
        first, tags = chosen or own[0], [kind.tag for kind in own]
        several = isinstance(field.type, inspect.VarTupleType)
        self.table(first, key, value, off=off or several, tags=tags)
        if several:
            self.lines = [line.replace(f"# [{key}]", f"# [[{key}]]") for line in self.lines]
        for other in own:
            if other is not first:
                self.lines += ["", f"# Or, instead of the table [{key}] above:"]
                inside = _Writer(self._examples)
                inside.table(other, key, None, off=True, tags=tags)
                self.lines += [line for line in inside.lines if line]

    def _default(self, key: str, field: inspect.Field, above: Any) -> Any:
        if key in self._examples:
            return self._examples[key]
        if above is not None:
            return getattr(above, field.name)
        if field.default is not NODEFAULT:
            return field.default
        return None if field.default_factory is NODEFAULT else field.default_factory()

    def _comment(self, text: str) -> list[str]:
        wrapped = textwrap.wrap(text, _WIDTH - 2, break_long_words=False, break_on_hyphens=False)
        return [f"# {line}" for line in wrapped]


def _structs(kind: inspect.Type) -> list[inspect.StructType]:
    """Return the tables that a key may have, none if it has a plain value."""
    if isinstance(kind, inspect.VarTupleType):
        # Channels may be plain names; topics may not.
        inner = _structs(kind.item_type)
        return [] if any(field.name == "name" and field.required for own in inner for field in own.fields) else inner
    return [member for member in choices(kind) if isinstance(member, inspect.StructType)]


def _allowed(field: inspect.Field) -> str:
    """Format the choices or the range of a key as a sentence after a space."""
    said = []
    for member in choices(field.type):
        if isinstance(member, inspect.LiteralType):
            said.append(either(member.values))
        elif isinstance(member, inspect.IntType | inspect.FloatType):
            said += [bounds] if (bounds := bounds_of(member)) else []
    text = f" Allowed: {' or '.join(said)}." if said else ""
    return f"{text} Must be given." if field.required else text


def _sentence(text: str) -> str:
    if text.split(" ")[0].rstrip(",;:").isalpha():
        text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "?", "!")) else f"{text}."
