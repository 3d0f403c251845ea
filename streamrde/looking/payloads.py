"""Guess how payloads are encoded, and decode them to plain values."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec

from streamrde.connectors.codecs.points import parse_points, series_of, value_of
from streamrde.errors import DataError, PayloadError
from streamrde.looking.guesses import Guess, percent

_MOSTLY = 0.8
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")
_PAIR = re.compile(r"\s*([A-Za-z_][\w .()%/-]*?)\s*[=:]\s*([^\s,;&=]+)\s*[,;&]?")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|nan|-+|", re.IGNORECASE)


class Decoded(NamedTuple):
    """Payloads as plain values."""

    codec: Guess
    objects: list[Any]
    """One per payload: an object, a list, a number or text. None for a payload that cannot be read."""
    csv: dict[str, str]
    """Dialect of texts with delimiters, as keys of [columns.csv]."""


def decode(payloads: Sequence[bytes], topics: Sequence[str]) -> Decoded:
    """Decode payloads by the codec that reads most of them.

    Raises:
        DataError: none reads them.
    """
    if sum(topic.startswith("spBv1.0/") for topic in topics) >= _MOSTLY * len(topics):
        guess = Guess("sparkplug", "topics begin with spBv1.0, as those of Sparkplug B do")
        return Decoded(guess, _sparkplug(payloads, topics), {})
    ways: tuple[tuple[str, Callable[[bytes], Any], str], ...] = (
        ("arrow", _arrow, "Arrow IPC streams, by their first bytes"),
        ("json", _json, "JSON"),
        ("lines", _lines, "lines of the InfluxDB line protocol: measurement,tags fields time"),
        ("text", _text, "text with names and values, or numbers with delimiters"),
        ("msgpack", _msgpack, "MessagePack"),
        ("cbor", _cbor, "CBOR"),
        ("json", _bare, "bare values as text"),
    )
    for codec, way, what in ways:
        objects = [_tried(way, payload) for payload in payloads]
        share = sum(one is not None for one in objects) / max(1, len(objects))
        if share >= _MOSTLY:
            return Decoded(_guess(codec, what, share, payloads), objects, _dialect(payloads) if codec == "text" else {})
    shown = payloads[0][:40]
    raise DataError(
        f"no codec reads these payloads, such as {shown!r}; if they are numbers in a fixed layout, set "
        "codec = 'packed' and layout, as streamrde init run shows them",
        path="",
    )


def _guess(codec: str, what: str, share: float, payloads: Sequence[bytes]) -> Guess:
    if share == 1:
        return Guess(codec, f"all {len(payloads):,} payloads that were seen are {what}")
    return Guess(codec, f"{percent(share)} of the payloads are {what}", "the other payloads cannot be read so")


def _tried(way: Callable[[bytes], Any], payload: bytes) -> Any:
    try:
        return way(payload)
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.DecodeError, PayloadError):
        return None


def _utf8(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode("utf-8").strip()


def _json(payload: bytes) -> Any:
    text = _utf8(payload)
    if text[:1] not in ("{", "["):
        return _bare(payload)
    return json.loads(text)


def _bare(payload: bytes) -> Any:
    """Read one value: a number, a word such as ON, or a spelling of no value."""
    text = _utf8(payload)
    if len(text) > 64 or re.search(r"[\x00-\x1f{}\[\]=:;]", text) or text.count(" ") > 1:
        raise ValueError
    try:
        return json.loads(text)
    except ValueError:
        if not text or re.match(r"[^A-Za-z+-.]", text) or "," in text:
            raise
        return text


def _arrow(payload: bytes) -> Any:
    import pyarrow as pa

    if not payload.startswith(_ARROW):
        raise ValueError
    try:
        return pa.ipc.open_stream(payload).read_all().to_pylist()
    except pa.ArrowException:
        raise ValueError from None


def _lines(payload: bytes) -> Any:
    text = _utf8(payload)
    if not re.match(r"[^\s=,]+(,[^\s=]+=\S+)? [^\s=]+=\S", text):
        raise ValueError
    rows = []
    for point in parse_points(text):
        fields = {name: value_of(written) for name, written in point.fields}
        rows.append({"tags": series_of(point.series)[1], **fields, "t": point.timestamp})
    return rows


def _sparkplug(payloads: Sequence[bytes], topics: Sequence[str]) -> list[Any]:
    """Return the metrics of each message by name, those known by an alias only after their birth."""
    from streamrde.connectors.codecs.tahu import parse

    names: dict[tuple[str, int], str] = {}
    objects: list[Any] = []
    for payload, topic in zip(payloads, topics, strict=True):
        place = "/".join(topic.split("/")[i] for i in (1, 3, 4) if i < topic.count("/") + 1)
        try:
            message = parse(payload, max_bytes=1 << 20)
        except PayloadError:
            objects.append(None)
            continue
        values: dict[str, Any] = {}
        for metric in message.metrics:
            if metric.name and metric.alias:
                names[place, metric.alias] = metric.name
            name, kind = metric.name or names.get((place, metric.alias), ""), metric.WhichOneof("value")
            if name and kind in ("int_value", "long_value", "float_value", "double_value", "boolean_value"):
                values[name] = getattr(metric, kind)
        values = {name: value for name, value in values.items() if not name.startswith(("bdSeq", "Node Control/"))}
        objects.append({**values, "t": message.timestamp} if values else None)
    return objects


def _text(payload: bytes) -> Any:
    text = _utf8(payload)
    if "&" in text and "=" in text:
        pairs = parse_qsl(text, keep_blank_values=True)
        return dict(pairs) or None
    pairs = [(found[1], found[2]) for found in _PAIR.finditer(text)]
    if pairs and len("".join(map("".join, pairs))) > len(text) / 2:
        return dict(pairs)
    cells = _cells(text, _delimiter(text))
    if len(cells) < 2 or not all(_NUMBER.fullmatch(cell) for cell in cells):
        raise ValueError
    return [cell.replace(",", ".") for cell in cells]


def _delimiter(text: str) -> str:
    return next((sign for sign in (";", "\t", "|") if sign in text), "," if "," in text else " ")


def _cells(text: str, delimiter: str) -> list[str]:
    return text.split() if delimiter == " " else [cell.strip() for cell in text.split(delimiter)]


def _dialect(payloads: Sequence[bytes]) -> dict[str, str]:
    texts = [payload.decode("utf-8", "replace") for payload in payloads]
    if any("=" in text or ":" in text for text in texts):
        return {}
    delimiter = _delimiter(texts[0])
    found = {} if delimiter == "," else {"delimiter": delimiter}
    if delimiter != "," and any("," in text for text in texts):
        found["decimal"] = ","
    return found


def _msgpack(payload: bytes) -> Any:
    found = msgspec.msgpack.decode(payload)
    return found if isinstance(found, dict | list) else None


def _cbor(payload: bytes) -> Any:
    if importlib.util.find_spec("cbor2") is None:
        raise ValueError
    import cbor2

    try:
        found = cbor2.loads(payload)
    except cbor2.CBORDecodeError:
        raise ValueError from None
    return found if isinstance(found, dict | list) else None
