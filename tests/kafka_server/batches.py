"""Record batches of format 2: their headers, their records where a rule needs them, and the control records.

A batch is kept as the producer sent it. Only its base offset and leader epoch are set here, which stand before what the
checksum covers. Reference: https://kafka.apache.org/documentation/#recordbatch
"""

from __future__ import annotations

import functools
import gzip
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kafka_server.codes import Code, Refused
from kafka_server.wire import Frame, read_signed, write_signed

# base offset, length, leader epoch, magic, crc
_HEAD = struct.Struct(">qiibI")
# attributes, last offset delta, first and greatest timestamp, producer's id, epoch, base sequence, count of records
_BODY = struct.Struct(">hiqqqhii")
SIZE = _HEAD.size + _BODY.size
COMPRESSION, LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x07, 0x08, 0x10, 0x20
ABORT, COMMIT = 0, 1
_SEQUENCES = 1 << 31


class Header(NamedTuple):
    """A batch's header, without what only matters to the one who stores it."""

    attributes: int
    last_delta: int
    first_time: int
    max_time: int
    producer: int
    epoch: int
    sequence: int
    count: int

    @property
    def transactional(self) -> bool:
        """Return if the batch is part of a transaction."""
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def control(self) -> bool:
        """Return if the batch ends a transaction."""
        return bool(self.attributes & CONTROL)

    @property
    def last_sequence(self) -> int:
        """The last record's sequence number, which begins again at 0 after 2^31 - 1."""
        return (self.sequence + self.last_delta) % _SEQUENCES


class Record(NamedTuple):
    """A record of a batch."""

    offset: int
    time: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def header(data: bytes) -> Header:
    """Read the header of the only batch in `data`, as a producer sends it (KIP-98)."""
    if len(data) < SIZE:
        raise Refused(Code.CORRUPT_MESSAGE, f"{len(data)} bytes are no record batch")
    _, length, _, magic, _ = _HEAD.unpack_from(data)
    if magic != 2:
        raise Refused(Code.UNSUPPORTED_FOR_MESSAGE_FORMAT, f"format {magic} where 2 is kept")
    if length + 12 != len(data):
        raise Refused(Code.INVALID_RECORD, f"a batch of {length + 12} bytes in {len(data)}: one batch per partition")
    found = Header(*_BODY.unpack_from(data, _HEAD.size))
    if found.count != found.last_delta + 1 or found.count < 1:
        raise Refused(Code.INVALID_RECORD, f"{found.count} records, last delta {found.last_delta}")
    return found


def placed(data: bytes, base: int) -> bytes:
    """Return a batch with its base offset, and leader epoch 0."""
    return struct.pack(">q", base) + data[8:12] + b"\0\0\0\0" + data[16:]


@functools.cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), which the standard library does not have."""
    table, value = _crc_table(), 0xFFFFFFFF
    for byte in data:
        value = table[(value ^ byte) & 255] ^ value >> 8
    return value ^ 0xFFFFFFFF


def check_crc(data: bytes) -> None:
    """Refuse a batch whose bytes are not those that its checksum was made of."""
    if _HEAD.unpack_from(data)[4] != crc32c(data[_HEAD.size :]):
        raise Refused(Code.CORRUPT_MESSAGE, "the checksum is another")


def encoded(base: int, head: Header, records: bytes) -> bytes:
    """Return a batch with the records' bytes."""
    body = _BODY.pack(*head) + records
    return _HEAD.pack(base, len(body) + 9, 0, 2, crc32c(body)) + body


def _field(out: bytearray, value: bytes | None) -> None:
    write_signed(out, -1 if value is None else len(value))
    out += value or b""


def _record(base: int, first_time: int, record: Record) -> bytes:
    out = bytearray(b"\0")
    write_signed(out, record.time - first_time)
    write_signed(out, record.offset - base)
    _field(out, record.key)
    _field(out, record.value)
    write_signed(out, len(record.headers))
    for name, value in record.headers:
        _field(out, name.encode())
        _field(out, value)
    sized = bytearray()
    write_signed(sized, len(out))
    return bytes(sized + out)


def kept(base: int, head: Header, records: list[Record]) -> bytes:
    """Return a batch with some of its records, uncompressed: what compaction leaves of it."""
    head = head._replace(attributes=head.attributes & ~COMPRESSION, count=len(records))
    return encoded(base, head, b"".join(_record(base, head.first_time, record) for record in records))


def marker(base: int, producer: int, epoch: int, kind: int, time: int) -> tuple[Header, bytes]:
    """Return the control batch that ends a transaction: `COMMIT` or `ABORT` (KIP-98, control messages)."""
    head = Header(TRANSACTIONAL | CONTROL, 0, time, time, producer, epoch, -1, 1)
    record = Record(base, time, struct.pack(">hh", 0, kind), struct.pack(">hi", 0, 0), ())
    return head, encoded(base, head, _record(base, time, record))


def _plain(data: bytes, compression: int) -> bytes:
    if compression == 0:
        return data
    if compression == 1:
        return gzip.decompress(data)
    import pyarrow as pa  # only compaction and a search by time look into such batches

    if compression == 2:
        name, size, shift = "snappy", 0, 0
        for at in range(5):
            size |= (data[at] & 127) << shift
            shift += 7
            if data[at] < 128:
                break
        return pa.decompress(data, decompressed_size=size, codec=name, asbytes=True)
    name = {3: "lz4", 4: "zstd"}[compression]
    with pa.CompressedInputStream(pa.BufferReader(data), name) as stream:
        return stream.read()


def records(data: bytes) -> Iterator[Record]:
    """Read a stored batch's records."""
    base = _HEAD.unpack_from(data)[0]
    head = Header(*_BODY.unpack_from(data, _HEAD.size))
    frame = Frame(_plain(data[SIZE:], head.attributes & COMPRESSION))

    def field() -> bytes | None:
        size = read_signed(frame)
        return None if size < 0 else frame.take(size)

    for _ in range(head.count):
        end = read_signed(frame) + frame.at
        frame.take(1)
        time = head.first_time + read_signed(frame)
        offset = base + read_signed(frame)
        key, value = field(), field()
        names = tuple(((field() or b"").decode(), field()) for _ in range(read_signed(frame)))
        if frame.at != end:
            raise Refused(Code.INVALID_RECORD, f"record {offset} ends at {frame.at} where it says {end}")
        yield Record(offset, time, key, value, names)
