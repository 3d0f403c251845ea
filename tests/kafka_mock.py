"""librdkafka's mock cluster: several brokers in threads of this process, which return errors on demand."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Numbers of requests in Kafka's protocol.
PRODUCE, FETCH, METADATA, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT = 0, 1, 3, 8, 11, 12
_PRODUCER = 0  # RD_KAFKA_PRODUCER: the mock cluster needs some client to live in


def _library() -> ctypes.CDLL:
    import confluent_kafka

    (bundled,) = Path(confluent_kafka.__file__).parents[1].glob("confluent_kafka.libs/librdkafka-*.so*")
    found = ctypes.CDLL(f"{bundled}")
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(found, name).restype = ctypes.c_void_p
    found.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return found


class MockCluster:
    """A running mock cluster."""

    def __init__(self, library: Any, cluster: Any) -> None:
        self._library, self._cluster = library, cluster
        self.servers: list[str] = library.rd_kafka_mock_cluster_bootstraps(cluster).decode().split(",")
        self.url = f"kafka://{self.servers[0]}"

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic with a replica on each broker."""
        self._do("topic_create", name.encode(), partitions, len(self.servers))

    def fail(self, request: int, *codes: int) -> None:
        """Answer the next requests with these error codes, one each."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, ctypes.c_int16(request), ctypes.c_size_t(len(codes)), (ctypes.c_int * len(codes))(*codes)
        )

    def lead(self, topic: str, broker: int, partition: int = 0) -> None:
        """Make a broker the leader of a partition."""
        self._do("partition_set_leader", topic.encode(), partition, broker)

    def coordinate(self, group: str, broker: int) -> None:
        """Make a broker the coordinator of a group."""
        self._do("coordinator_set", b"group", group.encode(), broker)

    def stop(self, broker: int) -> None:
        """Close a broker's connections, and accept none."""
        self._do("broker_set_down", broker)

    def start(self, broker: int) -> None:
        """Let a broker accept connections again."""
        self._do("broker_set_up", broker)

    def _do(self, name: str, *arguments: Any) -> None:
        error = getattr(self._library, f"rd_kafka_mock_{name}")(self._cluster, *arguments)
        assert error == 0, f"{name}{arguments}: {error}"


@contextmanager
def mock_kafka(brokers: int = 1) -> Iterator[MockCluster]:
    """A mock cluster with so many brokers, numbered from 1."""
    library = _library()
    settings = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(settings, b"log_level", b"0", None, ctypes.c_size_t(0))
    client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, settings, None, ctypes.c_size_t(0)))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, brokers))
    library.rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, 0)
    try:
        yield MockCluster(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)
