"""Write dead letters down, with the reason and their original bytes, so that none vanishes."""

from __future__ import annotations

import base64

import msgspec

from streamrde.connectors.ends import DeadLetter

# A message may be as large as its broker allows (256 MB); this much of it tells what was wrong.
_KEPT_BYTES = 1 << 20
MESSAGE_BYTES = 600_000
"""Bytes of a payload that a letter in a message keeps. They are 800 kB in base64, and Kafka and NATS take messages of
1 MB unless told otherwise: a letter that no broker took would stop the run again and again."""


class _Line(msgspec.Struct):
    received: float
    reason: str
    topic: str
    bytes: int
    payload: str


def encode_letter(letter: DeadLetter, kept: int = _KEPT_BYTES) -> bytes:
    """Encode a dead letter as JSON: received, reason, topic, bytes, and payload in base64, cut after `kept` bytes."""
    text = base64.b64encode(letter.payload[:kept]).decode()
    return msgspec.json.encode(_Line(letter.received, letter.reason, letter.topic, len(letter.payload), text))


def decode_letter(line: bytes) -> DeadLetter:
    """Decode a dead letter that `encode_letter` wrote."""
    read = msgspec.json.decode(line, type=_Line)
    return DeadLetter(read.reason, read.topic, base64.b64decode(read.payload), read.received)
