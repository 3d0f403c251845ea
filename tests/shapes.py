"""Messages of every shape that senders invent: names, nesting, types, units, forms of the time, orders, and damage.

A message knows what it says. `Must.READ`: it is one of the documented shapes, and the samples must come out as they
are. `Must.REFUSE`: it says nothing that could be used. `Must.EITHER`: a reader may refuse it, and if it does not, the
samples must be these.
"""

from __future__ import annotations

import enum
import json
import math
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import cbor2
import msgspec

CHANNELS = ("a", "b", "c")
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FORMATS = ("json", "msgpack", "cbor")
# 2024-03-05T12:00:00Z; times are whole multiples of 1/64 s after it, so that every unit and form carries them exactly.
_START = 1_709_640_000
_NAN = object()


class Must(enum.Enum):
    READ = 0
    REFUSE = 1
    EITHER = 2


class Message(NamedTuple):
    topic: str
    payload: bytes
    must: Must
    rows: list[tuple[float, tuple[float, ...]]]
    """The samples that it says: time and values of CHANNELS, NaN where not observed; empty where it says none."""
    shape: str


Fields = dict[str, Any]


def messages(rng: random.Random, count: int, *, format: str = "json", unit: str = "s") -> Iterator[Message]:
    """Messages of some streams, most of them in the order of their times."""
    clock, last = 0, dict[str, Message]()
    for _ in range(count):
        clock += rng.randrange(1, 20)
        topic = f"s/{rng.randrange(5)}/{rng.choice(['data', 'data', 'data', 'info'])}"
        late = rng.choice([0] * 9 + [rng.randrange(200)])
        message = _message(rng, topic, max(clock - late, 0) / 64, format, unit)
        yield message
        if topic in last and rng.random() < 0.03:
            yield last[topic]  # sent again
        last[topic] = message


