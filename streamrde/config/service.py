"""Section of a run that is to stay up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from streamrde.connectors.access import read_secret
from streamrde.errors import ConfigError
from streamrde.runtime.pace import SLICE_WINDOWS
from streamrde.settings import Positive, Seconds

if TYPE_CHECKING:
    from streamrde.page import Access
    from streamrde.runtime.service import ServiceOptions


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health, metrics, logs, and how a run ends."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """Port of /healthz, /readyz, /status and /metrics. 0: any free one."""
    host: str = "127.0.0.1"
    """Address that the port is opened on."""
    page: bool = False
    """Serve the live page at / of the port."""
    page_token_env: str | None = None
    """Environment variable with the token that the page asks for. Needed where others than this machine reach it."""
    page_token_file: str | None = None
    """File whose first line is that token."""
    drain_seconds: Seconds = 30.0
    """Seconds that the end of a run may take."""
    slice_windows: Positive = SLICE_WINDOWS
    """Windows that time closes at most before others have their turn."""
    watch_model: bool = False
    """Take on the model file when it changes; SIGHUP does so in any case."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important messages that are logged."""
    log_format: Literal["text", "json"] = "text"
    """Logs for people, or as JSON lines."""

    def check(self) -> None:
        """Raise ConfigError or ParameterError where the keys contradict each other."""
        if not self.page and (self.page_token_env or self.page_token_file):
            raise ConfigError("service.page_token_env and page_token_file are for the page; set page = true")
        if self.page:
            if self.port is None:
                raise ConfigError("service.page = true needs a port; set port = 9464")
            from streamrde.page import Access

            # The token itself is read when the run begins.
            Access(self.host, self.page_token_env or self.page_token_file)

    def access(self) -> Access:
        """Return who may look at the page, with the token from wherever it is."""
        from streamrde.page import Access

        token = read_secret("service.page_token", variable=self.page_token_env, file=self.page_token_file)
        return Access(self.host, token)

    def options(self) -> ServiceOptions:
        """Return the options for the runtime."""
        from streamrde.runtime.service import ServiceOptions

        return ServiceOptions(port=self.port, host=self.host, drain=self.drain_seconds, watch=self.watch_model)
