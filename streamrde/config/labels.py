"""Section of a run whose samples come with labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from streamrde.adapting.settings import Adapt, Serve
from streamrde.config.state import KafkaStateConfig, StateConfig
from streamrde.connectors.ends import Source
from streamrde.connectors.registry import AnySource
from streamrde.connectors.sections import ModelOutline, SourceConfig
from streamrde.connectors.several import SeveralConfig
from streamrde.errors import ConfigError
from streamrde.inference.header import Header
from streamrde.inference.labels import are_numbers
from streamrde.settings import Seconds

if TYPE_CHECKING:
    from streamrde.inference.fleet import Fleet
    from streamrde.runtime.labels import LateLabels


class LabelsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels that come late: in columns of the source's rows, or from a source of their own."""

    columns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Columns with the labels: one per output that is a number, and one per head of classes, whose names or places it
    has. A label is for its row's time. A row without any channel is only a label."""
    window: str = ""
    """Column with the number of a label's window, which then counts instead of the time. "": there is none."""
    source: AnySource | None = None
    """[labels.source]: where labels come from, as in [source] and in any of its kinds, or files (kind = "file"). Its
    channels are `columns`. Without it they come in the rows of [source]."""
    wait: Seconds = 60.0
    """Seconds for which a label from [labels.source] that comes before its prediction waits for it."""
    adapt: Serve = "best"
    """Prediction that is served: "frozen" (the model's), "online" (corrected), "last" (label), "mean" (of the labels),
    "blend" (of both), or "best" (a mix of all, by their errors so far)."""
    share: bool = False
    """Learn one correction for all streams together. See `streamrde.Adapt`. Workers that share topics cannot."""
    pending: Annotated[int, msgspec.Meta(ge=0, le=4096)] = 0
    """Predictions of a stream that wait for labels. 0: those of the model's horizon, and 32."""
    within: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Most seconds between a label's time and its prediction's. By default half a window."""

    def classes(self, header: Header) -> dict[str, tuple[str, ...]]:
        """Return the names of classes that stand in a column, by column. Names that are numbers are read as these."""
        found, begin = {}, 0
        for head in header.parts:
            if head.classes and not are_numbers(head.classes):
                found[self.columns[begin]] = tuple(head.classes)
            begin += 1 if head.classes else head.outputs
        return found

    def outline(self, model: ModelOutline, header: Header) -> ModelOutline:
        """Return what the source of samples needs to know of the model, with the labels' columns if it has them."""
        self.check(header)
        return model if self.source is not None else self._extended(model, header)

    def build(self, model: ModelOutline, header: Header) -> Source[Any] | None:
        """Return the source of labels, not yet connected. None: they come with the samples.

        Raises:
            ConfigError: the columns of labels do not fit the model.
        """
        self.check(header)
        if self.source is None:
            return None
        return self.source.build(self._extended(model._replace(channels=(), units=()), header))

    def _extended(self, model: ModelOutline, header: Header) -> ModelOutline:
        more = (*self.columns, *([self.window] if self.window else []))
        units = model.units + ("",) * len(more)
        return model._replace(channels=model.channels + more, units=units, classes=self.classes(header))

    def check_source(self, samples: SourceConfig, state: StateConfig | KafkaStateConfig | None) -> None:
        """Raise ConfigError where labels cannot have a source of their own beside that of the samples."""
        if self.source is None:
            return
        if isinstance(state, KafkaStateConfig):
            raise ConfigError(
                'labels.source with state.kind = "kafka": a worker has the streams of its partitions, and labels would '
                "have to go to the same one; send labels in rows of [source]'s topic"
            )
        if isinstance(self.source, SeveralConfig):
            raise ConfigError('labels.source is of kind "several": labels have one source; it may have several topics')
        if not (samples.live and self.source.live):
            raise ConfigError("labels.source is for live sources: use streamrde score --progressive for recorded ones")

    def taker(self, fleet: Fleet) -> LateLabels:
        """Return what gives labels to the fleet."""
        from streamrde.runtime.labels import LateLabels

        return LateLabels(fleet, beside=self.source is None, windowed=bool(self.window), wait=self.wait)

    def settings(self) -> Adapt:
        """Return the settings of the fleet."""
        return Adapt(serve=self.adapt, share=self.share, pending=self.pending, within=self.within)

    def check(self, header: Header) -> None:
        """Raise ConfigError where the columns do not fit the model."""
        if self.adapt == "off":
            raise ConfigError('labels.adapt = "off": labels would not be used; leave [labels] out')
        wanted = sum(1 if head.classes else head.outputs for head in header.parts)
        if len(self.columns) != wanted or len(set(self.columns)) < wanted:
            needs = [
                f"one with the class{f' of {head.name!r}' if head.name else ''}"
                if head.classes
                else f"one per output{f' of {head.name!r}' if head.name else ''}"
                for head in header.parts
            ]
            raise ConfigError(
                f"labels.columns has {len(self.columns)} names: this model needs {wanted} different ones, "
                + ", ".join(needs)
            )
        if self.window in self.columns:
            raise ConfigError(f"labels.window = {self.window!r} is in labels.columns too: name another column")
        named = {*self.columns, self.window}
        if both := sorted({channel.name for channel in header.channels} & named if self.source is None else ()):
            raise ConfigError(
                f"labels.columns has {both[0]!r}, which is a channel too: send labels in their own columns"
            )