def _message(rng: random.Random, topic: str, t: float, format: str, unit: str) -> Message:
    rows = [(_START + t + i / 64, _values(rng)) for i in range(rng.choice([1, 1, 1, 2, 5]))]
    name, build = rng.choice(_SHAPES)
    must, value, rows = build(rng, rows, unit)
    if format != "json":
        payload = {"msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}[format](_without_marks(value))
    else:
        payload = _json(value, rng)
    if rng.random() < 0.1:
        payload, must, rows, damage = _damaged(rng, payload, must, rows, format)
        name = f"{name}, {damage}"
    return Message(topic, payload, must, rows, name)


def _values(rng: random.Random) -> tuple[float, ...]:
    values = [rng.choice([rng.uniform(-5, 5), float(rng.randrange(-9, 9)), -0.0, 1e-300, math.nan]) for _ in CHANNELS]
    if all(map(math.isnan, values)):
        values[rng.randrange(len(values))] = 1.5
    return tuple(values)


def _ticks(t: float, unit: str) -> float | int:
    ticks = t * UNITS[unit]  # exact: whole microseconds, or seconds with 6 bits behind the point
    return t if unit == "s" else round(ticks) if unit != "ms" else ticks


def _fields(rng: random.Random, row: tuple[float, tuple[float, ...]], unit: str) -> Fields:
    """A documented sample; what was not observed is null or absent, as long as one channel is there."""
    t, values = row
    pairs: list[tuple[str, Any]] = [("t", _ticks(t, unit))]
    seen = False
    for name, value in zip(CHANNELS, values, strict=True):
        if math.isnan(value):
            if rng.random() < 0.5:
                continue
            pairs.append((name, None))
        else:
            pairs.append((name, int(value) if value.is_integer() and value and rng.random() < 0.5 else value))
        seen = True
    assert seen
    if rng.random() < 0.3:
        pairs.append((rng.choice(["battery", "A", "ax", "quality"]), rng.choice([3.7, "ok", None, [1, 2], {"a": 9.0}])))
    rng.shuffle(pairs)
    return dict(pairs)


Built = tuple[Must, Any, list[Any]]


def _plain(rng: random.Random, rows: list[Any], unit: str) -> Built:
    if len(rows) == 1:
        return Must.READ, _fields(rng, rows[0], unit), rows
    return Must.READ, [_fields(rng, row, unit) for row in rows], rows


def _columnar(rng: random.Random, rows: list[Any], unit: str) -> Built:
    columns: Fields = {"t": [_ticks(t, unit) for t, _ in rows]}
    for i, name in enumerate(CHANNELS):
        columns[name] = [None if math.isnan(values[i]) else values[i] for _, values in rows]
    return Must.READ, columns, rows


def _unequal(rng: random.Random, rows: list[Any], unit: str) -> Built:
    columns = _columnar(rng, [*rows, rows[0]], unit)[1]
    columns[rng.choice(CHANNELS)].pop()
    return Must.REFUSE, columns, []


def _renamed(rng: random.Random, rows: list[Any], unit: str) -> Built:
    change: Callable[[str], str] = rng.choice(
        [
            str.upper,
            lambda n: n + "x",
            lambda n: f"sensor.{n}",
            lambda n: n + " ",
            lambda n: f"acc_{n}",
            lambda n: "ä" + n,
        ]
    )
    t, values = rows[0]
    kept = {change(name): 0.0 if math.isnan(v) else v for name, v in zip(CHANNELS, values, strict=True)}
    return Must.REFUSE, {"t": _ticks(t, unit), **kept}, []


def _half_renamed(rng: random.Random, rows: list[Any], unit: str) -> Built:
    """Some channels have other names: what is there is used, and the others were not observed."""
    t, values = rows[0]
    kept = 0.5 if math.isnan(values[0]) else values[0]
    fields = {"t": _ticks(t, unit), "a": kept, "B": 1.0, "acc": 2.0}
    return Must.READ, fields, [(t, (kept, math.nan, math.nan))]


def _nested(rng: random.Random, rows: list[Any], unit: str) -> Built:
    fields = _fields(rng, rows[0], unit)
    time = fields.pop("t")
    outer = rng.choice(["values", "data", "imu", "d"])
    inside: Any = fields
    for _ in range(rng.randrange(3)):
        inside = {rng.choice(["x", "inner"]): inside}
    where = rng.choice(["beside", "inside", "named"])
    if where == "beside":
        return Must.REFUSE, {"t": time, outer: inside}, []
    if where == "inside":
        return Must.REFUSE, {outer: {"t": time, **fields}}, []
    return Must.REFUSE, {"ts": time, outer: inside, "device": "a"}, []


def _pairs(rng: random.Random, rows: list[Any], unit: str) -> Built:
    t, values = rows[0]
    found = [{"id": n, "v": v, "q": True, "t": _ticks(t, unit)} for n, v in zip(CHANNELS, values, strict=True)]
    found = [pair for pair in found if not math.isnan(pair["v"])]
    shape = rng.choice(
        [found, {"timestamp": _ticks(t, unit), "values": found}, {"t": _ticks(t, unit), "values": found}]
    )
    return Must.REFUSE, shape, []


def _vector(rng: random.Random, rows: list[Any], unit: str) -> Built:
    t, values = rows[0]
    vector = [0.0 if math.isnan(v) else v for v in values]
    keyed = rng.choice([{"t": _ticks(t, unit), "acc": vector}, {"timestamp": 0, "acc": vector}, vector])
    return Must.REFUSE, keyed, []


def _one_vector(rng: random.Random, rows: list[Any], unit: str) -> Built:
    return Must.REFUSE, {"t": _ticks(rows[0][0], unit), "a": [0.1, 0.2, 0.3]}, []


def _bare(rng: random.Random, rows: list[Any], unit: str) -> Built:
    return Must.REFUSE, rng.choice([0.123, 7, True, None, "on", "21.5", [], {}, [[]], [None], [1, 2], {"t": 1.0}]), []


_SPOKEN = {
    "unavailable": math.nan, "": math.nan, " --- ": math.nan, "N/A": math.nan, "on": 1.0, "OFF": 0.0, "true": 1.0,
    True: 1.0, False: 0.0,
}  # fmt: skip


def _typed(rng: random.Random, rows: list[Any], unit: str) -> Built:
    """A value that is no number, or one that is written as text."""
    t, values = rows[0]
    fields = {"t": _ticks(t, unit), "b": 1.0}
    kind = rng.randrange(4)
    if kind == 0:
        value = 0.25 if math.isnan(values[0]) else values[0]
        return Must.READ, {**fields, "a": repr(value)}, [(t, (value, 1.0, math.nan))]
    if kind == 1:
        word = rng.choice([*_SPOKEN])
        return Must.READ, {**fields, "a": word}, [(t, (_SPOKEN[word], 1.0, math.nan))]
    other = rng.choice(["open", "0,12", "12 C", "1_0", "0x1p3", {"value": 0.1}, {"v": 1}, [[1.0]], ["x"]])
    return Must.REFUSE, {**fields, "a": other}, []


def _marked(rng: random.Random, rows: list[Any], unit: str) -> Built:
    """NaN as a word, where a channel was not observed."""
    t, values = rows[0]
    fields: Fields = {"t": _ticks(t, unit)} | dict(zip(CHANNELS, values, strict=True))
    fields = {name: _NAN if isinstance(v, float) and math.isnan(v) else v for name, v in fields.items()}
    return Must.READ, fields, [rows[0]]


def _infinite(rng: random.Random, rows: list[Any], unit: str) -> Built:
    return Must.REFUSE, {"t": _ticks(rows[0][0], unit), "a": rng.choice([math.inf, -math.inf]), "b": 1.0}, []


def _texts(rng: random.Random, rows: list[Any], unit: str) -> Built:
    """The time as text in a form that names its moment."""
    t = float(round(rows[0][0]))
    moment = datetime.fromtimestamp(t, UTC)
    text = rng.choice(
        [
            moment.isoformat(),
            moment.isoformat().replace("+00:00", "Z"),
            moment.strftime("%Y-%m-%d %H:%M:%SZ"),
            moment.strftime("%Y-%m-%dT%H:%M:%S.000+00:00"),
            moment.replace(hour=13).strftime("%Y-%m-%dT%H:%M:%S+01:00") if moment.hour == 12 else moment.isoformat(),
        ]
    )
    return Must.EITHER, {"t": text, "a": 1.0}, [(t, (1.0, math.nan, math.nan))]


def _no_time(rng: random.Random, rows: list[Any], unit: str) -> Built:
    fields = _fields(rng, rows[0], unit)
    value = fields.pop("t")
    bad = rng.choice([None, True, "noon", "12:00", {"sec": 1, "nsec": 2}, [], "", math.nan, [None]])
    if rng.random() < 0.5:
        return Must.REFUSE, {**fields, rng.choice(["ts", "time", "T", "timestamp"]): value}, []
    return Must.REFUSE, {**fields, "t": bad}, []


def _mixed_list(rng: random.Random, rows: list[Any], unit: str) -> Built:
    good = [_fields(rng, row, unit) for row in rows]
    good.insert(rng.randrange(len(good) + 1), rng.choice([None, 1.0, {}, {"t": 1.0}, {"t": 1.0, "accX": 2}, [], "x"]))
    return Must.REFUSE, good, []


_SHAPES = [
    (build.__name__.strip("_"), build)
    for build in (
        _plain, _plain, _plain, _columnar, _unequal, _renamed, _half_renamed, _nested, _pairs, _vector, _one_vector,
        _bare, _typed, _marked, _infinite, _texts, _no_time, _mixed_list,
    )
]  # fmt: skip


def _without_marks(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_marks(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_marks(inner) for inner in value]
    return math.nan if value is _NAN else value


def _json(value: Any, rng: random.Random) -> bytes:
    separators = rng.choice([(",", ":"), (", ", ": "), (" ,\n", " : ")])
    return json.dumps(_without_marks(value), separators=separators, ensure_ascii=rng.random() < 0.5).encode()


def _damaged(
    rng: random.Random, payload: bytes, must: Must, rows: list[Any], format: str
) -> tuple[bytes, Must, list[Any], str]:
    kind = rng.choice(["cut", "twice", "NUL", "space", "mark", "tail"])
    if kind == "cut" and len(payload) > 1:
        # A number that is cut is one, but no document that begins with a brace is whole without its last byte.
        cut = payload[: rng.randrange(1, len(payload))]
        return (cut, Must.REFUSE, [], kind) if format != "json" or payload[:1] in b"{[" else (payload, must, rows, "")
    if format != "json" or payload[:1] not in b"{[":
        return payload + payload, Must.REFUSE, [], "twice"
    if kind == "twice":
        return payload + rng.choice([b"", b"\n", b","]) + payload, Must.REFUSE, [], kind
    if kind == "tail":
        return payload + rng.choice([b"x", b"}", b"\0x", b",", b"]"]), Must.REFUSE, [], kind
    whole = {"NUL": payload + b"\0" * rng.randrange(1, 4), "space": b" \n" + payload + b"\r\n\t"}
    return whole.get(kind, b"\xef\xbb\xbf" + payload), must, rows, kind
