"""Describe how a table of text is written: the table `[columns.csv]` of a configuration."""

from __future__ import annotations

import codecs

import msgspec

from streamrde import toml
from streamrde.errors import ConfigError

_IN_NUMBERS = set("0123456789+-eE\n\r")


class Dialect(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say how files of text (.csv, .tsv, .txt and .dat) are written."""

    delimiter: str = ""
    """Character between columns. If "", a comma, or a tab in .tsv files. A space is any number of spaces and tabs."""
    decimal: str = "."
    """Decimal sign of numbers: a point or a comma."""
    thousands: str = ""
    """Sign that parts thousands in numbers: a comma, a point, a space or an apostrophe. If "", there is none."""
    skip: int = 0
    """Lines to skip at the beginning of a file, before the header."""
    header: bool = True
    """The first line holds the columns' names. If false, columns are called 0, 1, 2, and so on."""
    units_row: bool | int = False
    """The line below the header holds units and is not data. A number leaves out so many lines, with units first."""
    comment: str = ""
    """Character with which lines begin that are not data. A header may begin with it. If "", there is none."""
    encoding: str = "utf-8"
    """Encoding of the text, such as utf-8, utf-16 or cp1252 (Windows, Western Europe)."""
    quote: str = '"'
    """Character around values that hold a delimiter or a line break. If "", there is none."""

    def __post_init__(self) -> None:
        for name in ("delimiter", "decimal", "thousands", "comment", "quote"):
            value = getattr(self, name)
            if len(value) > 1 or value in ("\n", "\r"):
                raise ConfigError(f"csv.{name} = {value!r}: give one character")
        if self.decimal not in (".", ","):
            raise ConfigError(f'csv.decimal = {self.decimal!r}: give "." or ","')
        if self.thousands in _IN_NUMBERS or self.thousands == self.decimal:
            raise ConfigError(f"csv.thousands = {self.thousands!r}: give a sign that numbers do not have otherwise")
        if self.delimiter in _IN_NUMBERS - {""} or (self.delimiter and self.delimiter in self.quote):
            raise ConfigError(f"csv.delimiter = {self.delimiter!r}: give a sign that values do not have")
        if self.skip < 0:
            raise ConfigError(f"csv.skip = {self.skip}: give the number of lines before the header, 0 or more")
        if self.units_row < 0:
            raise ConfigError(f"csv.units_row = {self.units_row}: give the number of lines below the header, 0 or more")
        if self.units_row and not self.header:
            raise ConfigError("csv.units_row: a file without a header has no line below it; skip the line instead")
        if self.comment and self.comment in (self.delimiter, self.quote):
            raise ConfigError(f"csv.comment = {self.comment!r} is also the delimiter or the quote: give another one")
        try:
            codecs.lookup(self.encoding)
        except LookupError:
            raise ConfigError(
                f'csv.encoding = {self.encoding!r} is not known: give one such as "utf-8", "utf-16" or "cp1252"'
            ) from None

    def between(self, name: str) -> str:
        """Return the delimiter in a file of this name."""
        if self.delimiter:
            return self.delimiter
        return "\t" if ".tsv" in name.lower()[-8:] else ","

    def toml(self) -> str:
        """Return the keys that differ from the defaults, as a table for `[columns]`."""
        own = {name: getattr(self, name) for name in self.__struct_fields__}
        changed = [f"{name} = {toml.value(value)}" for name, value in own.items() if value != getattr(PLAIN, name)]
        return f"csv = {{ {', '.join(changed)} }}" if changed else ""


PLAIN = Dialect()
"""The usual way: commas, decimal points, a header in the first line, UTF-8."""
