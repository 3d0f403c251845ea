"""The address of an HTTP server, its limits, and who may use it."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamrde.errors import ParameterError

_HERE = ("localhost", "127.0.0.1", "[::1]", "::1")


@dataclass(frozen=True)
class Listening:
    """Describe where a server listens, and its limits. Equal descriptions share one server.

    Args:
        host: address of this machine.
        port: TCP port; 0: any free one.
        token: what clients say in ``Authorization: Bearer TOKEN``; None: whoever reaches the port may come in.
        certificate, key: PEM files for TLS; None: without TLS.
        origins: web pages whose scripts may connect, such as ``https://example.org``. Other pages are refused.
        connections: clients at a time; more are answered with 503.
        max_bytes: longest payload; more is answered with 413.
        timeout: seconds in which a client must send the head of its request, and again its body.
    Raises:
        ParameterError: there is no token where others than this machine reach the port.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = field(default=None, repr=False)
    certificate: str | None = None
    key: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    connections: int = 256
    max_bytes: int = 1 << 20
    timeout: float = 30.0

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ParameterError(
                f"host = {self.host!r} without a token: anyone who reaches the port could send samples and read "
                'predictions; set token_env or token_file, or host = "127.0.0.1"'
            )
        if self.key and not self.certificate:
            raise ParameterError("key without certificate: give both, PEM files")

    @property
    def is_local(self) -> bool:
        """Return whether only this machine reaches the address."""
        return is_loopback(self.host)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.certificate else 'http'}://{host}:{self.port}"

    def socket(self) -> socket.socket:
        """Return a socket that is bound to the port.

        Raises:
            ParameterError: the port cannot be listened on.
        """
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                self.host, self.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_PASSIVE
            )[0]
            # asyncio sends answers at once only on sockets whose protocol is given, as `socket.create_server` does not.
            listening = socket.socket(family, kind, protocol)
            try:
                if os.name == "posix":
                    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(address)
                listening.listen(128)
            except OSError:
                listening.close()
                raise
            return listening
        except OSError as error:
            raise ParameterError(
                f"cannot listen on {self.host}:{self.port} ({error.strerror or error}); choose another port, or an "
                "address of this machine"
            ) from None

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS context, or None without a certificate.

        Raises:
            ParameterError: a file is missing or is not what it should be.
        """
        if self.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            # Without a function for it OpenSSL would ask for a password on the terminal.
            context.load_cert_chain(self.certificate, self.key, password=lambda: "")
        except (OSError, ssl.SSLError, ValueError) as error:
            raise ParameterError(
                f"certificate = {self.certificate!r} with key = {self.key!r} cannot be used ({error}): give PEM files "
                "that belong together, without a password"
            ) from None
        return context

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return status and reason with which a client is refused by its headers, or None if it may come in."""
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins:
            return 403, "a page of this origin may not connect; add it to origins"
        if self.token is not None:
            said = headers.get("authorization", "").encode("latin-1", "replace")
            # The comparison takes the same time wherever the difference is.
            if not hmac.compare_digest(said, b"Bearer " + self.token.encode()):
                return 401, "send the token in the header  Authorization: Bearer TOKEN"
        elif _host_of(headers.get("host", "")) not in (*_HERE, self.host):
            # A name that a web page has pointed at this machine.
            return 403, "without a token only this machine's own names are served"
        return None


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_of(header: str) -> str:
    return header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
