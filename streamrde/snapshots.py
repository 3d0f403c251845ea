"""The bytes of a snapshot: the live state of a stream or accumulator, framed so that a damaged one is refused.

    offset 0   b"SRDE"                           magic
    offset 4   uint16                            format version
    offset 6   uint32                            n, length of the header
    offset 10  JSON object, UTF-8, n bytes       owner of the state
    then       float64 values                    the state
    last 4     uint32                            CRC-32 of all that comes before

All numbers are little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import TypeVar

import msgspec
import numpy as np

from streamrde.arrays import Floats
from streamrde.errors import SnapshotError

FORMAT = 1
_MAGIC = b"SRDE"
_PREFIX = struct.Struct("<4sHI")
_CRC = struct.Struct("<I")

H = TypeVar("H", bound=msgspec.Struct)


def pack(header: msgspec.Struct, values: Floats) -> bytes:
    """Encode a header and its values as a snapshot."""
    text = msgspec.json.encode(header)
    body = _PREFIX.pack(_MAGIC, FORMAT, len(text)) + text + values.astype("<f8", copy=False).tobytes()
    return body + _CRC.pack(zlib.crc32(body))


def unpack(data: bytes, header: type[H]) -> tuple[H, Floats]:
    """Decode a snapshot into its header and a copy of its values.

    Raises:
        SnapshotError: not a snapshot, damaged, of another format version, or of another kind.
    """
    data = bytes(data)
    if len(data) < _PREFIX.size + _CRC.size or data[:4] != _MAGIC:
        raise SnapshotError(
            f"these {len(data)} bytes are not a snapshot: hand over what snapshot() returned, unchanged"
        )
    _, version, size = _PREFIX.unpack_from(data)
    if version != FORMAT:
        raise SnapshotError(
            f"snapshot format {version}, and this streamrde reads format {FORMAT}: restore with the one that took it"
        )
    body, (crc,) = data[: -_CRC.size], _CRC.unpack(data[-_CRC.size :])
    if zlib.crc32(body) != crc:
        raise SnapshotError("the snapshot is damaged (its checksum does not match): use an earlier one")
    text, values = body[_PREFIX.size : _PREFIX.size + size], body[_PREFIX.size + size :]
    try:
        return msgspec.json.decode(text, type=header), np.frombuffer(values, dtype="<f8").astype(np.float64)
    except (msgspec.DecodeError, ValueError) as error:
        raise SnapshotError(f"this snapshot is of another kind ({error})") from None


def check(data: bytes) -> None:
    """Check that bytes are a whole snapshot, whoever owns it.

    Raises:
        SnapshotError: they are none, damaged, or of another format version.
    """
    unpack(data, _Anyones)


class _Anyones(msgspec.Struct):
    """Stand for the header of any owner."""
