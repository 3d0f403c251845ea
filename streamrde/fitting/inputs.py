"""Configure what is learned from: files, columns, targets, excerpts, and parts that are kept apart."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from streamrde.connectors.columns import Columns, SharedKeys, dates_of, streams_of
from streamrde.connectors.files.filters import Filter, check_filters
from streamrde.connectors.files.recordings import Recording as Recorded
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.files.restarts import OnRestart
from streamrde.connectors.files.spread import member_of, members_of
from streamrde.connectors.units import Conversion, conversion
from streamrde.errors import ConfigError, ParameterError
from streamrde.inference.header import Task

NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Values = tuple[str | int, ...]


class ChannelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Name a data channel's column and its unit."""

    name: str
    """Column of the channel."""
    unit: str = ""
    """Its unit, stored with the model."""


class SegmentsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Excerpts of the recordings, each a stream of its own: cut by a rule, or listed in a file.

    An excerpt has the samples with start <= t < end and is called ``stream@start``. By the rule, excerpts of `seconds`
    begin every `every` seconds from each recording's first sample on; whole ones only: a recording reaches up to one
    (median) step beyond its last sample. Listed ones are taken as they are listed; where `file` has the target columns
    as well, it says the targets, one of each per excerpt.
    """

    seconds: Seconds | None = None
    """Length of the excerpts."""
    every: Seconds | None = None
    """Seconds between the starts. None: as `seconds`, one excerpt after the other."""
    file: str = ""
    """File, folder or glob of listed excerpts, instead of the rule, relative to the current working directory. Text is
    written as that of the recordings, see `csv`."""
    stream: str = "stream_id"
    """Column of `file` with the recording's name. Starts and ends have the time format of the samples."""
    start: str = "t"
    """Column of the excerpt's start."""
    end: str = "t_end"
    """Column of the excerpt's end."""

    def check(self) -> None:
        """Raise ConfigError unless there is a rule or a file."""
        if bool(self.file) == (self.seconds is not None):
            raise ConfigError('data.segments: give seconds = 32.0 (and every), or file = "windows.parquet"')
        if self.file and self.every is not None:
            raise ConfigError(f"data.segments.every={self.every}: data.segments.file lists the starts; leave one out")


class DataConfig(SharedKeys, frozen=True, kw_only=True):
    """Say where the recordings are and what their columns hold."""

    files: str | tuple[str, ...]
    """File, folder or glob, or several, relative to the current working directory."""
    channels: tuple[ChannelConfig, ...]
    """Data channels in the model's order: names of columns, or tables with name and unit."""
    target: str | tuple[str, ...]
    """Column of the class, or column or columns of numbers to predict."""
    task: Task = "classification"
    """Kind of target that is learned: classes, or numbers."""
    target_at: Literal["auto", "stream", "window"] = "auto"
    """"stream": one value per stream, in all its rows that have one, as the target of every window. "window": the
    last known value in each window. "auto": "stream" for classes and if `segments.file` has the targets, else
    "window"."""
    horizon: NotNegative = 0.0
    """Seconds by which a window's target lies ahead: it is the last known value in (start + horizon, end + horizon]."""
    target_units: tuple[str, ...] = ()
    """Units of a regression's targets, one for each."""
    stream: str | tuple[str, ...] = "stream_id"
    """Column of the stream's name. Several are joined by "/". "": each file is one stream."""
    time: str | tuple[str, str] = "t"
    """Column of the time. Two are the date and the time of day. "": rows are a second apart."""
    time_check: Literal["error", "off"] = "error"
    """Times that cannot be right, by their size or by the length of windows: an "error", or "off"."""
    filters: tuple[Filter, ...] = ()
    """Rows to use: column, comparison and value, as ["site", "==", "A"]. All must hold."""
    restarts: OnRestart = "error"
    """A recording that jumps back in time, as after a reboot: "error", "split" (each part is a recording: name,
    name#2), or "sort" (all its rows in order of time)."""
    faults: Literal["error", "drop"] = "error"
    """Rows that cannot be used (late, repeated, no time, text for a number, infinite): "error", or "drop" to count
    and skip them."""
    on_error: Literal["stop", "skip"] = "stop"
    """A file that cannot be used: "stop", or "skip" it with a warning."""
    segments: SegmentsConfig | None = None
    cache: str = ""
    """Folder that keeps the windows of streams for the next run. "": none. See `cached_windows`."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the target columns."""
        return (self.target,) if isinstance(self.target, str) else self.target

    @property
    def time_column(self) -> str:
        """Return the column of the time, or of the time of day."""
        return dates_of(self.time)[1]

    def find(self) -> list[Recorded]:
        """Return the recorded files, or the folders of them where channels are spread over several.

        Raises:
            DataError: there is none, or of unknown format.
        """
        members = members_of([channel.name for channel in self.channels])
        return find_recordings(self.files, csv=self.csv, members=members)

    def columns(self, *, channels: int | None = None) -> Columns:
        """Return the columns of samples, with only so many of the channels of each file they are spread over."""
        name, levels = streams_of(self.stream)
        date, time = dates_of(self.time)
        found = Columns(
            channels=tuple(channel.name for channel in self.channels),
            stream=name,
            levels=levels,
            date=date,
            time=time,
            **self.shared(),
        )
        if channels is None:
            return found
        by_file: dict[str, list[str]] = {}
        for channel in found.channels:
            by_file.setdefault(member_of(channel)[0], []).append(channel)
        return found.only(tuple(channel for own in by_file.values() for channel in own[:channels]))

    def unit_of(self, channel: ChannelConfig) -> str:
        """Return a channel's unit. One without a unit has that of its column."""
        return channel.unit or self.units.get(channel.name, "")

    def told_units(self) -> dict[str, str]:
        """Return the units of the columns whose unit is the file's to tell: no key is about them."""
        keys = {*self.units, *self.scale, *self.offset}
        return {channel.name: channel.unit for channel in self.channels if channel.name not in keys}

    def conversion(self) -> Conversion | None:
        """Return what converts the channels' columns to the channels' units, or None if they have them."""
        return conversion(
            [channel.name for channel in self.channels],
            [self.unit_of(channel) for channel in self.channels],
            recorded=self.units,
            scale=self.scale,
            offset=self.offset,
        )

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        try:
            self.time_form()
        except ParameterError as error:
            raise ConfigError(f"data.{error}") from None
        self.conversion()
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
        of_stream = self.target_at == "stream" or (self.target_at == "auto" and self.task == "classification")
        if self.horizon and of_stream:
            raise ConfigError(
                f"data.horizon={self.horizon:g}: one value for all of a stream is the same later on; "
                'set data.target_at = "window", or data.horizon = 0'
            )
        check_filters(self.filters)
        if self.segments is not None:
            self.segments.check()


class SplitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Divide the streams into those that train, that decide when to stop, and that only measure at the end.

    `validation` and `test` are lists of values of `column`, or shares of the streams that are in neither list. Shares
    are drawn at random, the same ones for the same `seed`, or are the later parts of every stream.
    """

    by: Literal["group", "stream", "time"] = "group"
    """"group": streams of one group stay together. "stream": each is drawn alone, even the segments of a recording.
    "time": the first part of every recording trains, the next is for validation, the last is the test."""
    column: str = ""
    """Column whose values are listed."""
    group: str = ""
    """Column of the groups, which are not divided. "": `column`, or without it, the recording."""
    validation: Share | Values = 0.15
    """Streams that decide when to stop: values of column, or a share. If [], there are none."""
    test: Share | Values = 0.15
    """Streams that only measure at the end: values of `column`, or a share. Not used with folds."""
    folds: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of parts of equal size that the groups (or streams) are divided into. 0: no folds."""
    fold: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of the part, from 0, that is the test."""
    stratify: bool = True
    """Keep the share of each class equal in all parts (classification). A group with several classes counts by the
    most frequent one."""
    embargo: NotNegative = 0.0
    """Seconds that are left out between two parts in time."""
    seed: int = 0
    """Seed of the draw for shares and folds."""

    @property
    def listed(self) -> bool:
        """True if values are listed."""
        return any(isinstance(part, tuple) and part for part in (self.validation, self.test))

    @property
    def undivided(self) -> str:
        """Return the column of the groups. "" = the recording."""
        return self.group or ("" if self.by == "stream" and self.listed else self.column)

    def check(self) -> None:
        """Raise ConfigError where fields contradict each other."""
        if self.listed and not self.column:
            raise ConfigError("split.validation and split.test list values: set split.column to the column they are of")
        if self.by == "time" and (self.listed or self.folds):
            raise ConfigError('split.by = "time": split.validation and split.test must be shares, and split.folds 0')
        if self.embargo and self.by != "time":
            raise ConfigError(f'split.embargo={self.embargo}: only split.by = "time" leaves time out; set it to 0')
        if self.fold >= max(1, self.folds):
            raise ConfigError(f"split.fold={self.fold} with split.folds={self.folds}: folds are numbered from 0")
        if self.folds == 1:
            raise ConfigError("split.folds=1: one fold leaves nothing to train on; use 2 or more, or 0")
        if self.folds and isinstance(self.test, tuple) and self.test:
            raise ConfigError(
                "split.test lists values, and the test is a fold: leave out one of split.test and split.folds"
            )
        shares = [share for share in (self.validation, self.test) if not isinstance(share, tuple)]
        if sum(shares) >= 1 and not self.folds:
            raise ConfigError(f"split.validation and split.test are {shares}: they leave nothing to train on")
