"""Section of a run whose samples come with labels."""

from __future__ import annotations

from typing import Annotated

import msgspec

from streamrde.adapting.settings import Adapt, Serve
from streamrde.errors import ConfigError
from streamrde.inference.header import Header
from streamrde.inference.labels import are_numbers


class LabelsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Labels that come late, in columns of the source's rows."""

    columns: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Columns with the labels: one per output that is a number, and one per head of classes, whose names or places it
    has. A label is for its row's time. A row without any channel is only a label."""
    adapt: Serve = "best"
    """Prediction that is served: "frozen" (the model's), "online" (corrected), "last" (label), "mean" (of the labels),
    "blend" (of both), or "best" (the one with the smallest error so far)."""
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
        if both := sorted({channel.name for channel in header.channels} & set(self.columns)):
            raise ConfigError(
                f"labels.columns has {both[0]!r}, which is a channel too: send labels in their own columns"
            )
