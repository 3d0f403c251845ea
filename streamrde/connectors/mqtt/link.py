"""The link to an MQTT broker: protocol version, TLS, last will, patience."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from streamrde.errors import ParameterError

Version: TypeAlias = Literal["3.1.1", "5"]


class ClosingContext(ssl.SSLContext):
    """A context that closes the socket it wrapped last: paho leaves one open when a handshake fails."""

    _wrapped: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """See `ssl.SSLContext.wrap_socket`."""
        self._wrapped = super().wrap_socket(*arguments, **options)
        return self._wrapped

    def close(self) -> None:
        """Close the socket wrapped last."""
        if self._wrapped is not None:
            self._wrapped.close()


@dataclass(frozen=True)
class Tls:
    """TLS settings beyond the defaults. Certificate and host name are always checked, and nothing turns that off.

    Args:
        ca: PEM file of the authorities to trust; None: the system's.
        certificate, key: PEM files of the client's certificate and its private key, where the broker asks for one.
        key_password: of the private key, where it is encrypted; shown nowhere.
    """

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    key_password: str | None = field(default=None, repr=False)

    def context(self) -> ClosingContext:
        """Return the TLS context, for version 1.2 or later.

        Raises:
            ParameterError: a file is missing or is not what it should be.
        """
        if self.key and not self.certificate:
            raise ParameterError("tls has a key without a certificate: give both")
        try:
            context = ClosingContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
            if self.ca is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise ParameterError(f"tls: ca = {self.ca!r} cannot be read ({error}): give a PEM file") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.certificate:
            # Without a function for it OpenSSL would ask for the password on the terminal.
            password = self.key_password or ""
            try:
                context.load_cert_chain(self.certificate, self.key, password=lambda: password)
            except (OSError, ssl.SSLError, ValueError) as error:
                raise ParameterError(
                    f"tls: certificate = {self.certificate!r} with key = {self.key!r} cannot be used ({error}): "
                    "give PEM files that belong together, and the key's password if it has one"
                ) from None
        return context


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


def read_secret(name: str, *, variable: str | None, file: str | None) -> str | None:
    """Read a secret from an environment variable or the first line of a file. None if neither is named.

    Args:
        name: what it is, for the error.
    Raises:
        ParameterError: both are named, or the one named is not there or empty. The message never has the secret.
    """
    if variable and file:
        raise ParameterError(f"{name}: name an environment variable or a file, not both")
    if variable:
        if not (secret := os.environ.get(variable)):
            raise ParameterError(f"{name}: the environment variable {variable} is not set")
        return secret
    if not file:
        return None
    try:
        with open(file, encoding="utf-8") as lines:  # noqa: PTH123 - a file may be a pipe or /dev/fd/3
            secret = lines.readline(65536).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{name}: {file} cannot be read ({error}); give a file with one line") from None
    if not secret:
        raise ParameterError(f"{name}: the first line of {file} is empty")
    return secret
