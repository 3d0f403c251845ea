"""Which columns or payload fields hold a model's channels."""

from __future__ import annotations

from typing import Literal

from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Header

TimeUnit = Literal["s", "ms", "us", "ns"]


def columns_of(
    header: Header,
    channels: tuple[str, ...] = (),
    *,
    stream: str | None = None,
    time: str = "t",
    time_unit: str = "s",
) -> Columns:
    """The columns or payload fields of a model's channels; without `channels` they have the channels' names."""
    own = tuple(channel.name for channel in header.channels)
    if channels and len(channels) != len(own):
        raise ConfigError(
            f"channels lists {len(channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
        )
    return Columns(channels=channels or own, stream=stream or None, time=time, time_unit=time_unit)
