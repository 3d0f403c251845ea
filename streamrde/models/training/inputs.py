"""What a training run is told about its data: files, columns, targets, and excerpts. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Task

Seconds = Annotated[float, msgspec.Meta(gt=0)]


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A data channel: its column and its unit."""

    name: str
    unit: str = ""


class SegmentsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Excerpts of the recordings, each a stream of its own: cut by a rule, or listed in a file.

    An excerpt has the samples with start <= t < end and is called ``stream@start``. By the rule, excerpts of `seconds`
    begin every `every` seconds from each recording's first sample on; whole ones only: a recording reaches up to one
    (median) step beyond its last sample. Listed ones are taken as they are listed; where `file` has the target columns
    as well, it says the targets, one of each per excerpt.
    """

    seconds: Seconds | None = None
    every: Seconds | None = None
    """Seconds between the starts; None: as `seconds`, one excerpt after the other."""
    file: str = ""
    """File, folder or glob of listed excerpts, instead of the rule; relative to the current working directory."""
    stream: str = "stream_id"
    """Columns of `file`: the recording's name, and the excerpt's start and end, timed as the samples are."""
    start: str = "t"
    end: str = "t_end"

    def check(self) -> None:
        """Raise ConfigError unless there is a rule or a file."""
        if bool(self.file) == (self.seconds is not None):
            raise ConfigError('data.segments: give seconds = 32.0 (and every), or file = "windows.parquet"')
        if self.file and self.every is not None:
            raise ConfigError(f"data.segments.every={self.every}: data.segments.file lists the starts; leave one out")


class DataConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the recordings are and which columns hold what."""

    files: str | tuple[str, ...]
    """File, folder or glob, or several; relative to the current working directory."""
    channels: tuple[ChannelConfig, ...]
    target: str | tuple[str, ...]
    """Column of the class, or column or columns of numbers to predict."""
    task: Task = "classification"
    target_at: Literal["auto", "stream", "window"] = "auto"
    """"stream": one value per stream, in all its rows that have one; it is the target of every window. "window": the
    last value known in each window. "auto": "stream" for classes and where `segments.file` has the targets, else
    "window"."""
    target_units: tuple[str, ...] = ()
    stream: str = "stream_id"
    """Column of the stream's name; "" where each file is one stream."""
    time: str = "t"
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    segments: SegmentsConfig | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The target columns."""
        return (self.target,) if isinstance(self.target, str) else self.target

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        names = [channel.name for channel in self.channels]
        if not names:
            raise ConfigError('data.channels is empty: list at least one, as { name = "ax", unit = "g" }')
        if len(set(names)) < len(names):
            raise ConfigError(f"data.channels {names} has a name twice")
        if not self.targets:
            raise ConfigError("data.target is empty: name the column to predict")
        if self.task == "classification" and len(self.targets) > 1:
            raise ConfigError(f"data.target {list(self.targets)}: classification takes one column")
        if self.target_units and len(self.target_units) != len(self.targets):
            raise ConfigError(f"data.target_units has {len(self.target_units)} entries for {len(self.targets)} targets")
        if self.segments is not None:
            self.segments.check()
