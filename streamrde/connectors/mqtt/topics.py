"""MQTT addresses and quality of service."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class MqttAddress:
    """A broker's address. The password appears in no repr, error or log.

    Args:
        host: name or IP address.
        port: TCP port.
        tls: encrypt, and check the certificate and its host name against the system's authorities.
    """

    host: str
    port: int = 1883
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parsed(cls, address: MqttAddress | str) -> MqttAddress:
        """Return an address, parsed or not, as an address."""
        return cls.parse(address) if isinstance(address, str) else address

    @classmethod
    def parse(cls, url: str) -> MqttAddress:
        """Parse ``mqtt://user:password@host:port``, or ``mqtts://`` for TLS. The port is 1883, or 8883 with TLS.

        Raises:
            ParameterError: the URL has another form. The message never repeats what could be a password.
        """
        form = "a broker's address looks like mqtt://host:1883 or mqtts://user:password@host:8883"
        hint = "percent-encode / ? # @ : in a user or password"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ParameterError(f"its port or host cannot be read: {form}; {hint}") from None
        if parts.scheme not in _PORTS:
            raise ParameterError(f"it does not begin with mqtt:// or mqtts://: {form}")
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ParameterError(f"no host in it, or something after the host: {form}; {hint}")
        if parts.password and not parts.username:
            raise ParameterError(f"it has a password without a user: {form}")
        return cls(
            parts.hostname,
            port or _PORTS[parts.scheme],
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            parts.scheme == "mqtts",
        )


def checked_qos(qos: int) -> int:
    """Return the quality of service, or raise an error if it is not supported."""
    if qos not in (0, 1):
        raise ParameterError(f"qos={qos}: use 0 (at most once) or 1 (at least once)")
    return qos
