"""Messages of Sparkplug B in protobuf, after the field numbers of its specification, Eclipse Sparkplug 3.0.

What streamrde does not read (metadata, properties, data sets, templates) is left out, or left as bytes.
"""

from __future__ import annotations

import enum
import functools
import zlib
from typing import Any

from streamrde.errors import MissingExtraError, PayloadError

_PACKAGE = "org.eclipse.tahu.protobuf"
_PAYLOAD = {"timestamp": (1, "UINT64"), "metrics": (2, "MESSAGE"), "seq": (3, "UINT64"), "uuid": (4, "STRING")}
_PAYLOAD |= {"body": (5, "BYTES")}
_METRIC = {
    "name": (1, "STRING"),
    "alias": (2, "UINT64"),
    "timestamp": (3, "UINT64"),
    "datatype": (4, "UINT32"),
    "is_historical": (5, "BOOL"),
    "is_null": (7, "BOOL"),
}
# One of them is set. Data sets and templates are messages, which on the wire look like bytes.
_VALUES = {
    "int_value": (10, "UINT32"),
    "long_value": (11, "UINT64"),
    "float_value": (12, "FLOAT"),
    "double_value": (13, "DOUBLE"),
    "boolean_value": (14, "BOOL"),
    "string_value": (15, "STRING"),
    "bytes_value": (16, "BYTES"),
    "dataset_value": (17, "BYTES"),
    "template_value": (18, "BYTES"),
}
_COMPRESSED = "SPBV1.0_COMPRESSED"


class DataType(enum.IntEnum):
    """Types of metrics that tell how a number is to be read."""

    INT8 = 1
    INT16 = 2
    INT32 = 3
    INT64 = 4
    UINT64 = 8
    DOUBLE = 10
    BOOLEAN = 11


SIGNED = {DataType.INT8: 8, DataType.INT16: 16, DataType.INT32: 32, DataType.INT64: 64}
"""Widths of the signed types. Their numbers travel as the two's complement, in a field without a sign."""


@functools.lru_cache(maxsize=1)
def payload_class() -> type[Any]:
    """Return the class of a payload.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ImportError:
        raise MissingExtraError("Sparkplug B", "sparkplug") from None
    # A pool of its own: a process may have the same names from elsewhere.
    file = descriptor_pb2.FileDescriptorProto(name="sparkplug_b.proto", package=_PACKAGE, syntax="proto2")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    metric.oneof_decl.add(name="value")
    field = descriptor_pb2.FieldDescriptorProto
    for message, fields in ((payload, _PAYLOAD), (metric, _METRIC | _VALUES)):
        for name, (number, kind) in fields.items():
            one = message.field.add(name=name, number=number, label=field.LABEL_OPTIONAL)
            one.type = getattr(field, f"TYPE_{kind}")
            if kind == "MESSAGE":
                one.label, one.type_name = field.LABEL_REPEATED, f".{_PACKAGE}.Payload.Metric"
            if name in _VALUES:
                one.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Payload"))
    return found


def parse(payload: bytes, *, max_bytes: int) -> Any:
    """Return a payload's message, uncompressed if it was compressed.

    Raises:
        PayloadError: it is no Sparkplug B, or longer than `max_bytes` once it is uncompressed.
    """
    from google.protobuf.message import DecodeError

    try:
        message = payload_class().FromString(payload)
        if message.uuid == _COMPRESSED:
            inflater = zlib.decompressobj(wbits=47)  # gzip or zlib, as its header says
            inner = inflater.decompress(message.body, max_bytes + 1)
            if len(inner) > max_bytes:
                raise PayloadError(f"uncompressed it is longer than max_bytes = {max_bytes}; send smaller messages")
            outer, message = message, payload_class().FromString(inner)
            if outer.HasField("seq"):
                message.seq = outer.seq
    except (DecodeError, UnicodeDecodeError, zlib.error) as error:
        raise PayloadError(f"not Sparkplug B: {error}") from None
    return message
