"""Describe a scoring job: its files, model, output and settings. A TOML file, options and `score` have these keys."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from streamrde.connectors.columns import ColumnKeys, Columns
from streamrde.connectors.files.filters import Filter, check_filters
from streamrde.connectors.files.places import shown
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.restarts import OnRestart
from streamrde.connectors.units import Conversion, conversion
from streamrde.errors import ConfigError
from streamrde.floats import as_plain
from streamrde.inference.header import Header
from streamrde.inference.plausibility import Plausible
from streamrde.inference.states import Feature
from streamrde.inference.table import OnFault
from streamrde.scoring.evaluation import truth_schema
from streamrde.settings import Positive, convert
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.windowing.order import Order

Sort: TypeAlias = Literal["auto", "always", "never"]
Engine: TypeAlias = Literal["local", "threads", "processes", "ray"]
OnError: TypeAlias = Literal["stop", "skip"]


class ColumnsConfig(ColumnKeys, frozen=True, kw_only=True):
    """Say which columns of the recorded files hold what, and in which units."""

    stream: str | tuple[str, ...] = "stream_id"
    """Column with the stream's name. Several are joined by "/". If "", each file is one stream, named after the
    file."""

    def _sender(self, fields: tuple[str, ...]) -> tuple[str, ...]:
        # Payloads made of the files have no field for the stream.
        return ()

    def columns(self, header: Header) -> Columns:
        """Return the columns, for a model."""
        own = [channel.name for channel in header.channels]
        return self.columns_for(own)

    def conversion(self, header: Header) -> Conversion | None:
        """Return what converts the channels to the model's units, or None if they have them."""
        return conversion(
            self.columns(header).channels,
            [channel.unit for channel in header.channels],
            recorded=self.units,
            scale=self.scale,
            offset=self.offset,
        )

    def units_of(self, header: Header) -> dict[str, str]:
        """Return the model's units of the columns whose unit is the file's to tell: no key is about them."""
        keys = {*self.units, *self.scale, *self.offset}
        each = zip(self.columns(header).channels, header.channels, strict=True)
        return {column: channel.unit for column, channel in each if column not in keys}


