"""Descriptions of how text files are written."""

from __future__ import annotations

import tomllib

import msgspec
import pytest

from streamrde.connectors.dialect import Dialect
from streamrde.errors import ConfigError


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"delimiter": ";;"}, "csv.delimiter = ';;': give one character"),
        ({"delimiter": "5"}, "csv.delimiter = '5'"),
        ({"delimiter": '"'}, "csv.delimiter"),
        ({"decimal": ""}, "csv.decimal = ''"),
        ({"decimal": "·"}, "csv.decimal"),
        ({"thousands": "."}, "csv.thousands = '.'"),
        ({"skip": -1}, "csv.skip = -1"),
        ({"header": False, "units_row": True}, "csv.units_row"),
        ({"comment": '"'}, "csv.comment"),
        ({"encoding": "utf-99"}, "csv.encoding = 'utf-99' is not known"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused_by_the_key(keys: dict[str, object], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        Dialect(**keys)  # type: ignore[arg-type]


def test_only_keys_that_differ_are_written_and_they_read_back() -> None:
    assert Dialect().toml() == ""
    own = Dialect(delimiter="\t", decimal=",", thousands="'", skip=3, header=True, units_row=True, quote="")
    table = tomllib.loads(own.toml())["csv"]
    assert "header" not in table
    assert msgspec.convert(table, Dialect) == own


def test_the_delimiter_follows_the_name_unless_it_is_given() -> None:
    assert Dialect().between("a.csv.gz") == ","
    assert Dialect().between("A.TSV") == "\t"
    assert Dialect().between("a.tsv.zst") == "\t"
    assert Dialect(delimiter=";").between("a.tsv") == ";"
