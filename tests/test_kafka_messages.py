"""The strict broker's table of messages: what is written is read again, in every version of every request."""

from __future__ import annotations

import uuid
from types import SimpleNamespace

import pytest
from kafka_server import messages, wire

PLAIN = {"i8": 3, "i16": -300, "i32": 70_000, "i64": -(2**40), "bool": True, "str": "aé", "bytes": b"\0\1"}
VERSIONS = [(api, version) for api in messages.APIS.values() for version in range(api.first, api.last + 1)]


def example(fields, version, *, null):
    """A message with a value in each field, or null wherever that may be."""
    made = {}
    for one in fields:
        if not one.first <= version <= one.last:
            continue
        kind = one.kind.removeprefix("?")
        if null and one.kind.startswith("?"):
            made[one.name] = None
        elif kind == "{":
            made[one.name] = example(one.fields, version, null=null)
        elif kind == "[":
            made[one.name] = [example(one.fields, version, null=null) for _ in range(2)]
        elif kind.startswith("["):
            made[one.name] = [PLAIN[kind.strip("[]")]] * 130
        else:
            made[one.name] = uuid.UUID(int=5) if kind == "uuid" else PLAIN[kind]
    return made


def plain(value):
    """Turn what was read into what was written."""
    if isinstance(value, SimpleNamespace):
        return {name: plain(one) for name, one in vars(value).items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def codec(fields, api, version):
    return messages._compile(fields, version, version >= api.flexible)


@pytest.mark.parametrize(("api", "version"), VERSIONS, ids=lambda one: getattr(one, "name", f"{one}"))
@pytest.mark.parametrize("null", [False, True])
def test_messages_are_read_as_they_were_written(api, version, null):
    for fields in (api.request, api.answer):
        read, write = codec(fields, api, version)
        out, message = bytearray(), example(fields, version, null=null)
        write(out, message)
        frame = wire.Frame(bytes(out))
        assert plain(read(frame)) == message
        assert frame.at == len(out)


@pytest.mark.parametrize(("api", "version"), VERSIONS, ids=lambda one: getattr(one, "name", f"{one}"))
def test_every_request_can_be_answered_by_an_error(api, version):
    read, write = codec(api.request, api, version)
    out = bytearray()
    write(out, example(api.request, version, null=False))
    request = read(wire.Frame(bytes(out)))
    out = bytearray()
    messages.writer(api.key, version)(out, messages.refusal(api.answer, request, 77))
    assert b"\0\x4d" in out


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31 - 1, 2**63 - 1])
def test_varints_are_read_as_they_were_written(value):
    for read, write, one in (
        (wire.read_unsigned, wire.write_unsigned, value),
        (wire.read_signed, wire.write_signed, value),
        (wire.read_signed, wire.write_signed, -value - 1),
    ):
        out = bytearray()
        write(out, one)
        assert read(wire.Frame(bytes(out))) == one
