"""Turn tables of settings into structs. An error names the key, what is allowed there, and the nearest match."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import ge, gt, le, lt
from typing import Annotated, Any, Protocol, TypeAlias, TypeVar

import msgspec
from msgspec import inspect

from streamrde import toml
from streamrde.errors import ConfigError, StreamRDEError
from streamrde.nearest import did_you_mean, either, listed, nearest

S = TypeVar("S", bound=msgspec.Struct)
Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]

# Longer values are cut in messages.
_SHOWN = 60


class Registry(Protocol):
    """Choices that are found when they are needed: of a word, or of the struct that a table's `kind` names.

    A field has one by `Annotated[..., msgspec.Meta(extra={"registry": registry})]`.
    """

    elsewhere: Mapping[str, str]

    def names(self) -> list[str]:
        """Return all choices."""

    def find(self, name: object) -> type | None:
        """Return the class of a choice, or None if there is none."""

    def classes(self) -> Sequence[type]:
        """Return the classes of all choices that can be used."""


def convert(tables: Mapping[str, Any], kind: type[S]) -> S:
    """Turn tables into a struct.

    Tables whose struct a registry finds stand at the top, in such tables, or in a table at the top. A struct's
    classmethod `prepared` may put keys of one table into others first.

    Raises:
        ConfigError: a key is unknown, missing or of a wrong type, or a value cannot work; names the key by its dotted
            path, the allowed values, and the nearest one to a word.
    """
    problem = _problem(tables, inspect.type_info(kind), "", kind)
    if problem is not None:
        raise ConfigError(problem)
    if (prepared := getattr(kind, "prepared", None)) is not None:
        tables = prepared(tables)
    struct: S = _built(tables, kind, "")
    return struct


def _built(tables: Mapping[str, Any], kind: Any, path: str) -> Any:
    """Turn tables into a struct, those first whose structs registries find."""

    def chosen(registry: Registry, table: Mapping[str, Any], place: str) -> Any:
        return _built(table, registry.find(table["kind"]), place)

    found: dict[str, Any] = {}
    for name, (registry, several) in _registries(kind).items():
        if (value := tables.get(name)) is None:
            continue
        place = _join(path, name)
        if several:
            found[name] = {key: chosen(registry, one, _join(place, key)) for key, one in value.items()}
        else:
            found[name] = chosen(registry, value, place)
    for name, struct in _holders(kind).items():
        if tables.get(name) is not None:
            found[name] = _built(tables[name], struct, _join(path, name))
    return _converted({**tables, **found}, kind, path)


def _converted(tables: Mapping[str, Any], kind: Any, path: str) -> Any:
    try:
        return msgspec.convert(tables, kind)
    except StreamRDEError as error:
        raise ConfigError(str(error)) from None
    except msgspec.ValidationError as error:
        # A message of msgspec ends with the key's path: what a struct's own checks raise.
        match = re.fullmatch(r"(?P<text>.*) - at `\$\.?(?P<path>.*)`", str(error), re.DOTALL)
        text, inside = (str(error), "") if match is None else (match["text"], match["path"])
        place = _join(path, inside) if inside else path
        raise ConfigError(f"{place}: {text}" if place else text) from None


def _registries(kind: type) -> dict[str, tuple[Registry, bool]]:
    """Return the registry of each key that has one, and if its table has a table for each name."""
    found: dict[str, tuple[Registry, bool]] = {}
    for field in inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        several = isinstance(field.type, inspect.DictType)
        for member in _members(field.type.value_type if several else field.type):
            # A word stays one, whatever it chooses.
            if (registry := _registry(member)) is not None and not isinstance(member.type, inspect.StrType):  # type: ignore[attr-defined]
                found[field.encode_name] = registry, several
    return found


def _holders(kind: type) -> dict[str, type]:
    """Return the struct of each key whose table has keys with a registry."""
    fields: Iterable[inspect.Field] = inspect.type_info(kind).fields  # type: ignore[attr-defined]
    members = ((field.encode_name, one) for field in fields for one in _members(field.type))
    return {name: one.cls for name, one in members if isinstance(one, inspect.StructType) and _registries(one.cls)}


def _members(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _registry(kind: inspect.Type) -> Registry | None:
    return (kind.extra or {}).get("registry") if isinstance(kind, inspect.Metadata) else None


def has_kinds(kind: inspect.Type) -> bool:
    """Return True if a registry finds the struct of a value."""
    return any(_registry(member) is not None for member in _members(kind))


def choices(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    """Return the types that a value may have: the members of a union, and all that a registry has."""
    found: list[inspect.Type] = []
    for member in _members(kind):
        if (registry := _registry(member)) is None:
            found.append(member.type if isinstance(member, inspect.Metadata) else member)
        elif isinstance(member.type, inspect.StrType):  # type: ignore[attr-defined]
            found.append(inspect.LiteralType(tuple(registry.names())))
        else:
            found += map(inspect.type_info, registry.classes())
    return tuple(found)


def _problem(value: Any, kind: inspect.Type, path: str, root: type[msgspec.Struct]) -> str | None:
    if (registry := _registry(kind)) is not None:
        return _registry_problem(value, kind, registry, path, root)
    if isinstance(kind, inspect.UnionType):
        return _union_problem(value, kind, path, root)
    if not _fits(value, kind):
        return _wrong(value, kind, path)
    if isinstance(kind, inspect.StructType):
        return _struct_problem(value, kind, path, root)
    if isinstance(kind, inspect.LiteralType):
        return None if _chosen(value, kind) else _wrong(value, kind, path)
    if isinstance(kind, inspect.TupleType) and len(value) != len(kind.item_types):
        return _wrong(value, kind, path)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        within = not math.isnan(value) and all(holds(value, bound) for _, bound, holds in _bounds(kind))
        return None if within else _wrong(value, kind, path)
    return next((p for item, own, at in _inside(value, kind, path) if (p := _problem(item, own, at, root))), None)


def _struct_problem(
    value: Mapping[str, Any], kind: inspect.StructType, path: str, root: type[msgspec.Struct]
) -> str | None:
    own = {field.encode_name: field for field in kind.fields}
    allowed = [*([kind.tag_field] if kind.tag_field else []), *own]
    for name in value if kind.forbid_unknown_fields else ():
        if name not in allowed:
            return _unknown(name, allowed, path, root)
    if kind.tag_field is not None and value.get(kind.tag_field) != kind.tag and kind.tag_field in value:
        return _wrong_choice(value[kind.tag_field], [kind.tag], _join(path, kind.tag_field))
    for name, field in own.items():
        if name not in value:
            if field.required:
                return f"'{_join(path, name)}' is missing: give {_article(field.type)}"
            continue
        if (problem := _problem(value[name], field.type, _join(path, name), root)) is not None:
            return problem
    return None


def _member_with(names: Iterable[str], structs: list[inspect.StructType]) -> str:
    """Name the tables that have one of these keys, in brackets, or return ""."""
    keys = {member.tag: [field.encode_name for field in member.fields] for member in structs}
    for name in names:
        if tags := [repr(tag) for tag, own in keys.items() if name in own]:
            return f" ({listed(tags, most=3)} {'has' if len(tags) == 1 else 'have'} the key '{name}')"
    close = ((tag, found) for tag, own in keys.items() for name in names if (found := nearest(name, own)))
    tag, found = next(close, (None, None))
    return "" if found is None else f" ('{tag}' has the key '{found}')"


def _registry_problem(
    value: Any, kind: inspect.Type, registry: Registry, path: str, root: type[msgspec.Struct]
) -> str | None:
    if isinstance(kind.type, inspect.StrType):  # type: ignore[attr-defined]
        return None if registry.find(value) else _wrong_choice(value, registry.names(), path)
    if not isinstance(value, Mapping):
        return _wrong(value, kind, path)
    if (chosen := registry.find(value.get("kind"))) is not None:
        return _problem(value, inspect.type_info(chosen), path, root)
    if (reason := registry.elsewhere.get(str(value.get("kind")))) is not None:
        return f"{_join(path, 'kind')} = {_shown(value['kind'])}: {reason}"
    return _kinds_problem(value, [own for own in choices(kind) if isinstance(own, inspect.StructType)], path, root)


def _kinds_problem(
    value: Mapping[str, Any], structs: list[inspect.StructType], path: str, root: type[msgspec.Struct]
) -> str | None:
    field = structs[0].tag_field or ""
    tags = [member.tag for member in structs]
    if field not in value:
        if usual := [member for member in structs if getattr(member.cls, "usual", False)]:
            return _struct_problem(value, usual[0], path, root)
        return f"'{_join(path, field)}' is missing: use {either(tags)}{_member_with(value, structs)}"
    chosen = next((member for member in structs if member.tag == value[field]), None)
    if chosen is None:
        return _wrong_choice(value[field], tags, _join(path, field), structs)
    return _struct_problem(value, chosen, path, root)


def _union_problem(value: Any, kind: inspect.UnionType, path: str, root: type[msgspec.Struct]) -> str | None:
    structs = [member for member in kind.types if isinstance(member, inspect.StructType)]
    if isinstance(value, Mapping) and len(structs) > 1:
        return _kinds_problem(value, structs, path, root)
    problems = []
    for member in kind.types:
        if _fits(value, member):
            problem = _problem(value, member, path, root)
            if problem is None:
                return None
            problems.append(problem)
    # A choice between words and numbers: name all of it.
    simple = all(isinstance(m, inspect.LiteralType | inspect.IntType | inspect.FloatType) for m in kind.types)
    return problems[0] if problems and not simple else _wrong(value, kind, path)


def _unknown(name: str, allowed: list[str], path: str, root: type[msgspec.Struct]) -> str:
    where = f"[{path}]" if path else "the file"
    has = f"{where} may have {listed(allowed)}"
    keys = sorted(keys_of(root))
    elsewhere = [key for key in keys if key.rsplit(".", 1)[-1] == name]
    near = nearest(name, allowed)
    if _join(path, name) in keys:
        hint = ": it is a key of another kind of this table;"
    elif near is not None:
        hint = f"; did you mean '{_join(path, near)}'?"
    elif elsewhere:
        hint = f"; did you mean '{elsewhere[0]}'?"
    else:
        close = nearest(name, [key.rsplit(".", 1)[-1] for key in keys])
        found = [key for key in keys if key.rsplit(".", 1)[-1] == close]
        hint = f"; did you mean '{found[0]}'?" if found else ";"
    return f"unknown key '{_join(path, name)}'{hint} {has}"


def keys_of(kind: type[msgspec.Struct]) -> set[str]:
    """Return all keys of a struct and of the structs in it, dotted."""
    found: set[str] = set()
    pending: list[tuple[str, inspect.Type]] = [("", inspect.type_info(kind))]
    while pending:
        path, own = pending.pop()
        if isinstance(own, inspect.UnionType | inspect.Metadata):
            pending += [(path, member) for member in choices(own)]
        elif isinstance(own, inspect.StructType):
            found |= {_join(path, field.encode_name) for field in own.fields}
            pending += [(_join(path, field.encode_name), field.type) for field in own.fields]
    return found


def _fits(value: Any, kind: inspect.Type) -> bool:
    """Return True if a value is of the sort that a type takes, its range aside."""
    if isinstance(value, bool):
        return isinstance(kind, inspect.BoolType | inspect.AnyType) or (
            isinstance(kind, inspect.LiteralType) and _chosen(value, kind)
        )
    if isinstance(kind, inspect.StructType | inspect.DictType):
        return isinstance(value, Mapping)
    if isinstance(kind, inspect.IntType):
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(kind, inspect.FloatType):
        return isinstance(value, int | float)
    if isinstance(kind, inspect.LiteralType):
        return isinstance(value, tuple({type(choice) for choice in kind.values}))
    if isinstance(kind, inspect.VarTupleType | inspect.TupleType | inspect.ListType):
        return isinstance(value, list | tuple)
    if isinstance(kind, inspect.StrType):
        return isinstance(value, str)
    if isinstance(kind, inspect.UnionType):
        return any(_fits(value, member) for member in kind.types)
    if isinstance(kind, inspect.Metadata):
        return isinstance(value, str if isinstance(kind.type, inspect.StrType) else Mapping)
    if isinstance(kind, inspect.NoneType):
        return value is None
    # Types that no table of ours has are msgspec's to judge.
    return not isinstance(kind, inspect.BoolType)


def _chosen(value: Any, kind: inspect.LiteralType) -> bool:
    return any(value == choice and type(value) is type(choice) for choice in kind.values)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> list[tuple[str, float, Callable[[float, float], bool]]]:
    bounds = ((">", kind.gt, gt), (">=", kind.ge, ge), ("<", kind.lt, lt), ("<=", kind.le, le))
    return [(sign, bound, holds) for sign, bound, holds in bounds if bound is not None]


def bounds_of(kind: inspect.IntType | inspect.FloatType) -> str:
    """Return the range of a number in signs, such as "> 0 and <= 1", or ""."""
    return " and ".join(f"{sign} {bound:g}" for sign, bound, _ in _bounds(kind))


def _inside(value: Any, kind: inspect.Type, path: str) -> Iterator[tuple[Any, inspect.Type, str]]:
    """Yield the items of a list or a table with their types and paths."""
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        yield from ((item, kind.item_type, f"{path}[{i}]") for i, item in enumerate(value))
    elif isinstance(kind, inspect.TupleType) and len(value) == len(kind.item_types):
        yield from ((*pair, f"{path}[{i}]") for i, pair in enumerate(zip(value, kind.item_types, strict=True)))
    elif isinstance(kind, inspect.DictType):
        yield from ((item, kind.value_type, _join(path, name)) for name, item in value.items())


def _wrong(value: Any, kind: inspect.Type, path: str) -> str:
    hint = ""
    members = choices(kind)
    if len(members) == 1 and isinstance(members[0], inspect.LiteralType):
        return _wrong_choice(value, members[0].values, path)
    if isinstance(value, str):
        words = [str(word) for own in members if isinstance(own, inspect.LiteralType) for word in own.values]
        hint = did_you_mean(value, words)
        if any(isinstance(own, inspect.VarTupleType) for own in members):
            hint = f"; write [{toml.value(value)}]"
        elif _is_number(value) and any(isinstance(own, inspect.IntType | inspect.FloatType) for own in members):
            hint = f"; write {value} without quotes"
    return f"{path or 'the file'} = {_shown(value)}: expected {_article(kind)}{hint}"


def _wrong_choice(value: Any, choices: Any, path: str, structs: list[inspect.StructType] | None = None) -> str:
    hint = ""
    if isinstance(value, str):
        hint = did_you_mean(value, [str(choice) for choice in choices]) or _member_with([value], structs or [])
    elif str(value) in choices:
        hint = f'; write "{value}", with quotes'
    return f"{path} = {_shown(value)}: use {either(choices)}{hint}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _shown(value: Any) -> str:
    text = toml.value(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _article(kind: inspect.Type) -> str:
    """Return what is allowed, in words."""
    if isinstance(kind, inspect.UnionType | inspect.Metadata):
        members = [member for member in choices(kind) if not isinstance(member, inspect.NoneType)]
        tagged = [own for own in members if isinstance(own, inspect.StructType) and own.tag_field]
        if len(tagged) > 1:
            return f"a table with {tagged[0].tag_field} = {either([own.tag for own in tagged])}"
        parts = [_article(member) for member in members]
        return " or ".join(dict.fromkeys(parts))
    if isinstance(kind, inspect.LiteralType):
        return either(kind.values)
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        name = "a whole number" if isinstance(kind, inspect.IntType) else "a number"
        return f"{name} {bounds_of(kind)}".strip()
    if isinstance(kind, inspect.StructType):
        names = [*([kind.tag_field] if kind.tag_field else []), *(field.encode_name for field in kind.fields)]
        return f"a table with {listed(names, most=8)}"
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return f"a list of which each is {_article(kind.item_type)}"
    if isinstance(kind, inspect.TupleType):
        return f"a list of {len(kind.item_types)}: {', '.join(map(_article, kind.item_types))}"
    if isinstance(kind, inspect.DictType):
        return "a table"
    return {inspect.StrType: "text", inspect.BoolType: "true or false"}.get(type(kind), "another value")


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
