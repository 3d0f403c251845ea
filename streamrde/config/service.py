"""Section of a run that is to stay up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from streamrde.runtime.pace import SLICE_WINDOWS
from streamrde.settings import Positive, Seconds

if TYPE_CHECKING:
    from streamrde.runtime.service import ServiceOptions


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Health, metrics, logs, and how a run ends."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """Port of /healthz, /readyz, /status and /metrics. 0: any free one."""
    host: str = "127.0.0.1"
    """Address that the port is opened on."""
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

    def options(self) -> ServiceOptions:
        """Return the options for the runtime."""
        from streamrde.runtime.service import ServiceOptions

        return ServiceOptions(port=self.port, host=self.host, drain=self.drain_seconds, watch=self.watch_model)
