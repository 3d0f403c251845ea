"""Write the page of all keys of all configurations, from the classes that read them.

`python -m streamrde.cli.reference` prints it: docs/configuration.md is that text.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import NODEFAULT, inspect

from streamrde import toml
from streamrde.cli.documented import documented, on_one_line
from streamrde.cli.init import STRUCTS
from streamrde.nearest import either
from streamrde.settings import bounds_of, choices, has_kinds

_TITLES = {
    "fit": "Keys of `streamrde fit FILE.toml`",
    "train": "Keys of `streamrde train FILE.toml` and `streamrde sweep FILE.toml`",
    "score": "Keys of `streamrde score --config FILE.toml`",
    "run": "Keys of `streamrde run FILE.toml`",
}
_HEAD = """# Configuration

Each command that takes a TOML file reads the keys below. A key that has a default may be left out. A key that no
section has is an error, which names the nearest one.

`streamrde init fit`, `train`, `score` or `run` prints such a file with every key. `streamrde init DATA` looks at your
data and writes the keys that it needs.

"""


class Key(NamedTuple):
    """Describe one key of a section."""

    name: str
    type: str
    default: str
    text: str


class Section(NamedTuple):
    """Describe one table of a configuration. `path` is "" for the keys at its top."""

    path: str
    tag: str
    """The key and value that choose this table among several, such as `kind = "mqtt"`, or ""."""
    text: str
    keys: tuple[Key, ...]


def page() -> str:
    """Return the page in Markdown."""
    parts = [_HEAD]
    for command, title in _TITLES.items():
        module, name = STRUCTS[command].split(":")
        parts.append(f"## {title}\n\n")
        parts += [_section(own) for own in sections(getattr(importlib.import_module(module), name))]
    return "".join(parts).rstrip("\n") + "\n"


def sections(kind: type[msgspec.Struct]) -> Iterator[Section]:
    """Yield the sections of a configuration: the keys at its top, then each table, with all kinds that it may have.

    Kinds that come from other packages are left out.
    """
    root = inspect.type_info(kind)
    assert isinstance(root, inspect.StructType)  # noqa: S101 (what a struct's type is)
    yield from _tables(root, "", None)


def _tables(kind: inspect.StructType, path: str, above: Any) -> Iterator[Section]:
    texts, keys, inner = documented(kind.cls), [], []
    for field in kind.fields:
        default = _default(field, above)
        key = f"{path}.{field.encode_name}" if path else field.encode_name
        # Kinds of a table within a table are those of the table at the top.
        own_tables = [] if path and has_kinds(field.type) else tables_of(field.type)
        tables = [own for own in own_tables if own.cls.__module__.startswith("streamrde.")]
        inner += [(key, own, default, _several(field.type)) for own in tables]
        if not tables or field.name in texts:
            shown = "must be given" if field.required else _shown(default, bool(tables))
            keys.append(Key(field.encode_name, _type(field.type), shown, texts.get(field.name, "")))
    tag = f"{kind.tag_field} = {toml.value(kind.tag)}" if kind.tag_field else ""
    yield Section(path, tag, on_one_line((kind.cls.__doc__ or "").strip().split("\n\n")[0]), tuple(keys))
    for key, own, default, several in inner:
        default = default if isinstance(default, own.cls) else None
        yield from _tables(own, f"[{key}]" if several else key, default)


def tables_of(kind: inspect.Type) -> list[inspect.StructType]:
    """Return the tables that a key may have as its value, or as each of its values."""
    if isinstance(kind, inspect.VarTupleType):
        return tables_of(kind.item_type)
    found = []
    for member in choices(kind):
        found += [member] if isinstance(member, inspect.StructType) else []
        found += tables_of(member) if isinstance(member, inspect.VarTupleType) else []
    return found


def _several(kind: inspect.Type) -> bool:
    return any(isinstance(member, inspect.VarTupleType) for member in choices(kind))


def _default(field: inspect.Field, above: Any) -> Any:
    if above is not None:
        return getattr(above, field.name)
    if field.default is not NODEFAULT:
        return field.default
    return None if field.default_factory is NODEFAULT else field.default_factory()


def _shown(default: Any, table: bool) -> str:
    if default is None:
        return "left out"
    if isinstance(default, msgspec.Struct) or (table and not default):
        return "see its table" if isinstance(default, msgspec.Struct) else "none"
    if isinstance(default, Mapping):
        return "none" if not default else f"`{toml.value(default)}`"
    return f"`{toml.value(default)}`"


def _type(kind: inspect.Type) -> str:
    """Name a key's type in the words of TOML."""
    said = []
    for member in choices(kind):
        if isinstance(member, inspect.LiteralType):
            said.append(either(member.values))
        elif isinstance(member, inspect.IntType | inspect.FloatType):
            word = "whole number" if isinstance(member, inspect.IntType) else "number"
            said.append(f"{word} {bounds_of(member)}".strip())
        elif isinstance(member, inspect.StructType):
            said.append("table")
        elif isinstance(member, inspect.VarTupleType | inspect.ListType):
            said.append(f"list of: {_type(member.item_type)}")
        elif isinstance(member, inspect.TupleType):
            said.append(f"list of {len(member.item_types)}: {', '.join(map(_type, member.item_types))}")
        elif isinstance(member, inspect.DictType):
            said.append(f"table of: {_type(member.value_type)}")
        elif not isinstance(member, inspect.NoneType):
            said.append({inspect.StrType: "text", inspect.BoolType: "true or false"}.get(type(member), "any value"))
    return " or ".join(dict.fromkeys(said))


def _section(own: Section) -> str:
    heading = f"[{own.path}]" if own.path else "Top of the file"
    if own.tag:
        heading += f" with {own.tag}"
    lines = [f"### {heading.replace('[', chr(92) + '[')}", "", own.text, ""]
    if own.keys:
        lines += ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
        for key in own.keys:
            cells = (f"`{key.name}`", key.type, key.default, key.text)
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    r"""Write text for a cell of a table. Outside of code, signs of Markdown and HTML stand for themselves."""
    parts = text.replace("|", "\\|").split("`")
    for i in range(0, len(parts), 2):
        for sign in ("<", "*", "_", "[", "{"):
            parts[i] = parts[i].replace(sign, {"<": "&lt;"}.get(sign, f"\\{sign}"))
    return "`".join(parts)


if __name__ == "__main__":
    print(page(), end="")
