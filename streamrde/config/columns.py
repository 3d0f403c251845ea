"""Which columns or payload fields hold a model's channels."""

from __future__ import annotations

import msgspec

from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError
from streamrde.inference.header import Header
from streamrde.times.texts import Ambiguous


class TimeKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys that say where times stand and how they are written. See `times.TimeForm`."""

    time: str = "t"
    """Column or field of the time."""
    time_unit: str = "s"
    """Unit of times that are numbers. Text and timestamps carry their own unit."""
    time_format: str = ""
    """Format of times that are text where it is not ISO 8601, as of strptime."""
    time_zone: str = ""
    """Zone of local times without an offset, such as Europe/Vienna."""
    time_ambiguous: Ambiguous = "error"
    """Which of two moments a local time stands for that occurs twice, when clocks go back."""


def columns_of(
    header: Header,
    channels: tuple[str, ...] = (),
    *,
    stream: str | None = None,
    times: TimeKeys | None = None,
) -> Columns:
    """The columns or payload fields of a model's channels; without `channels` they have the channels' names."""
    times = times or TimeKeys()
    own = tuple(channel.name for channel in header.channels)
    if channels and len(channels) != len(own):
        raise ConfigError(
            f"channels lists {len(channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
        )
    return Columns(
        channels=channels or own,
        stream=stream or None,
        **{name: getattr(times, name) for name in TimeKeys.__struct_fields__},
    )
