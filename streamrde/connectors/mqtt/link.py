"""The link to an MQTT broker: protocol version, TLS, last will, patience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from streamrde.connectors.access import Tls as Tls
from streamrde.errors import ParameterError

Version: TypeAlias = Literal["3.1.1", "5"]


@dataclass(frozen=True)
class Will:
    """A topic that says whether this client is there: retained, so that who comes later sees it too.

    Args:
        topic: where the state is published.
        online: published once connected.
        offline: published by the broker when the connection is lost, and by the client when it ends in order.
        qos: 0 or 1.
    """

    topic: str
    online: str = "online"
    offline: str = "offline"
    qos: Literal[0, 1] = 1

    def __post_init__(self) -> None:
        if not self.topic or any(sign in self.topic for sign in "+#{}\0"):
            raise ParameterError(f"will: topic {self.topic!r} must be one topic, without wildcards and braces")


@dataclass(frozen=True)
class MqttLink:
    """Settings of a client's connection, and of its reconnection.

    Args:
        version: "3.1.1" or "5".
        tls: files of TLS, for mqtts:// only; None: the system's authorities.
        will: a topic that says whether this client is there; None: none does.
        keepalive: seconds without traffic after which each side asks whether the other is there.
        timeout: seconds for the broker to accept a connection, to answer, or to confirm a message.
        reconnect: connect again when a connection that stood is lost, for ever, after pauses that double with jitter;
            False: a lost connection is an error.
        wait: try the first connection for ever too, as long as the broker is not there; what it refuses for good, such
            as a password, is an error at once. False: it is tried once.
        longest_pause: seconds between two attempts, at most.
        session_expiry: seconds for which a broker of MQTT 5 keeps the session of a client that is away. In MQTT 3.1.1
            the broker decides.
    """

    version: Version = "3.1.1"
    tls: Tls | None = None
    will: Will | None = None
    keepalive: int = 60
    timeout: float = 10.0
    reconnect: bool = True
    wait: bool = False
    longest_pause: float = 30.0
    session_expiry: int = 7 * 86400

    def __post_init__(self) -> None:
        if self.version not in ("3.1.1", "5"):
            raise ParameterError(f"version = {self.version!r}: use '3.1.1' or '5'")
        if not (self.timeout > 0 and self.longest_pause > 0 and 1 <= self.keepalive <= 65535):
            raise ParameterError("timeout and longest_pause must be above 0, keepalive from 1 to 65535 s")
        if not 0 <= self.session_expiry < 2**32:
            raise ParameterError(f"session_expiry = {self.session_expiry}: use 0 to 4294967295 s")
