"""Sections of a run that is to stay up: state and service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from streamrde.runtime.checkpoints import CheckpointPolicy
from streamrde.runtime.pace import SLICE_WINDOWS
from streamrde.settings import Positive, Seconds

if TYPE_CHECKING:
    from streamrde.runtime.service import ServiceOptions
    from streamrde.state import SqliteStore


class StateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Storage of the streams' state."""

    path: str
    """SQLite file."""
    sync: Literal["full", "normal"] = "full"
    """full survives a power cut, normal a killed process."""
    checkpoint_seconds: Seconds = 1.0
    """Seconds between two checkpoints."""
    checkpoint_messages: Positive | None = None
    """Messages between two checkpoints, at most. None: half of the source's inflight."""
    restore: Literal["all", "lazy"] = "all"
    """Load all streams at the start, or each one when it returns."""
    ttl: Seconds | None = None
    """Forget streams that were not saved for this many seconds. None: never."""
    max_bytes: Positive | None = None
    """Largest size of the store, in bytes. None: as the disk allows."""

    def build(self) -> SqliteStore:
        """Return the store, not yet opened."""
        from streamrde.state import SqliteStore

        return SqliteStore(self.path, sync=self.sync, max_bytes=self.max_bytes)

    def policy(self, inflight: int) -> CheckpointPolicy:
        """Return the rules for checkpoints, for a broker that sends `inflight` messages ahead."""
        messages = self.checkpoint_messages or max(1, inflight // 2)
        return CheckpointPolicy(seconds=self.checkpoint_seconds, messages=messages, ttl=self.ttl)


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
