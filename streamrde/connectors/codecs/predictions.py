"""Predictions as payloads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from streamrde.errors import PayloadError


class _Prediction(msgspec.Struct, omit_defaults=True):
    stream: str
    window: int
    t_start: float
    t_end: float
    value: list[float | None]
    label: str | None = None
    labels: dict[str, str | None] = {}
    flag: str | None = None
    step_error: float | None = None
    lower: list[float | None] | None = None
    upper: list[float | None] | None = None
    set: list[str] | None = None
    sets: dict[str, list[str] | None] = {}
    novelty: float | None = None
    provisional: bool = False


def encode_prediction(row: Mapping[str, Any]) -> bytes:
    """Return a prediction as JSON: stream, window, t_start, t_end, value and, for a classification, label.

    A value that is not finite is null, and has no label. Where there is something to say, also labels (by head), flag,
    step_error, lower and upper, set, sets (by head), novelty, and provisional: true. A limit that is null is infinite,
    or of a class.

    Args:
        row: a row of the prediction record batch, as `RecordBatch.to_pylist` gives it.
    """
    return msgspec.json.encode(prediction_of(row))


def prediction_of(row: Mapping[str, Any]) -> _Prediction:
    """Return a row of the prediction record batch with the fields of a payload."""
    labels, sets = {}, {}
    for name in row:  # a slice costs half of `startswith`, and this is done for every column of every prediction
        if name[:6] == "label_":
            labels[name[6:]] = row[name]
        elif name[:4] == "set_":
            sets[name[4:]] = row[name]
    return _Prediction(
        row["stream"],
        row["window"],
        row["t_start"],
        row["t_end"],
        row["value"],
        row.get("label"),
        labels,
        row.get("flag"),
        row.get("step_error"),
        row.get("lower"),
        row.get("upper"),
        row.get("set"),
        sets,
        row.get("novelty"),
        row.get("provisional", False),
    )


def read_prediction(payload: bytes) -> dict[str, Any]:
    """Decode a prediction in any format that has one: JSON, MessagePack or CBOR, told apart by the first byte.

    A prediction is a map. It begins with "{", 0x7b, in JSON, with 0x80 to 0x8f or 0xde in MessagePack, and with 0xa0 to
    0xbf in CBOR.

    Raises:
        PayloadError: the payload is no prediction.
        MissingExtraError: it is CBOR, and cbor2 is not installed.
    """
    first = payload[0] if payload else 0
    if first in range(0x80, 0x90) or first == 0xDE:
        return _converted(lambda: msgspec.msgpack.decode(payload))
    if first in range(0xA0, 0xC0):
        from streamrde.connectors.codecs.cbor import decode

        return _converted(lambda: decode(payload))
    return decode_prediction(payload)


def decode_prediction(payload: bytes) -> dict[str, Any]:
    """Decode a row that `encode_prediction` wrote.

    Raises:
        PayloadError: the payload is no prediction.
    """
    return _converted(lambda: msgspec.json.decode(payload))


def _converted(decode: Callable[[], Any]) -> dict[str, Any]:
    try:
        row: dict[str, Any] = msgspec.to_builtins(msgspec.convert(decode(), _Prediction))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError) as error:
        raise PayloadError(f"not a prediction: {error}") from None
    row["value"] = [math.nan if value is None else value for value in row["value"]]
    return row
