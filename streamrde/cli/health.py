"""The command `health`, for images that have no curl."""

from __future__ import annotations

from typing import Annotated

import typer

from streamrde.errors import ConfigError, StreamRDEError

_ANSWER_WITHIN = 5.0


def health(
    url: Annotated[str, typer.Argument(help="URL of the run's /healthz or /readyz.")] = "http://127.0.0.1:9464/healthz",
) -> None:
    """Ask a run whether it works, and exit with status 0 if it does, or 1.

    `/healthz` is well while the process works, and `/readyz` while samples become predictions. The port is that of
    `[service]`.

    Example: `streamrde health http://127.0.0.1:9464/readyz`
    """
    import http.client
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url}: {error}; give a URL such as http://127.0.0.1:9464/healthz") from None
    if parts.scheme != "http" or not host:
        raise ConfigError(f"{url}: not an http:// URL; give one such as http://127.0.0.1:9464/healthz")
    # No proxy of the environment is in the way, as it would be with urllib.
    connection = http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN)
    try:
        connection.request("GET", parts.path or "/healthz")
        answer = connection.getresponse()
        status, text = answer.status, answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        raise StreamRDEError(f"{url}: no answer ({error}); is `[service] port` set, and the run alive?") from None
    finally:
        connection.close()
    if status != http.client.OK:
        raise StreamRDEError(f"{url}: {status}: {'; '.join(text.splitlines())}")
    print(text)
