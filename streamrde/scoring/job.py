"""What is scored, with which model, into what: one job, as a TOML file or keyword arguments describe it."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from streamrde.connectors.files.filters import Filter, check_filters
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.restarts import OnRestart
from streamrde.connectors.files.units import Conversion, conversion
from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError
from streamrde.floats import as_plain
from streamrde.inference.header import Header
from streamrde.inference.plausibility import Plausible
from streamrde.inference.states import Feature
from streamrde.inference.table import OnFault
from streamrde.scoring.evaluation import truth_schema
from streamrde.settings import convert
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.times.texts import Ambiguous
from streamrde.windowing.order import Order

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
Sort: TypeAlias = Literal["auto", "always", "never"]
Engine: TypeAlias = Literal["local", "threads", "processes", "ray"]
OnError: TypeAlias = Literal["stop", "skip"]


class ColumnsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which columns hold what, and in which units."""

    stream: str = "stream_id"
    """Column of the stream's name; "": each file is one stream, named after the file."""
    time: str = "t"
    """Column or field of the time."""
    time_unit: str = "s"
    """Unit of times that are numbers. Text and timestamps carry their own unit."""
    time_format: str = ""
    """Format of times that are text where it is not ISO 8601, as of strptime."""
    time_zone: str = ""
    """Zone of local times without an offset, such as Europe/Vienna."""
    time_ambiguous: Ambiguous = "error"
    """Moment that a local time stands for if it occurs twice, when clocks go back. See `times.TimeForm`."""
    channels: tuple[str, ...] = ()
    """Columns of the model's channels, in its order; empty: they have the channels' names."""
    units: dict[str, str] = {}
    """Unit of a column in the files, where it is not the model's."""
    scale: dict[str, float] = {}
    """Factor that a column is multiplied by. See `offset`."""
    offset: dict[str, float] = {}
    """``x * scale + offset`` is in the model's unit, for what `units` cannot say."""

    def columns(self, header: Header) -> Columns:
        """The columns, for a model."""
        own = tuple(channel.name for channel in header.channels)
        if self.channels and len(self.channels) != len(own):
            raise ConfigError(
                f"channels lists {len(self.channels)} names, and the model has {len(own)} channels: {', '.join(own)}"
            )
        return Columns(
            channels=self.channels or own,
            stream=self.stream or None,
            time=self.time,
            time_unit=self.time_unit,
            time_format=self.time_format,
            time_zone=self.time_zone,
            time_ambiguous=self.time_ambiguous,
        )

    def conversion(self, header: Header) -> Conversion | None:
        """What brings the channels to the model's units."""
        return conversion(
            self.columns(header).channels,
            [channel.unit for channel in header.channels],
            recorded=self.units,
            scale=self.scale,
            offset=self.offset,
        )


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A scoring job. Its keys are those of ``configs/score.toml``, where each is explained."""

    model: str = ""
    """Model file."""
    files: str | tuple[str, ...] = ()
    """A file, a folder, a glob, or several."""
    out: str = ""
    """Predictions: .parquet, .feather, .arrow, .ipc, .arrows, .csv, or a folder of Parquet files."""
    columns: ColumnsConfig = ColumnsConfig()
    filters: tuple[Filter, ...] = ()
    """Rows to take: column, comparison and value, all of which must hold."""
    truth: tuple[str, ...] = ()
    """Columns with what was to be predicted; they are carried into the output."""
    features: tuple[Feature, ...] = ()
    """What else of each window is written: the hidden state after it, its log-signature."""
    novelty: bool = False
    """Write of each window how far it lies outside of what the model was trained on."""
    sort: Sort = "auto"
    """Rows out of order of time: sort them on disk where there are any, always, or never."""
    restarts: OnRestart = "error"
    """A stream that jumps back in time and goes on from there."""
    faults: OnFault = "error"
    """Rows that are late, repeated or unusable: stop, or count and skip them."""
    on_error: OnError = "stop"
    """Files that cannot be used: stop, or skip them."""
    time_check: OnTime = "error"
    """Times that cannot be right by the model's training: "error" stops, "reject" skips such streams, "off" goes on."""
    state_in: str = ""
    """State store from which streams go on."""
    state_out: str = ""
    """State store into which streams' states are put."""
    state_identity: dict[str, str] = {}
    """What the stores belong to besides the model, as a live run says it; empty: what an existing store says."""
    plausible: Plausible = Plausible()
    """Which values can be real, and what becomes of others."""
    order: Order | None = None
    """What of samples that come late or twice; of a live run whose states are taken up or left."""
    engine: Engine = "local"
    """Threads or processes, chosen by the job's size (local), or Ray."""
    ray_address: str = ""
    """Address of a Ray cluster. If empty, one on this machine is used."""
    jobs: Positive = 1
    """Threads, processes or Ray tasks at a time."""
    groups: Positive = 1
    """Parts, at most, of streams that are interleaved throughout the files."""
    batch_rows: Positive = 65536
    """Rows read at a time."""
    sort_memory: Positive = 256 << 20
    """Bytes that a run of a sort may take in memory, per worker."""
    commit_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """A part is committed at least so often, so that a stopped job has no more than this to do again."""

    def __post_init__(self) -> None:
        check_filters(self.filters)
        for name in ("truth", "features"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ConfigError(f"{name} {list(getattr(self, name))} has a name twice: name each once")

    def checked(self) -> Job:
        """The same; raise ConfigError where a value has another type or is out of its range."""
        try:
            plain = msgspec.to_builtins(self, enc_hook=as_plain)
        except TypeError as error:
            raise ConfigError(str(error)) from None
        return convert(plain, Job)

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files as they were named."""
        return (self.files,) if isinstance(self.files, str) else self.files

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what is in the output; the others only how it comes about."""
        settings: dict[str, Any] = msgspec.to_builtins(self) | {"files": list(self.patterns)}
        how = {"out", "state_out", "on_error", "engine", "ray_address", "jobs"}
        how |= {"batch_rows", "sort_memory", "commit_seconds"}
        return {name: value for name, value in settings.items() if name not in how} | {"flush": not self.state_out}

    def fingerprint(self, model: str, *more: object) -> str:
        """SHA-256 of the deciding settings, the model's fingerprint and whatever else decides, hexadecimal."""
        data = msgspec.json.encode([self.deciding(), model, *more], order="deterministic")
        return hashlib.sha256(data).hexdigest()

    def check_of_times(self) -> TimeCheck:
        """Return the check that decides what becomes of times that cannot be right."""
        return TimeCheck(self.time_check, self.columns.time_unit)

    def reader(self, header: Header) -> SampleReader:
        """What turns the files' record batches into samples."""
        return SampleReader(
            self.columns.columns(header),
            extra=self.truth,
            extra_schema=truth_schema(header, self.truth) if self.truth else None,
            filters=self.filters,
            conversion=self.columns.conversion(header),
            batch_rows=self.batch_rows,
            faults=self.faults,
            finite=self.faults == "error",
        )
