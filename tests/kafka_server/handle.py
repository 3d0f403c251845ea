"""The test's end of the control port."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from typing import Any, NamedTuple


class Record(NamedTuple):
    """A record in the log; `standing` is plain, open, aborted or committed."""

    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes | None]
    standing: str
    producer: int
    epoch: int


class StrictKafka:
    """A running broker.

    Attributes:
        url: its kafka:// address.
        address: host and port, as librdkafka's bootstrap.servers wants them.
        pid: the process's id.
    """

    def __init__(self, port: int, control: int, pid: int) -> None:
        self.port, self.pid = port, pid
        self.address = f"127.0.0.1:{port}"
        self.url = f"kafka://{self.address}"
        self._lock = threading.Lock()
        self._socket = socket.create_connection(("127.0.0.1", control))
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        """Close the control connection; the broker goes on."""
        with contextlib.suppress(OSError):
            self._lines.close()
            self._socket.close()

    def call(self, name: str, /, **arguments: Any) -> Any:
        """Make a call of control.py."""
        with self._lock:
            self._socket.sendall(json.dumps({"call": name, **arguments}).encode() + b"\n")
            answer = json.loads(self._lines.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer["value"]

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """Create a topic; settings have _ where Kafka has a dot: cleanup_policy="compact"."""
        self.call(
            "create_topic",
            name=name,
            partitions=partitions,
            settings={key.replace("_", "."): value for key, value in settings.items()},
        )

    def records(self, topic: str, partition: int = 0) -> list[Record]:
        """Return what is in the log, aborted and open records too."""

        def data(text: str | None) -> bytes | None:
            return None if text is None else base64.b64decode(text)

        return [
            Record(
                one["offset"],
                data(one["key"]),
                data(one["value"]),
                {name: data(value) for name, value in one["headers"]},
                one["standing"],
                one["producer"],
                one["epoch"],
            )
            for one in self.call("records", topic=topic, partition=partition)
        ]

    def committed(self, topic: str, partition: int = 0) -> list[Record]:
        """Return the records that a reader of committed ones is to see in the end."""
        return [one for one in self.records(topic, partition) if one.standing in ("plain", "committed")]

    def offsets(self, topic: str, partition: int = 0) -> dict[str, int]:
        """Return start, stable and end."""
        return dict(self.call("offsets", topic=topic, partition=partition))

    def topics(self) -> dict[str, Any]:
        """Return partitions and settings by topic."""
        return dict(self.call("topics"))

    def groups(self) -> dict[str, Any]:
        """Return state, generation, members, committed and pending by group."""
        return dict(self.call("groups"))

    def transactions(self) -> dict[str, dict[str, Any]]:
        """Return producer, epoch, state, partitions by transactional id."""
        return {one["name"]: one for one in self.call("transactions")}

    def expire_transactions(self, *names: str) -> list[str]:
        """Abort open transactions of these ids as transaction.timeout.ms does, and fence their producers."""
        return list(self.call("expire_transactions", names=names))

    def expire_members(self, group: str, *members: str) -> list[str]:
        """Remove members by their ids, or all, as session.timeout.ms does."""
        return list(self.call("expire_members", group=group, members=members))

    def hold_markers(self) -> None:
        """Write no markers: EndTxn is answered, the transaction stays in PrepareCommit or PrepareAbort."""
        self.call("hold_markers")

    def release_markers(self) -> None:
        """Write the markers that were held, and all others at once again."""
        self.call("release_markers")

    def compact(self, topic: str, *, tombstones: bool = True) -> int:
        """Clean a compacted topic now; without `tombstones` they go, too. Return how many records went."""
        return int(self.call("compact", topic=topic, tombstones=tombstones))

    def retain(self, topic: str, offset: int, partition: int = 0) -> int:
        """Delete what is before an offset now; -1 is everything."""
        return int(self.call("retain", topic=topic, partition=partition, offset=offset))

    def fault(self, action: str, api: str = "*", **order: Any) -> int:
        """Order a fault, see `faults.Fault`, and return its number."""
        return int(self.call("fault", action=action, api=api, **order))

    def faults(self) -> list[dict[str, Any]]:
        """Return the orders; `hits` is how many requests each has hit."""
        return list(self.call("faults"))

    def await_fault(self, number: int, hits: int = 1, seconds: float = 30.0) -> None:
        """Wait until an order has hit."""
        if not self.call("wait_fault", number=number, hits=hits, seconds=seconds):
            raise AssertionError(f"no such request came in {seconds} s: {self.faults()[number]}")

    def await_requests(self, api: str, count: int = 1, seconds: float = 30.0) -> None:
        """Wait until so many requests of a kind have come since the start."""
        if not self.call("wait_requests", api=api, count=count, seconds=seconds):
            raise AssertionError(f"{self.counts().get(api, 0)} of {count} {api} came in {seconds} s")

    def clear(self) -> None:
        """Take all orders and pauses back."""
        self.call("clear")

    def pause(self, client: str = "") -> None:
        """Stop answering clients with this in their client.id; connections stay open."""
        self.call("pause", client=client)

    def resume(self) -> None:
        """Answer everybody again."""
        self.call("resume")

    def close_connections(self, client: str = "") -> int:
        """Cut the connections of clients with this in their client.id."""
        return int(self.call("close_connections", client=client))

    def clients(self) -> list[str]:
        """Return the client.id of each connection."""
        return list(self.call("clients"))

    def counts(self) -> dict[str, int]:
        """Return how many requests of each kind came."""
        return dict(self.call("counts"))

    def listen(self, **options: Any) -> int:
        """Open one more port, see `server.Server.listen`, and return its number."""
        return int(self.call("listen", **options))
