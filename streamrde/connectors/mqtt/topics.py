"""MQTT addresses and quality of service."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError

SCHEMES = {"mqtt": 1883, "mqtts": 8883, "mqtt+ws": 80, "mqtt+wss": 443, "ws": 80, "wss": 443}
"""Schemes of the URLs of brokers, each with its port."""
# The path that brokers and paho have for MQTT over WebSocket by default.
_WEBSOCKET_PATH = "/mqtt"


@dataclass(frozen=True)
class MqttAddress:
    """A broker's address. The password appears in no repr, error or log.

    Args:
        host: name or IP address.
        port: TCP port.
        tls: encrypt, and check the certificate and its host name against the system's authorities.
        path: of MQTT over WebSocket, beginning with ``/``; None: over TCP.
    """

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    path: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{self.path or ''}"

    @classmethod
    def parsed(cls, address: MqttAddress | str) -> MqttAddress:
        """Return an address, parsed or not, as an address."""
        return cls.parse(address) if isinstance(address, str) else address

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """Parse ``mqtt://user:password@host:port``, or ``mqtts://`` for TLS. The port is 1883, or 8883 with TLS.

        ``mqtt+ws://host:port/path`` and ``mqtt+wss://`` are MQTT over WebSocket, as are ``ws://`` and ``wss://``. The
        port is 80, or 443 with TLS, and the path is ``/mqtt``.

        Raises:
            ParameterError: the URL has another form. The message never repeats what could be a password.
        """
        form = "a broker's address looks like mqtt://host:1883, mqtts://user:password@host:8883 or mqtt+ws://host:9001/mqtt"
        hint = "percent-encode / ? # @ : in a user or password"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ParameterError(f"its port or host cannot be read: {form}; {hint}") from None
        if parts.scheme not in SCHEMES:
            raise ParameterError(f"it does not begin with mqtt://, mqtts://, mqtt+ws:// or mqtt+wss://: {form}")
        websocket = parts.scheme.endswith(("ws", "wss"))
        beyond = (parts.path.strip("/") or parts.query) and not websocket
        if not parts.hostname or beyond or parts.fragment:
            raise ParameterError(f"no host in it, or something after the host: {form}; {hint}")
        if parts.password and not parts.username:
            raise ParameterError(f"it has a password without a user: {form}")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(
            parts.hostname,
            port or SCHEMES[parts.scheme],
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            parts.scheme in ("mqtts", "mqtt+wss", "wss"),
            (path if path.strip("/") else _WEBSOCKET_PATH) if websocket else None,
        )


def checked_qos(qos: int) -> int:
    """Return the quality of service, or raise an error if it is not supported."""
    if qos not in (0, 1):
        raise ParameterError(f"qos={qos}: use 0 (at most once) or 1 (at least once)")
    return qos
