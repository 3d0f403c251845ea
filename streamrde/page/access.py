"""Decide who may look at the page."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie

from streamrde.connectors.http.options import is_loopback
from streamrde.errors import ParameterError

_HERE = ("localhost", "127.0.0.1", "[::1]", "::1")
COOKIE = "streamrde_page"


@dataclass(frozen=True)
class Access:
    """Describe who may look.

    Args:
        host: address that the page is served on.
        token: what a viewer has to know. None: only this machine reaches the page.
    Raises:
        ParameterError: others than this machine reach the address, and there is no token.
    """

    host: str = "127.0.0.1"
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ParameterError(
                f"service.page with host = {self.host!r} and no token: anyone who reaches the port could look; set "
                'page_token_env or page_token_file, or host = "127.0.0.1"'
            )

    def refusal(self, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return status and reason with which a viewer is refused by the headers, or None if it may look."""
        if self.token is None:
            if _without_port(headers.get("host", "")) not in (*_HERE, self.host):
                # A name that a web page has pointed at this machine.
                return 403, "without a token the page is only served under this machine's own names"
            return None
        said = headers.get("authorization", "").encode("latin-1", "replace")
        # The comparisons take the same time wherever the difference is.
        if hmac.compare_digest(said, b"Bearer " + self.token.encode()):
            return None
        if hmac.compare_digest(_cookie(headers).encode("latin-1", "replace"), self.cookie.encode()):
            return None
        return 401, "the page needs the token of this service"

    def knows(self, token: str) -> bool:
        """Return True if it is the token."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    @property
    def cookie(self) -> str:
        """Return what a browser keeps instead of the token. It is the same after a restart."""
        return hmac.new((self.token or "").encode(), b"streamrde page", hashlib.sha256).hexdigest()


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _without_port(header: str) -> str:
    return header.rpartition(":")[0] if header.rpartition(":")[2].isdigit() else header
