"""Streams whose times cannot be right: each is said once."""

from __future__ import annotations

import logging

from streamrde.inference.fleet import Fleet

logger = logging.getLogger(__name__)
# Names that are remembered as said; who publishes is free to invent more.
_REMEMBERED = 10_000


class SuspectLog:
    """Says which streams' rows are rejected because their times cannot be right, and why."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._said: set[str] = set()
        self._said_all = False

    def look(self) -> int:
        """Say what is new; returns how many streams are rejected now. To be called after every push."""
        suspects = self._fleet.suspects
        if not suspects:
            self._said_all = False
            return 0
        for stream, reason in suspects.items():
            if stream not in self._said and len(self._said) < _REMEMBERED:
                self._said.add(stream)
                logger.error("stream %r: %s; its rows are rejected", stream, reason)
        if len(suspects) == len(self._fleet) and not self._said_all:
            self._said_all = True
            logger.error("no stream has times that can be right: all rows are rejected, and nothing is predicted")
        return len(suspects)
