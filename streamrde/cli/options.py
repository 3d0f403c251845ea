"""Options that several commands share, and options from a configuration's keys."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
import typer
from msgspec import inspect as types

from streamrde.cli.documented import documented
from streamrde.errors import ConfigError

DIALECT: Mapping[str, tuple[str, ...]] = {
    "delimiter": (), "decimal": (), "thousands": (), "skip": ("--skip-lines",), "comment": (), "encoding": (),
}  # fmt: skip
"""Keys of `[columns.csv]` with an option."""

F = TypeVar("F", bound=Callable[..., None])
Flags: TypeAlias = Mapping[str, tuple[str, ...]]
"""Keys of a configuration with an option, and its flags. () = the key's name is the flag."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
SourceKeys = Annotated[
    list[str] | None,
    typer.Option("--source", metavar="KEY=VALUE", help="Further keys of [source], such as user=me. May be repeated."),
]
Where = Annotated[
    list[str] | None,
    typer.Option("--where", help="Rows to train on, as data.filters: 'site == A', 'hr > 40'. May be repeated."),
]


def filters_of(where: list[str] | None) -> list[str]:
    """Return the setting of data.filters for rows given as text, or an empty list if there are none."""
    from streamrde import toml
    from streamrde.connectors.files.filters import parse_filter

    return [f"data.filters={toml.value([*map(parse_filter, where)])}"] if where else []


def split(names: str) -> tuple[str, ...]:
    """Split a comma-separated list into names."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def with_options(*keys: tuple[type[msgspec.Struct], Flags]) -> Callable[[F], F]:
    """Give a command, instead of its ``**options``, an option for each of these keys of configurations.

    An option's help is its key's docstring and default. Several names are given comma-separated, filters and units one
    at a time.
    """

    def add(command: F) -> F:
        own = inspect.signature(command, eval_str=True)
        parameters = [one for one in own.parameters.values() if one.kind is not one.VAR_KEYWORD]
        for kind, flags in keys:
            fields, texts = _fields(kind), documented(kind)
            parameters += [_parameter(fields[name], own, texts[name]) for name, own in flags.items()]
        setattr(command, "__signature__", own.replace(parameters=parameters))  # noqa: B010 (functions do not declare it)
        return command

    return add


def given_options(kind: type[msgspec.Struct], flags: Flags, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys' values of the options that were given."""
    fields = _fields(kind)
    return {name: _value(fields[name].type, options[name]) for name in flags if options[name] not in (None, False)}


def _fields(kind: type[msgspec.Struct]) -> dict[str, types.Field]:
    described = types.type_info(kind)
    assert isinstance(described, types.StructType)  # noqa: S101 (what a struct's type is)
    return {field.name: field for field in described.fields}


def _parameter(field: types.Field, flags: tuple[str, ...], text: str) -> inspect.Parameter:
    kind, default = field.type, field.default
    shown = f" [{default}]" if default and isinstance(default, str | int) else ""
    metavar = "|".join(map(str, kind.values)) if isinstance(kind, types.LiteralType) else None
    least = kind.ge if isinstance(kind, types.IntType) else None
    option = typer.Option(
        *(flags or (f"--{field.name.replace('_', '-')}",)), help=f"{text}{shown}", metavar=metavar, min=least
    )
    plain: Any = str | None
    if isinstance(kind, types.BoolType):
        plain = bool
    elif isinstance(kind, types.IntType):
        plain = int | None
    elif isinstance(kind, types.FloatType):
        plain = float | None
    elif isinstance(kind, types.DictType) or _is_table(kind):
        plain = list[str] | None
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=False if plain is bool else None,
        annotation=Annotated[plain, option],
    )


def _is_table(kind: types.Type) -> bool:
    """Return True for filters, each of which is a tuple itself."""
    return isinstance(kind, types.VarTupleType) and isinstance(kind.item_type, types.TupleType)


def _value(kind: types.Type, given: Any) -> Any:
    from streamrde.connectors.files.filters import parse_filter

    if isinstance(kind, types.DictType):
        return dict(map(_unit, given))
    if _is_table(kind):
        return tuple(map(parse_filter, given))
    return split(given) if isinstance(kind, types.VarTupleType) else given


def _unit(text: str) -> tuple[str, str]:
    column, equals, unit = text.partition("=")
    if not equals:
        raise ConfigError(f"--unit {text!r}: write COLUMN=UNIT, such as ax=m/s2")
    return column, unit
