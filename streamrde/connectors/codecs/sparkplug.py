"""Payloads of Sparkplug B: births say what the aliases of later data mean, and deaths end streams."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.connectors.codecs.checks import check_size
from streamrde.connectors.codecs.refusals import described, no_channel, shortened
from streamrde.connectors.codecs.tahu import SIGNED, DataType, parse, payload_class
from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import MAX_BYTES, Codec, Message, Rows
from streamrde.connectors.values import NotANumberError, Values
from streamrde.errors import ParameterError, PayloadError, SampleError
from streamrde.times.plausible import LARGEST

logger = logging.getLogger(__name__)

_NAMESPACE = "spBv1.0"
_BD_SEQ = "bdSeq"
_REBIRTH_METRIC = "Node Control/Rebirth"
# Seconds after which a node is asked for its birth again.
_PATIENCE = 60.0
# Nodes and devices that are remembered. Who publishes is free to invent more.
_MOST_STREAMS = 100_000
# Devices without any of the channels that are named in the log.
_MOST_STRANGERS = 5
_LARGEST_SEQ = 255


@dataclass
class _Births:
    """Metrics of one node or device, as its birth announced them."""

    channels: dict[str, int] = field(default_factory=dict)
    """Datatypes of the metrics that are channels, by name."""
    names: dict[int, str] = field(default_factory=dict)
    """Names of the metrics that are channels, by alias."""


@dataclass
class _Node:
    """An edge node with its devices, since its birth."""

    streams: dict[str, _Births | None] = field(default_factory=dict)
    """Its own stream and those of its devices. None: the node was born again, and the device was not yet."""
    session: int | None = None
    """Number of the session, bdSeq, which its death repeats."""
    seq: int | None = None
    """Number of the last message."""
    broken: bool = False
    """Messages are missing since the last birth, and the log has said so."""


class SparkplugCodec(Codec):
    """Decode Sparkplug B. Channels are names of metrics, and a stream is ``group/node`` or ``group/node/device``.

    All messages of a node must come to one codec, in their order: births tell the names and types of metrics, which
    later messages have as aliases. A birth's own values are samples too. Metrics of one timestamp are one sample, and
    those of several timestamps are several. A death ends the streams of a node, or of a device, and so does a birth
    with a new session. Commands and states of hosts are left unused.

    Data that need a birth which was not seen are malformed, until the node is born again. After `ask_for_births` the
    codec asks for it, at most once a minute per node, and also where messages are missing by their sequence numbers.
    These are counted.
    """

    format = "sparkplug"
    takes_topic: ClassVar[bool] = True

    def __init__(self, columns: Columns, *, max_bytes: int = MAX_BYTES) -> None:
        columns.refuse_others("Sparkplug B", ("missing", "words", "others"))
        super().__init__(columns, max_bytes=max_bytes)
        payload_class()
        if columns.time not in ("", "t", "timestamp") or columns.time_format or columns.time_unit not in ("s", "ms"):
            raise ParameterError(
                f"time = {columns.time!r}: metrics of Sparkplug B have timestamps in milliseconds; leave time, "
                'time_unit and time_format out, or set time = "" for times of arrival'
            )
        if columns.sequence:
            raise ParameterError("Sparkplug B numbers its messages itself: leave sequence out")
        self._values = Values(columns)
        self._places = {name: i for i, name in enumerate(columns.channels)}
        self._nodes: dict[str, _Node] = {}
        self._streams = 0
        self._ended: dict[str, None] = {}
        self._missed = 0
        self._strangers = 0
        self._asks = False
        self._asked: dict[str, float] = {}
        self._requests: list[tuple[str, bytes]] = []

    def decode(self, payload: bytes) -> tuple[Floats, Floats]:
        """Decode a payload without its topic, as `read` decodes the birth of a node. See `Codec.decode`."""
        message = self._parse(payload)
        births = _Births()
        self._announce(births, message)
        rows = self._rows(message, births, "")
        if not len(rows.t):
            raise PayloadError(no_channel(map(_name, message.metrics), self.columns))
        return rows.t, rows.x

    def read(self, message: Message) -> Rows:
        """Return the samples of a message, and the streams that end before them.

        Raises:
            PayloadError: it is not Sparkplug B, or its birth was not seen.
        """
        levels = message.topic.split("/")
        if levels[0] == _NAMESPACE and levels[1:2] == ["STATE"]:
            return self._nothing(unused=1)
        device = levels[4] if len(levels) == 5 else ""
        if levels[0] != _NAMESPACE or len(levels) != 4 + bool(device) or not all(levels):
            raise PayloadError(
                f"its topic is not one of Sparkplug B: {_NAMESPACE}/group/type/node, perhaps with /device"
            )
        kind, node = levels[2], f"{levels[1]}/{levels[3]}"
        if kind[:1] != ("D" if device else "N"):
            raise PayloadError(f"its topic has the type {shortened(kind)!r}, which does not go with its levels")
        stream = f"{node}/{device}" if device else node
        read = {"BIRTH": self._born, "DEATH": self._dead, "DATA": self._data}.get(kind[1:])
        if kind[1:] == "CMD":
            return self._nothing(unused=1)
        if read is None:
            raise PayloadError(f"its topic has the type {shortened(kind)!r}, which Sparkplug B does not have")
        try:
            rows = read(node, stream, self._parse(message.payload))
        except _UnbornError:
            self._ask(node, message.arrival)
            raise
        # What happened before a message that cannot be read is told with the next one.
        rows = rows._replace(ended=tuple(self._ended), missed=self._missed)
        if rows.missed:
            self._ask(node, message.arrival)
        self._ended, self._missed = {}, 0
        return rows

    def ask_for_births(self) -> None:
        """See `Codec.ask_for_births`."""
        self._asks = True

    def requests(self) -> list[tuple[str, bytes]]:
        """Return commands to nodes to be born again."""
        found, self._requests = self._requests, []
        return found

    def _ask(self, node: str, now: float) -> None:
        """Ask a node for its birth, unless it was asked within the last minute."""
        if not self._asks or now - self._asked.get(node, -math.inf) < _PATIENCE:
            return
        if len(self._asked) >= _MOST_STREAMS:
            self._asked.clear()
        self._asked[node] = now
        command = payload_class()(timestamp=round(time.time() * 1000))
        command.metrics.add(name=_REBIRTH_METRIC, datatype=DataType.BOOLEAN, boolean_value=True)
        group, _, name = node.rpartition("/")
        self._requests.append((f"{_NAMESPACE}/{group}/NCMD/{name}", command.SerializeToString()))

    def _parse(self, payload: bytes) -> Any:
        check_size(payload, self.max_bytes)
        return parse(payload, max_bytes=self.max_bytes)

    def _nothing(self, *, unused: int = 0) -> Rows:
        return Rows(np.empty(0), np.empty((0, len(self._places))), [], unused=unused)

    def _born(self, name: str, stream: str, message: Any) -> Rows:
        births = _Births()
        self._announce(births, message)
        if stream == name:
            before, session = self._nodes.pop(name, _Node()), _session(message)
            self._streams -= len(before.streams)
            streams: dict[str, _Births | None] = dict.fromkeys(before.streams)
            if before.session != session:  # whose death was not seen
                self._end(*streams)
                streams = {}
            self._streams += len(streams)
            self._nodes[name] = _Node(streams, session, _seq(message))
        elif (node := self._nodes.get(name)) is None:
            raise _UnbornError(f"the birth of its node {name!r} was not seen")
        else:
            self._follow(name, node, message)
            if not births.channels:
                self._warn_of_stranger(stream, message)
        self._remember(name, stream, births)
        return self._rows(message, births, stream)

    def _remember(self, name: str, stream: str, births: _Births) -> None:
        """Keep a birth, and forget the oldest where there are too many."""
        node = self._nodes[name]
        self._streams += stream not in node.streams
        node.streams[stream] = births
        while self._streams > _MOST_STREAMS:
            oldest = next(iter(self._nodes))
            if oldest != name:
                self._streams -= len(self._nodes.pop(oldest).streams)
            else:
                self._streams -= 1
                del node.streams[next(iter(node.streams))]
                # It goes to the end, so that other nodes are next.
                self._nodes[name] = self._nodes.pop(name)

    def _end(self, *streams: str) -> None:
        self._ended |= dict.fromkeys(streams)
        while len(self._ended) > _MOST_STREAMS:
            del self._ended[next(iter(self._ended))]

    def _dead(self, name: str, stream: str, message: Any) -> Rows:
        if (node := self._nodes.get(name)) is None:
            # Its streams may go on from a run before this one.
            self._end(stream, *([f"{name}/"] if stream == name else []))
            return self._nothing()
        if stream == name:
            session = _session(message)
            if session is not None and node.session is not None and _is_before(session, node.session):
                return self._nothing(unused=1)  # of an earlier session, and came late
            self._streams -= len(node.streams)
            self._end(*node.streams)
            del self._nodes[name]
            return self._nothing()
        self._follow(name, node, message)
        if stream in node.streams:
            self._streams -= 1
            self._end(stream)
            del node.streams[stream]
        return self._nothing()

    def _data(self, name: str, stream: str, message: Any) -> Rows:
        births = None
        if (node := self._nodes.get(name)) is not None:
            births = node.streams.get(stream)
            self._follow(name, node, message)
        rows = self._rows(message, births, stream)
        return rows if len(rows.t) or rows.unused else rows._replace(unused=1)

    def _announce(self, births: _Births, message: Any) -> None:
        for metric in message.metrics:
            name = _name(metric)
            if name in self._places:
                births.channels[name] = metric.datatype
                if metric.HasField("alias"):
                    births.names[metric.alias] = name

    def _rows(self, message: Any, births: _Births | None, stream: str) -> Rows:
        """Return a message's metrics as samples, one per timestamp, in the order of time."""
        rows: dict[float, list[float]] = {}
        unused = 0
        for name, datatype, metric in self._named(message, births):
            value = self._value(name, datatype, metric)
            if value is None:
                unused += 1
                continue
            row = rows.setdefault(self._time(metric, message), [math.nan] * len(self._places))
            row[self._places[name]] = value
        times = sorted(rows, key=lambda time: (math.isnan(time), time))
        x = np.array([rows[time] for time in times]).reshape(len(times), len(self._places))
        x = self._values.without_codes(x)
        return Rows(np.array(times, dtype=np.float64), x, [stream] * len(times), unused=unused)

    def _named(self, message: Any, births: _Births | None) -> Iterator[tuple[str, int, Any]]:
        """Yield the metrics that are channels, each with its name and datatype."""
        for metric in message.metrics:
            name = _name(metric)
            if not name and births is None:
                raise _UnbornError(f"metric {metric.alias} has no name, and the birth was not seen")
            if not name and births is not None:
                name = births.names.get(metric.alias, "")
            if name in self._places:
                yield name, metric.datatype or (0 if births is None else births.channels.get(name, 0)), metric

    def _value(self, name: str, datatype: int, metric: Any) -> float | None:
        """Return a metric's value, NaN if it is null, or None if it is of a type that no number can be made of."""
        field = metric.WhichOneof("value")
        if metric.is_null or field is None:
            return math.nan
        value = getattr(metric, field)
        if field in ("int_value", "long_value"):
            if not datatype:
                raise _UnbornError(f"metric {name!r} has no datatype, and the birth was not seen")
            if (width := SIGNED.get(datatype)) is not None:  # type: ignore[call-overload]
                value &= (1 << width) - 1
                value -= (value >> (width - 1)) << width
        elif isinstance(value, bytes):
            return None
        try:
            number = self._values.number(name, value)
        except NotANumberError as error:
            raise PayloadError(f"metric {name!r} is {described(value)}: {error}") from None
        if math.isinf(number):
            raise PayloadError(f"metric {name!r} is infinite; send it as null where it was not observed")
        return number

    def _time(self, metric: Any, message: Any) -> float:
        holder = metric if metric.HasField("timestamp") else message
        if not self.columns.time or not holder.HasField("timestamp"):
            return math.nan
        seconds: float = holder.timestamp / 1000
        if seconds >= LARGEST:
            raise PayloadError(f"timestamp {holder.timestamp} is no time that can be: Sparkplug B counts milliseconds")
        return seconds

    def _follow(self, name: str, node: _Node, message: Any) -> None:
        """Count the messages of a node that are missing before this one, by its number."""
        if (seq := _seq(message)) is None:
            return
        last, node.seq = node.seq, seq
        if last is None:
            return
        missed = (seq - last - 1) % (_LARGEST_SEQ + 1)
        if missed > _LARGEST_SEQ // 2:  # rather one that came again, or late, than so many that never came
            node.seq = last
            return
        self._missed += missed
        if missed and not node.broken:
            node.broken = True
            logger.warning(
                "Sparkplug node %r: %d messages never came, between number %d and %d; what they reported stays "
                "unknown until it changes or the node is born again (NCMD, Node Control/Rebirth)",
                name, missed, last, seq,
            )  # fmt: skip

    def _warn_of_stranger(self, stream: str, message: Any) -> None:
        self._strangers += 1
        if self._strangers <= _MOST_STRANGERS:
            logger.warning("Sparkplug device %r %s", stream, no_channel(map(_name, message.metrics), self.columns))

    def encode_samples(self, t: ArrayLike, x: ArrayLike) -> bytes:
        """Return samples as metrics with names and types, as a birth has them. See `Codec.encode_samples`."""
        times, values = np.asarray(t, dtype=np.float64), np.asarray(x, dtype=np.float64)
        if (self.columns.time and not np.isfinite(times).all()) or np.isinf(values).any():
            raise SampleError("Sparkplug B carries finite numbers only; drop the sample")
        message = payload_class()()
        for moment, row in zip(times.tolist(), values.tolist(), strict=True):
            for name, value in zip(self._places, row, strict=True):
                metric = message.metrics.add(name=name, datatype=DataType.DOUBLE)
                if self.columns.time:
                    metric.timestamp = _milliseconds(moment)
                if math.isnan(value):
                    metric.is_null = True
                else:
                    metric.double_value = value
        encoded: bytes = message.SerializeToString()
        return encoded


