"""A run none of whose streams has times that can be right."""

from __future__ import annotations

import logging

from streamrde.inference.fleet import Fleet

logger = logging.getLogger(__name__)


class SuspectLog:
    """Count the streams whose rows are rejected for their times, and warn once if all of them are.

    Each alone is one of the fleet's troubles.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._said = False

    def look(self) -> int:
        """Return how many streams are rejected now. To be called after every push."""
        suspects = self._fleet.suspects
        everyone = bool(suspects) and len(suspects) == len(self._fleet)
        if everyone and not self._said:
            reason = next(iter(suspects.values()))
            logger.error("no stream has times that can be right, and nothing is predicted: %s", reason)
        self._said = everyone
        return len(suspects)
