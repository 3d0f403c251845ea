"""Access to queues and servers: addresses, TLS, passwords from where they are kept."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from streamrde.errors import ParameterError


@dataclass(frozen=True)
class Scheme:
    """Describe the addresses of one sort of server.

    Args:
        plain, secure: schemes of its URLs, without and with TLS.
        ports: port without and with TLS.
        path: what may follow the host, such as "/0"; "": nothing.
    """

    plain: str
    secure: str
    ports: tuple[int, int]
    path: str = ""

    def __str__(self) -> str:
        return (
            f"an address looks like {self.plain}://host:{self.ports[0]}{self.path} or {self.secure}://user:password@"
            f"host:{self.ports[1]}{self.path}"
        )


@dataclass(frozen=True)
class Address:
    """A server's address. The password appears in no repr, error or log.

    Args:
        host: name or IP address.
        port: TCP port.
        path: what follows the host, with its slash.
        tls: encrypt, and check the certificate and its host name.
    """

    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, url: str, scheme: Scheme) -> Address:
        """Parse a URL.

        Raises:
            ParameterError: the URL has another form. The message never repeats what could be a password.
        """
        hint = "percent-encode / ? # @ : in a user or password"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ParameterError(f"its port or host cannot be read: {scheme}; {hint}") from None
        if parts.scheme not in (scheme.plain, scheme.secure):
            raise ParameterError(f"it does not begin with {scheme.plain}:// or {scheme.secure}://: {scheme}")
        path = parts.path if scheme.path else parts.path.strip("/")
        if not parts.hostname or (path and not scheme.path) or parts.query or parts.fragment:
            raise ParameterError(f"no host in it, or something after the host: {scheme}; {hint}")
        secure = parts.scheme == scheme.secure
        return cls(
            parts.hostname,
            port or scheme.ports[secure],
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
            path,
            secure,
        )


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