class Job(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a scoring job."""

    model: str = ""
    """Model file, written by `streamrde train`."""
    files: str | tuple[str, ...] = ()
    """Recorded files: a file, a folder (everything below it), a glob, a URL (s3://, gs://, abfs://, https://), or
    several of these."""
    out: str = ""
    """Predictions: a file, whose extension is its format (.parquet, .feather, .arrow, .ipc, .arrows or .csv), or a
    folder of Parquet files. Either may be in an object store (s3://). Commands take - for an Arrow stream."""
    columns: ColumnsConfig = ColumnsConfig()
    filters: tuple[Filter, ...] = ()
    """Rows to score: a column, a comparison and a value, such as site == A, hr > 40 or day in 3, 4. All must hold."""
    truth: tuple[str, ...] = ()
    """Columns with the true values. They are carried into the output as true_..., and predictions are measured
    against them: for each head one column with the class, or one per output of a regression."""
    features: tuple[Feature, ...] = ()
    """Further columns to write for each window: state (the hidden state after it), logsignature."""
    novelty: bool = False
    """Write for each window a p-value of its distance from the training data."""
    intervals: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    """Coverage of intervals of numbers (lower, upper) and of sets of classes (set) to write, such as 0.9. 0: none."""
    sort: Sort = "auto"
    """Rows that are not in order of time: sort them on disk if there are any, always, or never (they are faults)."""
    restarts: OnRestart = "error"
    """Streams that jump back in time and go on, as after a reboot: stop, split them (name, name#2), or sort."""
    faults: OnFault = "error"
    """Rows that are late, repeated or unusable: stop, or count and skip them."""
    on_error: OnError = "stop"
    """Files that cannot be used: stop, or skip them (a command then has exit status 3)."""
    time_check: OnTime = "error"
    """Times that cannot be right by the model's training: stop and name the likely unit, skip the streams, or go on."""
    state_in: str = ""
    """State store to continue streams from, or the TOML file of the run that has it."""
    state_out: str = ""
    """State store, or a run's TOML file, for each stream's final state. The streams' last windows stay open."""
    state_identity: dict[str, str] = {}
    """Identity of the run that the stores belong to, as in its store. If empty, that of an existing store."""
    plausible: Plausible = Plausible()
    """Values that can be real, and what to do with others."""
    order: Order | None = None
    """Treatment of samples that come late or twice, as in the live run that has the state stores."""
    engine: Engine = "local"
    """Workers: threads, processes, either by the job's size (local), or tasks of Ray."""
    ray_address: str = ""
    """Address of a Ray cluster. If empty, one on this machine is started."""
    jobs: Positive = 1
    """Workers at a time. The output does not depend on it."""
    groups: Positive = 1
    """Most parts that fully interleaved streams are divided into. Each part reads the files."""
    batch_rows: Positive = 65536
    """Rows read at a time. They bound the memory; the output does not depend on it."""
    sort_memory: Positive = 256 << 20
    """Bytes that a sort may take in memory, per worker."""
    commit_seconds: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """Most seconds between commits of a part. A stopped job repeats no more than this."""

    def __post_init__(self) -> None:
        check_filters(self.filters)
        for name in ("truth", "features"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ConfigError(f"{name} {list(getattr(self, name))} has a name twice: name each once")

    @classmethod
    def prepared(cls, tables: dict[str, Any]) -> dict[str, Any]:
        """Return the tables with the limits of [columns] where those of plausible values stand.

        Raises:
            ConfigError: there are others.
        """
        columns, plausible = tables.get("columns", {}), tables.get("plausible", {})
        if not (limits := columns.get("limits")):
            return tables
        if plausible.get("limits", limits) not in ({}, limits):
            raise ConfigError("limits are in [columns] and in [plausible]: give them once")
        return {**tables, "columns": {**columns, "limits": {}}, "plausible": {**plausible, "limits": limits}}

    def checked(self) -> Job:
        """Return the same job, or raise ConfigError if a value has another type or is out of its range."""
        try:
            plain = msgspec.to_builtins(self, enc_hook=as_plain)
        except TypeError as error:
            raise ConfigError(str(error)) from None
        return convert(plain, Job)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Return the files as they were named."""
        return (self.files,) if isinstance(self.files, str) else self.files

    def deciding(self) -> dict[str, Any]:
        """Return the settings that decide what is in the output, without those that decide how it is made."""
        settings: dict[str, Any] = msgspec.to_builtins(self) | {"files": list(map(shown, self.patterns))}
        how = {"out", "state_out", "on_error", "engine", "ray_address", "jobs"}
        how |= {"batch_rows", "sort_memory", "commit_seconds"}
        return {name: value for name, value in settings.items() if name not in how} | {"flush": not self.state_out}

    def fingerprint(self, model: str, *more: object) -> str:
        """Return the SHA-256 of the deciding settings, the model's fingerprint and what else decides, hexadecimal."""
        data = msgspec.json.encode([self.deciding(), model, *more], order="deterministic")
        return hashlib.sha256(data).hexdigest()

    def check_of_times(self) -> TimeCheck:
        """Return the check that decides what becomes of times that cannot be right."""
        return TimeCheck(self.time_check, self.columns.time_unit)

    @property
    def identity(self) -> dict[str, str] | None:
        """Return the run that the state stores belong to, or None for that of an existing store."""
        return self.state_identity or None

    def reader(self, header: Header) -> SampleReader:
        """Return the reader that turns the files into samples."""
        return SampleReader(
            self.columns.columns(header),
            extra=self.truth,
            extra_schema=truth_schema(header, self.truth) if self.truth else None,
            filters=self.filters,
            conversion=self.columns.conversion(header),
            units=self.columns.units_of(header),
            batch_rows=self.batch_rows,
            faults=self.faults,
            finite=self.faults == "error",
        )
