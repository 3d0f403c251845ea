"""Predictions and dead letters of a partition, which wait for its next transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from streamrde.cluster.transactions import Record
from streamrde.connectors.dead_letters import MESSAGE_BYTES, encode_letter
from streamrde.connectors.ends import DeadLetter, DeadLetters, StagingSink
from streamrde.connectors.topics import TopicTemplate


class StagedLetters(DeadLetters):
    """Dead letters to a topic, which appear with the transaction that passes their messages."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._written: list[DeadLetter] = []
        self._due: list[DeadLetter] = []

    async def write(self, letters: Sequence[DeadLetter]) -> None:
        """Hold letters for the next checkpoint."""
        self._written += letters

    def stage(self) -> None:
        """Give what is held to the checkpoint that begins."""
        self._due += self._written
        self._written = []

    def staged(self) -> None:
        """Forget what is saved."""
        self._due = []

    def records(self) -> list[Record]:
        """Return the messages of the checkpoint that is being saved."""
        return [Record(self._topic, encode_letter(letter, MESSAGE_BYTES)) for letter in self._due]


class StagedPredictions(StagingSink):
    """Predictions to a topic, which appear with the transaction that saves the state they came from.

    They have the keys and payloads that `QueueSink` gives them.

    Args:
        topic: template of the topic, with the stream as the key.
        encode: makes a payload of a row of the prediction record batch.
        letters: dead letters of the same partition, which appear together with the predictions.
    """

    def __init__(
        self,
        topic: TopicTemplate,
        encode: Callable[[Mapping[str, Any]], bytes],
        letters: StagedLetters | None = None,
    ) -> None:
        topic.check_publishing()
        self._topic = topic
        self._encode = encode
        self._letters = letters
        self._written: list[pa.RecordBatch] = []
        self._due: list[pa.RecordBatch] = []

    async def write(self, batch: pa.RecordBatch) -> None:
        """Hold predictions for the next checkpoint."""
        self._written.append(batch)

    def resume(self, position: bytes, outbox: dict[int, bytes]) -> None:
        """See `StagingSink.resume`. The topic has what was committed, and nothing else."""

    def stage(self) -> tuple[bytes, list[bytes], int]:
        """See `StagingSink.stage`. `records` returns what was staged."""
        self._due += self._written
        self._written = []
        if self._letters is not None:
            self._letters.stage()
        return b"", [], 0

    def staged(self) -> None:
        """See `StagingSink.staged`."""
        self._due = []
        if self._letters is not None:
            self._letters.staged()

    def records(self) -> list[Record]:
        """Return the messages of the checkpoint that is being saved."""
        found, topics = [], dict[str, tuple[str, str]]()
        for batch in self._due:
            for row in batch.to_pylist():
                name = row["stream"]
                if (place := topics.get(name)) is None:
                    topic, _, key = self._topic.topic_of_any(name).partition("/")
                    place = topics[name] = topic, key
                found.append(Record(place[0], self._encode(row), place[1]))
        return found if self._letters is None else found + self._letters.records()
