"""SASL: PLAIN, SCRAM and OAUTHBEARER with unsecured tokens.

References: KIP-43 and KIP-152 (handshake, authenticate), RFC 4616 (PLAIN), RFC 5802 and 7677 (SCRAM), RFC 7628 and
KIP-255 (OAUTHBEARER).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Generator

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
_ITERATIONS = 4096

Exchange = Generator[bytes, bytes, tuple[str, bytes]]


class Denied(Exception):
    """A login that is refused."""


def exchange(mechanism: str, users: dict[str, str]) -> Exchange:
    """Begin a login.

    Each message of the client is sent in, each answer comes out; the last one with the user's name.
    """
    if mechanism == "PLAIN":
        login = _plain(users)
    elif mechanism == "OAUTHBEARER":
        login = _bearer(users)
    else:
        login = _scram(mechanism.removeprefix("SCRAM-").replace("-", "").lower(), users)
    next(login)
    return login


def _plain(users: dict[str, str]) -> Exchange:
    _, name, password = (yield b"").decode().split("\0")
    if not hmac.compare_digest(users.get(name, "\0").encode(), password.encode()):
        raise Denied("invalid username or password")
    return name, b""


def _attributes(message: str) -> dict[str, str]:
    return {part[0]: part[2:] for part in message.split(",") if part[1:2] == "="}


def _scram(digest: str, users: dict[str, str]) -> Exchange:
    first = (yield b"").decode()
    bare = first.split(",", 2)[2]
    asked = _attributes(bare)
    name = asked["n"].replace("=2C", ",").replace("=3D", "=")
    if name not in users:
        raise Denied("invalid username or password")
    salt, nonce = secrets.token_bytes(16), asked["r"] + secrets.token_urlsafe(16)
    told = f"r={nonce},s={base64.b64encode(salt).decode()},i={_ITERATIONS}"
    last = (yield told.encode()).decode()
    proof = base64.b64decode(_attributes(last)["p"])
    salted = hashlib.pbkdf2_hmac(digest, users[name].encode(), salt, _ITERATIONS)
    key = hmac.digest(salted, b"Client Key", digest)
    signed = f"{bare},{told},{last.rpartition(',p=')[0]}".encode()
    signature = hmac.digest(hashlib.new(digest, key).digest(), signed, digest)
    expected = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    if _attributes(last)["r"] != nonce or not hmac.compare_digest(expected, proof):
        raise Denied("invalid username or password")
    server = hmac.digest(hmac.digest(salted, b"Server Key", digest), signed, digest)
    return name, b"v=" + base64.b64encode(server)


def _bearer(users: dict[str, str]) -> Exchange:
    message = (yield b"").decode()
    token = message.partition("auth=Bearer ")[2].partition("\x01")[0]
    parts = token.split(".")
    if len(parts) != 3:
        raise Denied("no token")
    head, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    if head.get("alg") != "none" or claims.get("exp", 0) <= time.time() or claims.get("sub") not in users:
        raise Denied(f"token of {claims.get('sub')!r}: unsecured, not expired, and of a known user is wanted")
    return str(claims["sub"]), b""
