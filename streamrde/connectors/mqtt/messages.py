"""Messages on their way, and the counts of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from paho.mqtt.client import MQTTMessage
from paho.mqtt.properties import Properties


class Receipt:
    """A message of QoS 1 that waits for its acknowledgement."""

    __slots__ = ("done", "message", "socket")

    def __init__(self, message: MQTTMessage, socket: int) -> None:
        self.message = message
        self.socket = socket
        """Number of the socket on which it came. A packet id means nothing on another socket."""
        self.done = False


class Outgoing(NamedTuple):
    """A message that the broker has not confirmed yet."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties | None


@dataclass
class ConnectionCounts:
    """State of the connection, and counts of what has happened to it."""

    connected: bool = False
    waiting: bool = False
    """At the start: the broker is not there yet, and is asked again and again."""
    connects: int = 0
    """Number of times the connection was made, including the first."""
    sessions_lost: int = 0
    """Number of times the broker had forgotten the session. Everything it held for this client is then lost."""
    redelivered: int = 0
    """Messages that came again while they were still held here. They are passed on once."""
    resent: int = 0
    """Messages published again because a lost connection left them unconfirmed."""
    refused: int = 0
    """Messages that the broker refused for the time being (MQTT 5), and that are published again."""
    lost: int = 0
    """Messages of QoS 0 that were under way when a connection was lost."""
