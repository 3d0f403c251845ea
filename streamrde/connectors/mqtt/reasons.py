"""Why a broker refuses: the reason codes of MQTT 5, and what to do about each.

MQTT 3.1.1 has codes for a refused connection and a refused subscription, which paho translates. For a refused message
it has none: a broker confirms the message and drops it, or closes the connection.

Source: OASIS MQTT 5.0, section 2.4, table 2-6.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

from streamrde.connectors.mqtt.topics import MqttAddress
from streamrde.errors import BrokerError

_FAILURE = 0x80

# Refusals that pass by themselves: unspecified and implementation-specific errors, server unavailable or busy, shutting
# down, keep alive timeout, packet identifier in use, message rate too high, quota exceeded, administrative action,
# connection rate exceeded, maximum connect time. What else there is comes again however often one tries.
_PASSING = frozenset({128, 131, 136, 137, 139, 141, 145, 150, 151, 152, 159, 160})

_REMEDIES = {
    132: 'set version = "3.1.1"',
    133: "choose another client_id",
    134: "check user and password",
    135: "check user and password, and the broker's access rules",
    138: "ask who runs the broker",
    142: "another client has connected with the same client_id: give each client its own",
    144: "choose another topic",
    149: "the broker allows no message of this size: raise its limit, or send smaller ones",
    151: "the broker's quota is used up: raise it",
    154: "the broker keeps no retained messages: set retain = false, and no will",
    155: "the broker does not offer this quality of service: choose another qos",
    156: "set url to the broker's other address",
    157: "set url to the broker's new address",
    162: "the broker allows no wildcards: name each topic",
}  # fmt: skip


class LinkError(Exception):
    """The connection cannot be made, or was lost."""


class RefusedError(LinkError):
    """The broker refused the connection, with a reason code."""

    def __init__(self, code: Any) -> None:
        super().__init__(f"{code}")
        self.code = code


def is_refusal(code: Any) -> bool:
    """Return True if a reason code, paho's or a number, says that something was refused."""
    return _number(code) >= _FAILURE


def is_final(code: Any) -> bool:
    """Return True if a refusal stays one however often it is tried."""
    return is_refusal(code) and _number(code) not in _PASSING


def named(code: Any) -> str:
    """Return a reason code's name and number, and the remedy if there is one."""
    number = _number(code)
    remedy = _REMEDIES.get(number)
    name = f"refused, code {number}" if isinstance(code, int) else f"{code}, code {number}"
    return f"{name}; {remedy}" if remedy else name


def check_granted(address: MqttAddress, topic_filter: str, qos: int, granted: Any) -> None:
    """Raise BrokerError where a subscription is refused, or granted with a lower quality of service.

    Args:
        granted: the codes of the broker's answer, one.
    """
    for code in granted:
        if is_refusal(code):
            text = f"MQTT broker {address} refuses the subscription to {topic_filter!r} ({named(code)})"
            if _number(code) in (_FAILURE, 135):  # 128 is all that MQTT 3.1.1 can say
                text += "; let its access rules allow this user to read it"
            raise BrokerError(text, final=is_final(code) or _number(code) == _FAILURE)
        if _number(code) != qos:
            raise BrokerError(
                f"MQTT broker {address} grants {topic_filter!r} at QoS {_number(code)} and not {qos}: what it sends "
                f"could be lost; set qos = {_number(code)} to accept that, or change the broker's limit",
                final=True,
            )


@contextlib.contextmanager
def mapped_errors(address: MqttAddress, failure: str) -> Iterator[None]:
    """Raise what the wire and the network raise as BrokerError, with a remedy."""
    try:
        yield
    except RefusedError as error:
        text = f"MQTT broker {address} refuses the connection ({named(error.code)})"
        raise BrokerError(text, final=is_final(error.code)) from None
    except (LinkError, OSError) as error:
        remedy = "start the broker or check host, port and mqtt:// or mqtts://"
        if address.path is not None:
            remedy = "start the broker or check host, port, path and mqtt+ws:// or mqtt+wss://"
        if address.tls:
            remedy += ", and that a certificate for this host, signed by an authority in `ca`, is there"
        text = f"{failure} to MQTT broker {address} ({error}); {remedy}"
        raise BrokerError(text, final=isinstance(error, ssl.SSLCertVerificationError)) from None


def _number(code: Any) -> int:
    return int(code) if isinstance(code, int) else int(code.value)
