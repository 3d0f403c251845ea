"""Messages on their way."""

from __future__ import annotations

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
