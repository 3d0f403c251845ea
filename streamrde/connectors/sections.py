"""Contracts of the sections [source], [sink] and [dead_letters] of a run: all that is asked before an end is built.

A section is a frozen struct whose tag is the `kind` that chooses it:

    class TicksConfig(Section, SourceConfig, frozen=True, kw_only=True, tag="ticks"): ...

What has a default here need not be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self

import msgspec
import pyarrow as pa

from streamrde.connectors.columns import Columns
from streamrde.connectors.ends import DeadLetters, Publisher, Sink, Source


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """Hold a table of a configuration whose `kind` chooses its struct."""


class ModelOutline(NamedTuple):
    """Describe the model that runs to an end."""

    channels: tuple[str, ...]
    """Names of the data channels."""
    predictions: pa.Schema
    """Schema of the prediction record batches."""
    provenance: Mapping[str, str]
    """Model and version, for the metadata of files."""
    units: tuple[str, ...] = ()
    """Units of the data channels. If (), they are not known."""
    classes: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    """Names that stand for numbers in a channel, by channel. See `Columns.classes`."""


class EndConfig:
    """Answer for one end of a run before it is connected.

    `name` is the section's name in the configuration, for messages.
    """

    __slots__ = ()

    def check(self, name: str, run: RunSections) -> None:
        """Raise ConfigError or ParameterError where the section, or it and others of the run, cannot work."""

    def warnings(self, name: str, run: RunSections) -> list[str]:
        """Return what may go wrong, in sentences."""
        return []

    def notes(self, name: str, run: RunSections) -> list[str]:
        """Return what may happen that cannot be seen from here, in sentences."""
        return []

    def without_waiting(self) -> Self:
        """Return the section for a run that fails at once where the end is not there."""
        return self

    async def probe(self) -> str:
        """Reach the end, and return where it is.

        Raises:
            ConfigError: it cannot be reached.
        """
        return type(self).__struct_config__.tag  # type: ignore[attr-defined, no-any-return]


class SourceConfig(EndConfig):
    """Answer for a source."""

    __slots__ = ()

    @property
    def live(self) -> bool:
        """Return True if the source goes on for ever, in the time of the clock. False for recorded samples."""
        return True

    def named(self, name: str) -> dict[str, EndConfig]:
        """Return the section by its name, and the sections of sources in it."""
        return {name: self}

    @property
    def inflight(self) -> int:
        """Return how many messages may be unacknowledged. A checkpoint is made at half of them."""
        return 20

    @property
    def time_units(self) -> set[str]:
        """Return the units of the samples' times. The set is empty if they are times of arrival, which are right."""
        return {"s"}

    def identity(self) -> dict[str, str]:
        """Return the settings that shape a stream, so that its saved state cannot go on without them."""
        return {}

    def build(self, model: ModelOutline) -> Source[Any]:
        """Return the source, not yet connected."""
        raise NotImplementedError


class SinkConfig(EndConfig):
    """Answer for a sink."""

    __slots__ = ()

    schemes: ClassVar[tuple[str, ...]] = ()
    """Schemes of the URLs to which recorded samples can be sent."""
    sensors: ClassVar[str] = ""
    """Topics of recorded samples that are sent without naming any."""

    @property
    def takes_provisional(self) -> bool:
        """Return True if whoever reads the sink can tell provisional predictions apart at once."""
        return False

    def build(self, model: ModelOutline) -> Sink:
        """Return the sink, not yet connected."""
        raise NotImplementedError

    def publisher(self, columns: Columns, batch: int) -> Publisher:
        """Return what sends recorded samples where the sink publishes, not yet connected.

        Args:
            columns: names of the fields in the payloads.
            batch: samples of one stream in a message, at most.
        """
        raise NotImplementedError


class DeadLettersConfig(EndConfig):
    """Answer for where dead letters go."""

    __slots__ = ()

    def build(self) -> DeadLetters:
        """Return the end, not yet connected."""
        raise NotImplementedError


class RunSections(NamedTuple):
    """Hold the sections of one run."""

    source: SourceConfig
    sink: SinkConfig
    dead_letters: DeadLettersConfig | None
    saves_state: bool
    """The run has [state]."""
    labels: SourceConfig | None = None
    """Source of labels, if they have one of their own."""

    def named(self) -> dict[str, EndConfig]:
        """Return the sections by name, in the order source, sink, labels.source, dead_letters."""
        found: dict[str, EndConfig] = {**self.source.named("source"), "sink": self.sink}
        if self.labels is not None:
            found |= self.labels.named("labels.source")
        return found if self.dead_letters is None else found | {"dead_letters": self.dead_letters}
