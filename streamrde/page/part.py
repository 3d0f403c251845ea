"""The stream that a viewer selected: what came since the last look, in bounded pieces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.compute as pc

from streamrde.runtime.recent import Recent, Ring, Rows

_MOST_ROWS = 2000
"""Samples in a message. Of more, every so many are sent, and the message says so."""
_MOST_PREDICTIONS = 400
_LARGE = ("state", "logsignature")


class Part:
    """Read what is kept of one stream, from where the last call ended.

    Args:
        recent: of the run.
        stream: name of the stream.
    """

    def __init__(self, recent: Recent, stream: str) -> None:
        self._recent = recent
        self._stream = stream
        self._seen = dict.fromkeys(("samples", "predictions", "provisional", "unused", "labels"), 0)

    def changes(self) -> dict[str, Any]:
        """Return what came since the last call: samples by channel, and rows of the rest. {}: nothing did."""
        found: dict[str, Any] = {}
        if len((samples := self._samples()).t):
            every = -(-len(samples.t) // _MOST_ROWS)
            found["t"] = samples.t[::every].tolist()
            found["x"] = samples.x[::every].T.tolist()
            found["every"] = every
        for name in ("predictions", "provisional", "unused", "labels"):
            if rows := self._rows(name):
                found[name] = rows
        return found

    def _samples(self) -> Rows:
        pieces = [piece.of(self._stream) for piece in self._since("samples")]
        if not pieces:
            return Rows(None, np.empty(0), np.empty((0, 0)))
        # The channels of a model that was swapped in are the same.
        return Rows(None, np.concatenate([p.t for p in pieces]), np.concatenate([p.x for p in pieces]))

    def _rows(self, name: str) -> list[dict[str, Any]]:
        found = []
        for batch in self._since(name):
            own = batch.filter(pc.equal(batch["stream"], self._stream))
            wanted = [column for column in own.schema.names if column not in ("stream", "row", *_LARGE)]
            found += own.select(wanted).to_pylist()
        return found[-_MOST_PREDICTIONS:]

    def _since(self, name: str) -> list[Any]:
        ring: Ring[Any] = getattr(self._recent, name)
        begin, self._seen[name] = self._seen[name], ring.end
        return ring.since(begin)