class _UnbornError(PayloadError):
    """A message needs a birth that was not seen."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"{reason}; ask the node for a rebirth (NCMD Node Control/Rebirth; rebirth = true does), or start first"
        )


def _name(metric: Any) -> str:
    try:
        return str(metric.name)
    except UnicodeDecodeError:
        raise PayloadError("the name of a metric is not UTF-8") from None


def _seq(message: Any) -> int | None:
    return int(message.seq) & _LARGEST_SEQ if message.HasField("seq") else None


def _session(message: Any) -> int | None:
    for metric in message.metrics:
        if _name(metric) == _BD_SEQ and metric.WhichOneof("value") in ("int_value", "long_value"):
            return int(getattr(metric, metric.WhichOneof("value")))
    return None


def _is_before(session: int, other: int) -> bool:
    """Return True if a session is earlier than another, by numbers that begin again at 0 after 255.

    A number that is ahead is no late message: some nodes count on before they say that they leave.
    """
    return 0 < (other - session) % (_LARGEST_SEQ + 1) <= _LARGEST_SEQ // 2


def _milliseconds(time: float) -> int:
    ticks = round(time * 1000)
    if ticks < 0 or ticks / 1000 != time:
        raise SampleError(f"Sparkplug B counts time in milliseconds since 1970, and {time!r} s is not a number of them")
    return ticks
