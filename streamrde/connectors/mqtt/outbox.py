"""Messages that a broker has not confirmed yet: under way, to be sent again, or refused for the time being."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from streamrde.connectors.ends import ConnectionCounts
from streamrde.connectors.mqtt.link import MqttLink
from streamrde.connectors.mqtt.messages import Outgoing
from streamrde.connectors.mqtt.reasons import is_final, is_refusal, named

logger = logging.getLogger(__name__)
# The first pause before refused messages are sent again, in seconds; each next one is twice as long.
_FIRST_PAUSE = 0.25
# Refusals are logged at most this often, in seconds.
_LOG_INTERVAL = 10.0


class Outbox:
    """Send messages over the present socket, and keep them until they are confirmed.

    A message that the broker refuses is not confirmed: where the refusal passes it is sent again after a pause that
    doubles up to `link.longest_pause`, else `fail` is called.

    Args:
        link: patience, will, and if what is refused may be sent again later.
        inflight: messages that wait for confirmation at a time, at most.
        counts: of the connection.
        fail: ends the connection for good; takes what happened, and if it would happen again.
    """

    def __init__(
        self, link: MqttLink, *, inflight: int, counts: ConnectionCounts, fail: Callable[[str, bool], None]
    ) -> None:
        self.limit = inflight
        self.paho: Any = None
        self.heard = 0.0
        """When the broker last gave a sign, or was first asked for one, `time.monotonic()`."""
        self._link = link
        self._counts = counts
        self._fail = fail
        self._under_way: dict[int, Outgoing] = {}
        self._again: list[Outgoing] = []
        self._postponed: list[Outgoing] = []
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0.0
        self._next_log = 0.0
        # The packet id that paho last reported as sent: one of QoS 0 often before its publish has returned.
        self._sent_early: int | None = None

    def __len__(self) -> int:
        return len(self._under_way) + len(self._again) + len(self._postponed)

    @property
    def is_waiting(self) -> bool:
        """Return whether the broker owes a confirmation."""
        return bool(self._under_way)

    @property
    def is_full(self) -> bool:
        """Return whether no further message may be sent now."""
        return len(self) >= self.limit

    def send(self, message: Outgoing) -> None:
        """Hand a message to the socket. If the socket breaks, the message goes out on the next connection."""
        if not self._under_way:
            self.heard = time.monotonic()
        self._sent_early = None
        info = self.paho.publish(
            message.topic, message.payload, message.qos, retain=message.retain, properties=message.properties
        )
        if info.rc:
            # The socket broke; its reader ends the connection, and the message goes out on the next.
            self._again.append(message)
        elif info.mid != self._sent_early:
            self._under_way[info.mid] = message

    def answered(self, mid: int, code: Any) -> None:
        """Note that the broker has answered a message of QoS 1, or the socket has taken one of QoS 0."""
        self.heard = time.monotonic()
        message = self._under_way.pop(mid, None)
        self._sent_early = mid
        if message is None:
            return
        if is_refusal(code):
            self._refused(message, code)
        else:
            self._pause = 0.0

    def send_again(self) -> None:
        """Send what a lost connection left unconfirmed."""
        messages, self._again = self._again, []
        for message in messages:
            self.send(message)
        self._counts.resent += len(messages)

    def lost(self) -> None:
        """Note that the connection is lost: pending messages go out again, or at QoS 0 are gone."""
        will = self._link.will
        for message in self._under_way.values():
            if message.qos and not (will and message.topic == will.topic):
                self._again.append(message)
            elif not message.qos:
                self._counts.lost += 1
        self._under_way.clear()

    def close(self) -> None:
        """Send nothing more by itself."""
        if self._timer is not None:
            self._timer.cancel()

    def _refused(self, message: Outgoing, code: Any) -> None:
        text = f"refuses a message on topic {message.topic!r} ({named(code)})"
        # Who does not connect again sends in order, which a message sent later would break.
        if is_final(code) or not self._link.reconnect:
            self._fail(f"{text}; it is not confirmed, and what it was made of is not acknowledged", is_final(code))
            return
        self._counts.refused += 1
        self._postponed.append(message)
        if self._timer is None:
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), self._link.longest_pause)
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._send_postponed)
        if time.monotonic() >= self._next_log:
            self._next_log = time.monotonic() + _LOG_INTERVAL
            logger.error("the broker %s; publishing it again after pauses, %d so far", text, self._counts.refused)

    def _send_postponed(self) -> None:
        self._timer = None
        messages, self._postponed = self._postponed, []
        if not self._counts.connected:
            self._again += messages
            return
        for message in messages:
            self.send(message)
