"""Partitions in which the samples of streams lie, found out from the keys in the input."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from streamrde.cluster.contents import ChangelogPlace, mapped, read
from streamrde.cluster.lag import Lag, lags_of
from streamrde.cluster.partitioners import PARTITIONERS, Partitioner, Placement
from streamrde.errors import StateError

# Messages of each partition, the latest, that are looked at.
_LOOK = 1000


def lags(place: ChangelogPlace) -> list[Lag]:
    """Return the positions of the group in the input."""
    source, _ = place.input
    with mapped(place), contextlib.closing(place.consumer()) as consumer:
        return lags_of(consumer, source)


def placement(place: ChangelogPlace, found: Iterable[Lag], *, count: int) -> Placement:
    """Return where the keys of the input's latest messages lie.

    Args:
        found: positions in the partitions to look at.
        count: partitions of the input.
    """
    source, _ = place.input
    placed, keys = Placement(count), dict[tuple[bytes, int], None]()
    begins = {lag.partition: max(lag.low, lag.high - _LOOK) for lag in found if lag.high > lag.low}
    for message in read(place, source, begins) if begins and count > 1 else ():
        keys[message.key() or b"", message.partition()] = None
    placed.see_all(keys)
    return placed


def chosen(placed: Placement, given: Partitioner | None, what: str) -> Partitioner:
    """Return the partitioner to place streams by.

    Args:
        placed: where keys lie.
        given: the one to use in any case. None: the one that put the keys where they lie.
        what: where the keys are, for the error.
    Raises:
        StateError: the keys tell none, or several sorts of producers wrote them.
    """
    if given is not None or placed.count == 1:
        return given or "murmur2"
    if (own := placed.partitioner) is None or placed.strays:
        raise StateError(
            f"{what}: {placed.text()}; say where streams belong with --partitioner {'|'.join(PARTITIONERS)}"
        )
    return own


def placer(partitioner: Partitioner, count: int) -> Callable[[str], int]:
    """Return a function from a stream to its partition among `count`."""
    place = PARTITIONERS[partitioner]
    return lambda stream: place(stream.encode("utf-8", "surrogateescape"), count)


def check_keyed(place: ChangelogPlace) -> None:
    """Raise StateError where streams are not named by the keys of messages, so that their partitions are not known."""
    if not place.keyed:
        raise StateError(
            f"{place.name}: its streams are named by fields or topics, so that nothing says in which partition their "
            "samples are; give the messages of a stream its name as their key, and name the topic only"
        )
