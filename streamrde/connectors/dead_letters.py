"""Write dead letters down, with the reason and their original bytes, so that none vanishes."""

from __future__ import annotations

import base64

import msgspec

from streamrde.connectors.ends import DeadLetter

# A message may be as large as its broker allows (256 MB); this much of it tells what was wrong.
_KEPT_BYTES = 1 << 20


class _Line(msgspec.Struct):
    received: float
    reason: str
    topic: str
    bytes: int
    payload: str


def encode_letter(letter: DeadLetter) -> bytes:
    """Encode a dead letter as JSON: received, reason, topic, bytes, and payload in base64, cut after 1 MiB."""
    text = base64.b64encode(letter.payload[:_KEPT_BYTES]).decode()
    return msgspec.json.encode(_Line(letter.received, letter.reason, letter.topic, len(letter.payload), text))


def decode_letter(line: bytes) -> DeadLetter:
    """Decode a dead letter that `encode_letter` wrote."""
    read = msgspec.json.decode(line, type=_Line)
    return DeadLetter(read.reason, read.topic, base64.b64decode(read.payload), read.received)
