"""Describe what a shared run would find: partitions, lag, state, workers, and what is wrong with them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from streamrde.cluster import placing
from streamrde.cluster.contents import ChangelogPlace, mapped, read
from streamrde.cluster.lag import Member, lag_text, lags_of, members_of
from streamrde.cluster.topics import check_topics, input_warnings, retention_text, settings_of, warnings_of
from streamrde.errors import StateError

# Latest records of each partition, by which the size of the others is guessed.
_SAMPLE = 50


@dataclass(frozen=True)
class Description:
    """Hold lines for people, and what may go wrong."""

    lines: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def describe(place: ChangelogPlace) -> Description:
    """Look at the topics and the group of a run, without changing anything.

    Raises:
        StateError: the changelog does not fit the input, or `streamrde state` works on it.
    """
    source, group = place.input
    counts = place.counts()
    if source not in counts:
        raise StateError(f"the input {source!r} is not at {place.broker}: create the topic, or check [source] topic")
    check_topics(counts, changelog=place.topic, source=source, config=place.config)
    found = Description()
    with mapped(place):
        admin = place.admin()
        members = members_of(admin, group)
        settings, own = settings_of(admin, source), settings_of(admin, place.topic)
    lags = placing.lags(place)
    there = place.topic in counts
    found.lines["partitions"] = (
        f"{counts[source]} of {source}, and as many of changelog {place.topic}"
        if there
        else f"{counts[source]} of {source}; changelog {place.topic} is created with as many"
    )
    found.lines["lag"] = lag_text(lags)
    found.lines["retention"] = retention_text(settings)
    found.warnings.extend(input_warnings(settings, source, broker=place.broker))
    found.lines["changelog"] = _size(place) if there else "not there yet: streams begin anew"
    found.lines["workers"] = members_text(members, len(lags))
    if place.keyed:
        placed = placing.placement(place, lags, count=len(lags))
        found.lines["keys"] = placed.text()
        if placed.strays:
            found.warnings.append(f"topic {source!r}: {placed.text()}")
    else:
        found.lines["keys"] = "not looked at: streams are named by fields or topics"
    if lost := sum(lag.lost for lag in lags):
        found.warnings.append(
            f"topic {source!r}: {lost:,} messages were deleted before group {group!r} had read them, and are lost; "
            f"keep messages longer:  kafka-configs.sh --bootstrap-server {place.broker} --alter --entity-type topics "
            f"--entity-name {source} --add-config retention.ms=604800000"
        )
    if there:
        found.warnings.extend(warnings_of(own, place.topic, broker=place.broker))
    return found


def members_text(members: list[Member], partitions: int) -> str:
    """Describe which worker has which partitions."""
    if not members:
        return "none now"
    texts = []
    for member in sorted(members):
        numbers = sorted(number for _, number in member.partitions)
        texts.append(f"{member} {_ranges(numbers) if numbers else 'none'}")
    given = sum(len(member.partitions) for member in members)
    return f"{len(members)}, with {given} of {partitions} partitions: {'; '.join(texts)}"


def _ranges(numbers: list[int]) -> str:
    """Write numbers as 0-3,5."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{part[0]}" if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _size(place: ChangelogPlace) -> str:
    """Describe the size of a changelog by its offsets and latest records. Reading all of it could take long."""
    with mapped(place), contextlib.closing(place.consumer()) as consumer:
        lags = lags_of(consumer, place.topic)
    records = sum(lag.high - lag.low for lag in lags)
    begins = {lag.partition: max(lag.low, lag.high - _SAMPLE) for lag in lags if lag.high > lag.low}
    sizes = [
        len(message.value() or b"")
        for message in (read(place, place.topic, begins) if begins else ())
        if (message.key() or b"")[:1] == b"s"
    ]
    mean = sum(sizes) / len(sizes) if sizes else 0.0
    return f"at most {records:,} records of about {mean:,.0f} bytes, {records * mean / 1e6:,.1f} MB, before compaction"
