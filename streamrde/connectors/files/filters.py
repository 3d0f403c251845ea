"""Choose rows of a recording by comparisons of columns with values, all of which must hold."""

from __future__ import annotations

import operator
import re
from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from streamrde.errors import ConfigError, DataError

Comparison: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">=", "in", "not in"]
Value: TypeAlias = str | int | float | bool
Filter: TypeAlias = tuple[str, Comparison, Value | tuple[Value, ...]]
"""Column, comparison, and a value (a list of values for "in" and "not in")."""

_COMPARE = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
_TEXT = re.compile(r"\s*(?P<column>.+?)\s*(?P<op>==|!=|<=|>=|<|>|\bnot in\b|\bin\b)\s*(?P<value>.+?)\s*")


def parse_filter(text: str) -> Filter:
    """Parse a filter such as ``site == A``, ``hr > 40`` or ``day in 3, 4``. Text that is a number becomes one.

    Raises:
        ConfigError: the text has no comparison.
    """
    match = _TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is not a filter: write COLUMN COMPARISON VALUE, with one of {', '.join(get_args(Comparison))}"
        )
    column, comparison, value = match["column"], match["op"], match["value"]
    if comparison in ("in", "not in"):
        return column, comparison, tuple(_value(part) for part in value.split(","))  # type: ignore[return-value]
    return column, comparison, _value(value)  # type: ignore[return-value]


def check_filters(filters: Sequence[Filter]) -> None:
    """Raise ConfigError where a comparison has the wrong kind of value."""
    for column, comparison, value in filters:
        many = comparison in ("in", "not in")
        if many != isinstance(value, tuple):
            wanted = "a list of values" if many else "one value"
            raise ConfigError(f"filter on {column!r}: {comparison!r} takes {wanted}, not {value!r}")


def expression(filters: Sequence[Filter], schema: pa.Schema, texts: Collection[str] = ()) -> pc.Expression | None:
    """Join the filters into one expression over columns of `schema`, or return None without any.

    Args:
        filters: checked.
        schema: has the filters' columns; a value is compared as its column's type.
        texts: columns that hold numbers as text where they are compared with numbers: parts of a file's path.
    """
    result = None
    for column, comparison, value in filters:
        field, kind = pc.field(column), schema.field(column).type
        values = value if isinstance(value, tuple) else (value,)
        if column in texts and all(isinstance(v, int | float) for v in values):
            field = field.cast(pa.string()).cast(pa.float64())
        operands = [_operand(v, kind) for v in values]
        if comparison in ("in", "not in"):
            term = field.isin(pa.array([o.as_py() if isinstance(o, pa.Scalar) else o for o in operands]))
            term = ~term if comparison == "not in" else term
        else:
            term = _COMPARE[comparison](field, operands[0])
        result = term if result is None else result & term
    return result


def select(table: pa.Table, filters: Sequence[Filter], *, where: str, texts: Collection[str] = ()) -> pa.Table:
    """Return the rows for which all filters hold. A null satisfies none.

    Args:
        where: the file, for the error.
    Raises:
        DataError: a value cannot be compared with its column.
    """
    try:
        condition = expression(filters, table.schema, texts)
        return table if condition is None else table.filter(condition)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        reason = str(error).split("\n")[0]
        columns = ", ".join(
            f"{column!r} ({table.schema.field(column).type}) {op} {value!r}" for column, op, value in filters
        )
        raise DataError(
            f"{where}: the filter {columns} does not fit the column ({reason}); give a value of its type", path=where
        ) from None


def _operand(value: Value, kind: pa.DataType) -> Any:
    is_time = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    return pa.scalar(value).cast(kind) if is_time and isinstance(value, str) else value


def _value(text: str) -> Value:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    try:
        value = msgspec.json.decode(text, type=bool | int | float)
    except msgspec.MsgspecError:
        return text
    return value
