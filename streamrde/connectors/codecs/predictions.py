"""Predictions as payloads."""

from __future__ import annotations

import math
from collections.abc import Mapping
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


def decode_prediction(payload: bytes) -> dict[str, Any]:
    """Decode a row that `encode_prediction` wrote.

    Raises:
        PayloadError: the payload is no prediction.
    """
    try:
        row: dict[str, Any] = msgspec.to_builtins(msgspec.json.decode(payload, type=_Prediction))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise PayloadError(f"not a prediction: {error}") from None
    row["value"] = [math.nan if value is None else value for value in row["value"]]
    return row
