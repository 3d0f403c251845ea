"""The types of Kafka's protocol: read from a frame, appended to one.

Reference: https://kafka.apache.org/protocol#protocol_types, and KIP-482 for the flexible versions, which have compact
lengths and tagged fields.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

Read = Callable[["Frame"], Any]
Write = Callable[[bytearray, Any], None]


class Frame:
    """Bytes that are read from the front."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        """Read as many bytes."""
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size : self.at]


def read_unsigned(frame: Frame) -> int:
    """Read a varint of seven bits a byte."""
    value = shift = 0
    while True:
        byte = frame.data[frame.at]
        frame.at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value
        shift += 7


def write_unsigned(out: bytearray, value: int) -> None:
    """Append a varint of seven bits a byte."""
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def read_signed(frame: Frame) -> int:
    """Read a zigzag varint, as records have them."""
    value = read_unsigned(frame)
    return value >> 1 ^ -(value & 1)


def write_signed(out: bytearray, value: int) -> None:
    """Append a zigzag varint."""
    write_unsigned(out, value << 1 if value >= 0 else (-value << 1) - 1)


def _number(form: str) -> tuple[Read, Write]:
    form = struct.Struct(form)

    def read(frame: Frame) -> Any:
        value = form.unpack_from(frame.data, frame.at)[0]
        frame.at += form.size
        return value

    def write(out: bytearray, value: Any) -> None:
        out += form.pack(value)

    return read, write


NUMBERS = {"i8": _number(">b"), "i16": _number(">h"), "i32": _number(">i"), "i64": _number(">q"), "bool": _number(">?")}


def _length(kind: str, flexible: bool) -> tuple[Read, Write]:
    """Lengths, -1 for null: of two bytes in strings and four elsewhere, or compact."""
    if flexible:
        return (lambda frame: read_unsigned(frame) - 1), (lambda out, size: write_unsigned(out, size + 1))
    return NUMBERS["i16" if kind == "str" else "i32"]


def _sized(kind: str, flexible: bool, nullable: bool) -> tuple[Read, Write]:
    read_length, write_length = _length(kind, flexible)

    def read(frame: Frame) -> Any:
        size = read_length(frame)
        if size < 0:
            if not nullable:
                raise ValueError(f"null in a {kind} that cannot be")
            return None
        value = frame.take(size)
        return value.decode() if kind == "str" else value

    def write(out: bytearray, value: Any) -> None:
        if value is None:
            if not nullable:
                raise ValueError(f"null in a {kind} that cannot be")
            write_length(out, -1)
            return
        value = value.encode() if kind == "str" else value
        write_length(out, len(value))
        out += value

    return read, write


def _uuid(frame: Frame) -> uuid.UUID:
    return uuid.UUID(bytes=frame.take(16))


def plain(kind: str, flexible: bool) -> tuple[Read, Write]:
    """A type by its name in messages.py; ``?`` before it lets it be null."""
    if kind in NUMBERS:
        return NUMBERS[kind]
    if kind == "uuid":
        return _uuid, lambda out, value: out.extend(value.bytes)
    return _sized(kind.removeprefix("?"), flexible, kind.startswith("?"))


def array(element: tuple[Read, Write], flexible: bool, nullable: bool) -> tuple[Read, Write]:
    """A list of one type."""
    read_length, write_length = _length("array", flexible)
    read_one, write_one = element

    def read(frame: Frame) -> list[Any] | None:
        size = read_length(frame)
        if size < 0 and not nullable:
            raise ValueError("null in an array that cannot be")
        return None if size < 0 else [read_one(frame) for _ in range(size)]

    def write(out: bytearray, values: list[Any] | None) -> None:
        if values is None and not nullable:
            raise ValueError("null in an array that cannot be")
        write_length(out, -1 if values is None else len(values))
        for value in values or ():
            write_one(out, value)

    return read, write


def optional(value: tuple[Read, Write]) -> tuple[Read, Write]:
    """A structure that may be null, after a byte that tells."""
    read_value, write_value = value

    def read(frame: Frame) -> Any:
        return read_value(frame) if frame.take(1) == b"\x01" else None

    def write(out: bytearray, given: Any) -> None:
        out.append(255 if given is None else 1)
        if given is not None:
            write_value(out, given)

    return read, write


def skip_tags(frame: Frame) -> None:
    """Pass over tagged fields: this broker needs none."""
    for _ in range(read_unsigned(frame)):
        read_unsigned(frame)
        frame.take(read_unsigned(frame))


def structure(fields: list[tuple[str, tuple[Read, Write]]], flexible: bool) -> tuple[Read, Write]:
    """Named fields in their order, then tagged ones in a flexible version. Read as a namespace, written from a dict."""
    readers = [(name, read) for name, (read, _) in fields]
    writers = [(name, write) for name, (_, write) in fields]

    def read(frame: Frame) -> SimpleNamespace:
        value = SimpleNamespace(**{name: one(frame) for name, one in readers})
        if flexible:
            skip_tags(frame)
        return value

    def write(out: bytearray, value: dict[str, Any]) -> None:
        for name, one in writers:
            one(out, value[name])
        if flexible:
            out.append(0)

    return read, write
