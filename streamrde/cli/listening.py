"""Receive the messages of a live source for a while, unread."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import pyarrow as pa

from streamrde.config import RunConfig
from streamrde.connectors.clients import QueueClient
from streamrde.connectors.ends import Batch
from streamrde.connectors.kafka.topics import KAFKA
from streamrde.connectors.payloads import PayloadSourceConfig
from streamrde.connectors.registry import SOURCES
from streamrde.connectors.sections import ModelOutline
from streamrde.connectors.topics import NATS, Grammar, TopicTemplate
from streamrde.errors import ConfigError
from streamrde.looking.guesses import Guess
from streamrde.looking.messages import Captured
from streamrde.nearest import listed
from streamrde.settings import convert

# A channel that no payload has: each message is handed on as one that cannot be read, which is what is wanted.
_NO_CHANNEL = "what streamrde init looks for"
# Keys with which listening changes nothing at the broker, by kind.
_QUIETLY: dict[str, dict[str, Any]] = {"mqtt": {"qos": 0}, "nats": {"jetstream": False}, "websocket": {}}
# Kinds that are listened to by a client of its own, with placeholders for keys that belong to a reader.
_APART: dict[str, dict[str, Any]] = {"redis": {"group": "-"}, "amqp": {"queue_name": "-"}, "kafka": {"group": "-"}}
# Kinds whose URL has a path of its own, and no topics behind it.
_WHOLE = {"ws": "websocket", "wss": "websocket"}
# Enough messages to see shapes, rates and spellings.
_ENOUGH = 50_000
# Seconds between two looks at a client that says nothing of what it received.
_LOOK_EVERY = 0.1
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<host>[^/]*)/?(?P<topic>.*)", re.DOTALL)

Say = Callable[[str], None]


class Place(NamedTuple):
    """Describe a live source by its URL."""

    kind: str
    url: str
    """URL of the broker or server, without topics, user and password."""
    topic: str | None
    """Topics to listen to, in the signs of the queue. None: the source has none."""
    keys: Mapping[str, str] = {}
    """User and password of the URL."""

    @property
    def shown(self) -> str:
        """Return the URL as it may be shown."""
        return f"{self.url}/{self.topic}" if self.topic else self.url


def place_of(url: str) -> Place | None:
    """Return where a URL leads, or None if it is no URL of a live source.

    Raises:
        ConfigError: init cannot listen to such a source.
    """
    found = _SCHEME.fullmatch(url)
    if found is None:
        return None
    scheme, (secret, _, host) = found["scheme"].lower(), found["host"].rpartition("@")
    user, _, password = secret.partition(":")
    keys = {name: unquote(value) for name, value in (("user", user), ("password", password)) if value}
    if scheme in _WHOLE:
        path = f"/{found['topic']}" if found["topic"] else ""
        return Place(_WHOLE[scheme], f"{found['scheme']}://{host}{path}", None, keys)
    if scheme in ("kafka", "kafka+ssl"):
        return Place("kafka", f"{scheme}://{host}", found["topic"], keys)
    kind = next((kind for kind in _APART if scheme in (kind, f"{kind}s")), None)
    if kind is not None:
        first, slash, topic = found["topic"].partition("/")
        if not slash and (not first.isdecimal() if kind == "redis" else set(first) & set("#*")):
            first, topic = "", first
        return Place(kind, f"{found['scheme']}://{host}{'/' if first else ''}{first}", topic, keys)
    kind = next((kind for kind in _QUIETLY if scheme in (kind, f"{kind}s") or scheme.startswith(f"{kind}+")), None)
    if kind is not None:
        return Place(kind, f"{found['scheme']}://{host}", found["topic"], keys)
    if {scheme, scheme.removesuffix("s")} & set(SOURCES.names()) and scheme not in ("http", "https"):
        raise ConfigError(
            f"{found['scheme']}://{host}: init does not listen there, as that could take messages from other readers "
            f"or leave a reader behind; begin with streamrde init run (it listens to {listed([*_QUIETLY, *_APART])})"
        )
    return None


def listen(
    place: Place, *, seconds: float, keys: Mapping[str, Any], say: Say
) -> tuple[list[Captured], PayloadSourceConfig, float, dict[str, Guess]]:
    """Receive messages until the time is over, Ctrl-C, or there are enough.

    Args:
        keys: further keys of the section [source], such as user.
        say: shows a line on how it goes.
    Returns:
        The messages, the section that received them, for how long it did, and keys that were found out.
    Raises:
        ConfigError, BrokerError: the source cannot be reached, or a key is wrong.
    """
    grammar, config = _section(place, keys)
    begin = time.monotonic()
    with _silence():
        captured, fields = asyncio.run(_receive(config, place.topic or "", seconds, keys, say))
    captured = _wanted(captured, place, grammar)
    captured, found = _chosen_field(captured, fields, keys)
    return captured, config, time.monotonic() - begin, found


async def heard(place: Place, keys: Mapping[str, Any]) -> AsyncGenerator[tuple[list[Captured], int], None]:
    """Receive messages until Ctrl-C, and yield those that have come with the number of those that were dropped.

    A broker that goes away is waited for where its client connects again without repeating what it has sent: MQTT, NATS
    and WebSocket. Elsewhere it is an error.

    Args:
        keys: further keys of the section [source], such as user.
    Raises:
        ConfigError, BrokerError: the source cannot be reached, or a key is wrong.
    """
    grammar, config = _section(place, keys, whole=True)
    topic = place.topic or ""
    filtered = TopicTemplate(topic, config.grammar, named=False).filter if topic else ""
    ended = asyncio.Event()
    with _silence(), _interrupting(ended):
        client = config.overhear(filtered, _ENOUGH, keys)
        if client is None:
            source = config.build(ModelOutline((_NO_CHANNEL,), pa.schema([]), {}))
            batches = _letters(source)
        else:
            batches = _overheard(client)
        ending = asyncio.ensure_future(ended.wait())
        coming = asyncio.ensure_future(anext(batches))
        try:
            while True:
                await asyncio.wait((coming, ending), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                messages, dropped = coming.result()
                yield _wanted(messages, place, grammar), dropped
                coming = asyncio.ensure_future(anext(batches))
        finally:
            for task in (ending, coming):
                task.cancel()
            await asyncio.gather(ending, coming, return_exceptions=True)
            await batches.aclose()


async def _letters(source: Any) -> AsyncGenerator[tuple[list[Captured], int], None]:
    async with source:
        async for batch in source:
            yield [Captured(one.topic, one.payload, one.received) for one in batch.letters], source.counts.dropped


async def _overheard(client: QueueClient) -> AsyncGenerator[tuple[list[Captured], int], None]:
    assert client.intake is not None  # noqa: S101 (it receives)
    waiting = client.intake.messages
    client.patience = replace(client.patience, wait=False, reconnect=False)
    async with client:
        while True:
            messages = [waiting.popleft() for _ in range(len(waiting))]
            if messages:
                yield [Captured(one.topic, one.payload, one.arrival) for one in messages], 0
            else:
                await client.wait(timeout=_LOOK_EVERY)


def _section(place: Place, keys: Mapping[str, Any], *, whole: bool = False) -> tuple[Grammar, PayloadSourceConfig]:
    section: type[Any] | None = SOURCES.find(place.kind)
    if section is None or not issubclass(section, PayloadSourceConfig):
        raise ConfigError(f"{place.url}: there is no source of the kind {place.kind!r}")
    grammar: Grammar = section.grammar
    tables = {**(_QUIETLY | _APART)[place.kind], "url": _with_secret(place), "quarantine_faults": 0, **keys}
    if place.topic is not None:
        tables["topic"] = template_of(place.topic, grammar) if grammar is not KAFKA else place.topic or "*"
    above = (place.topic or "").removesuffix(">")
    if whole and grammar is NATS and place.topic == f"{above}>":
        # There the rest of a subject is one level at least, and a name takes one.
        tables["topics"] = [{"topic": f"{above}{{stream}}"}, {"topic": f"{above}{{stream}}.>"}]
        del tables["topic"]
    # As a whole run is read, so that errors name the keys as they stand in its file.
    run = {"model": "-", "source": {"kind": place.kind, **tables}, "sink": {"kind": "arrow", "path": "-"}}
    config = convert(run, RunConfig).source.without_waiting()
    assert isinstance(config, PayloadSourceConfig)  # noqa: S101 (the section's class says so)
    return grammar, config


def _wanted(captured: list[Captured], place: Place, grammar: Grammar) -> list[Captured]:
    """Return the messages of the topics that were asked for, as the source may receive more."""
    if grammar is KAFKA:  # where messages may have keys, topics are matched before
        return captured
    wanted = re.compile(_pattern(place.topic or "", grammar))
    return [one for one in captured if wanted.fullmatch(one.topic)]


def _with_secret(place: Place) -> str:
    """Return the URL with user and password, for the connection alone."""
    if not place.keys:
        return place.url
    scheme, _, host = place.url.partition("://")
    user, password = (quote(place.keys.get(name, ""), safe="") for name in ("user", "password"))
    secret = f"{user}:{password}" if password else user
    return f"{scheme}://{secret}@{host}"


def template_of(topic: str, grammar: Grammar) -> str:
    """Return a template with {stream} that takes at least the topics of a filter.

    >>> from streamrde.connectors.topics import MQTT
    >>> [template_of(topic, MQTT) for topic in ("", "a/#", "a/+/b", "a/b")]
    ['{stream}/#', 'a/{stream}/#', 'a/{stream}/b', 'a/{stream}']
    """
    separator, one, rest = grammar
    levels = topic.split(separator) if topic else [rest or one]
    if one in levels:
        levels[levels.index(one)] = "{stream}"
    elif levels[-1] == rest and rest:
        levels.insert(len(levels) - 1, "{stream}")
    elif "{stream}" not in levels:
        levels[-1] = "{stream}"
    return separator.join(levels)


def _pattern(topic: str, grammar: Grammar) -> str:
    separator, one, rest = grammar
    if not topic:
        return "(?s:.*)"
    level = f"[^{re.escape(separator)}]*"
    parts = [
        "(?s:.*)" if rest and part == rest else level if part == one or part[:1] == "{" else re.escape(part)
        for part in topic.split(separator)
    ]
    return re.escape(separator).join(parts)


async def _receive(
    config: PayloadSourceConfig, topic: str, seconds: float, keys: Mapping[str, Any], say: Say
) -> tuple[list[Captured], dict[str, str]]:
    """Return the messages, and the field of an entry that has the payload by topic, where a queue has such fields."""
    filtered = TopicTemplate(topic, config.grammar, named=False).filter if topic else ""
    client = config.overhear(filtered, _ENOUGH, keys)
    if client is not None:
        return await _overhear(client, seconds, say)
    captured: list[Captured] = []
    source = config.build(ModelOutline((_NO_CHANNEL,), pa.schema([]), {}))
    async with source:
        enough = asyncio.Event()
        taking = asyncio.create_task(_take(source, captured, enough))
        await _until(enough, seconds, lambda: (len(captured), {one.topic for one in captured}), say, taking.done)
        source.stop()
        done, _ = await asyncio.wait([taking], timeout=5.0)
        if done:
            await taking  # raises what went wrong
        else:
            taking.cancel()
    return captured, {}


async def _overhear(client: QueueClient, seconds: float, say: Say) -> tuple[list[Captured], dict[str, str]]:
    """Receive with a client that takes no message from others."""
    assert client.intake is not None  # noqa: S101 (it receives)
    messages, limit = client.intake.messages, client.intake.limit
    client.patience = replace(client.patience, wait=False, reconnect=False)

    def ended() -> bool:
        client.check()
        return len(messages) >= limit

    async with client:
        await _until(
            asyncio.Event(), seconds, lambda: (len(messages), {one.key for one in messages}), say, ended
        )  # fmt: skip
    captured = [
        Captured(one.topic, one.payload, one.arrival if math.isnan(one.stamped) else one.stamped) for one in messages
    ]
    return captured, getattr(client, "fields", {})


async def _until(
    enough: asyncio.Event,
    seconds: float,
    state: Callable[[], tuple[int, Collection[object]]],
    say: Say,
    ended: Callable[[], bool],
) -> None:
    """Wait until the time is over, Ctrl-C, or there is enough, and show how it goes."""
    loop = asyncio.get_running_loop()
    # What came by Ctrl-C is looked at.
    with _interrupting(enough):
        end = loop.time() + seconds
        while not enough.is_set() and not ended() and (left := end - loop.time()) > 0:
            count, topics = state()
            say(f"listening: {count:,} messages on {len(topics):,} topics, {left:.0f} s left (Ctrl-C: enough)")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), min(0.5, left))


@contextlib.contextmanager
def _interrupting(event: asyncio.Event) -> Iterator[None]:
    """Set an event on Ctrl-C while the block lasts."""
    loop = asyncio.get_running_loop()
    # Loops on Windows have no signal handlers (NotImplementedError), and threads beside the main one may set none
    # (RuntimeError, ValueError).
    unsupported = (NotImplementedError, RuntimeError, ValueError)
    with contextlib.suppress(*unsupported):
        loop.add_signal_handler(signal.SIGINT, event.set)
    try:
        yield
    finally:
        with contextlib.suppress(*unsupported):
            loop.remove_signal_handler(signal.SIGINT)


def _chosen_field(
    captured: list[Captured], fields: Mapping[str, str], keys: Mapping[str, Any]
) -> tuple[list[Captured], dict[str, Guess]]:
    """Return the messages whose payload is in the same field of an entry, and that field."""
    by_field = Counter(fields[one.topic] for one in captured if one.topic in fields)
    if not by_field or "field" in keys:
        return captured, {}
    field = by_field.most_common(1)[0][0]
    others = [topic for topic in dict.fromkeys(one.topic for one in captured) if fields.get(topic) != field]
    why = f"field {field!r} of an entry has the payload" if field else "the fields of an entry are the values"
    unsure = f"the entries of {listed(others, most=3)} are laid out in another way, and were not looked at"
    kept = [one for one in captured if fields.get(one.topic) == field]
    return kept, {"field": Guess(field, why, unsure if others else "")}


async def _take(source: Any, captured: list[Captured], enough: asyncio.Event) -> None:
    batch: Batch
    async for batch in source:
        captured += [Captured(letter.topic, letter.payload, letter.received) for letter in batch.letters]
        if len(captured) >= _ENOUGH:
            enough.set()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep connectors from logging that they cannot read the messages, which is how they are received unread."""
    logger = logging.getLogger("streamrde.connectors")
    before = logger.level
    logger.setLevel(logging.ERROR + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def progress(*, quiet: bool) -> Say:
    """Return a function that shows a line on standard error, over the last one on a terminal."""
    if quiet:
        return lambda text: None
    if sys.stderr.isatty():
        return lambda text: print(f"\r\x1b[2K{text}", end="", file=sys.stderr, flush=True)
    said: list[str] = []

    def once(text: str) -> None:
        if not said:
            said.append(text)
            print("listening ... (Ctrl-C: enough)", file=sys.stderr, flush=True)

    return once


def pairs(keys: Sequence[str]) -> dict[str, Any]:
    """Read KEY=VALUE, whose values are numbers, true, false or text.

    Raises:
        ConfigError: there is no equals sign.
    """
    found: dict[str, Any] = {}
    for text in keys:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--source {text!r}: write KEY=VALUE, such as user=me")
        found[name.strip()] = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
    return found
