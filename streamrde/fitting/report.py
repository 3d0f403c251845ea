"""The outcome of a fit: the model, how good it is, and how that is known."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from streamrde.disk import replace_file
from streamrde.fitting.config import FitConfig
from streamrde.fitting.discovery import Roles
from streamrde.fitting.early import Early, early_answers
from streamrde.fitting.intervals import Interval
from streamrde.fitting.mistakes import OfGroup, by_class, by_group, confusion, most_confused
from streamrde.fitting.recipe import Fitted
from streamrde.fitting.words import cautions, group_names, intervals_of, sentences, wrong_of
from streamrde.inference.bundle import Bundle


@dataclass(frozen=True, eq=False)
class Report:
    """A fitted model and how good it is.

    All measures but those of a test part are of answers to streams that were left out in turn, with their groups.
    """

    fitted: Fitted
    """Outcome of the search among candidates."""
    roles: Roles
    """Role of each column."""
    said: tuple[str, ...]
    """Sentences on how the data was read."""
    config: FitConfig
    """Settings with which `streamrde fit` makes the same model again."""
    seconds: float = 0.0
    """Duration of the fit."""
    again: str = ""
    """TOML text that makes the same model again. "": that of `config`."""

    @property
    def bundle(self) -> Bundle:
        """Return the model."""
        return self.fitted.bundle

    @property
    def measures(self) -> dict[str, float]:
        """Return the model's measures, beside those of plain models."""
        return self.fitted.measures

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """Return the measures of all candidates and plain models, by name."""
        return self.fitted.table

    @property
    def choice(self) -> str:
        """Return the name of the candidate that was chosen."""
        return self.fitted.choice

    @property
    def baselines(self) -> dict[str, dict[str, float]]:
        """Return the measures of the plain models, by name."""
        main = "accuracy" if self.fitted.examples.labels else "rmse"
        usual = {"plainest": "majority" if main == "accuracy" else "mean"}
        return {name: own for name, own in self.table.items() if f"{usual.get(name, name)}_{main}" in self.measures}

    @functools.cached_property
    def intervals(self) -> dict[str, Interval]:
        """Return the 95 % intervals of the model's measures."""
        return intervals_of(self.fitted.examples, self.fitted.chosen)

    @functools.cached_property
    def early(self) -> tuple[Early, ...]:
        """Return the measures after parts of each stream. They are computed when they are first asked for."""
        return early_answers(self.fitted.examples, self.fitted.chosen)

    @functools.cached_property
    def warnings(self) -> tuple[str, ...]:
        """Return sentences on what to be careful with."""
        found = cautions(
            self.fitted.examples, self.measures, self.intervals, self.baselines, stopped=self.fitted.stopped
        )
        return (*self.fitted.warnings, *(f"warning: {text}" for text in found))

    @property
    def notes(self) -> tuple[str, ...]:
        """Return sentences on how the data was read, and what to be careful with."""
        return (*self.said, *self.warnings)

    @property
    def sentences(self) -> list[str]:
        """Return in plain words how good the model is."""
        return sentences(self.fitted.examples, self.measures, self.intervals, self.baselines)

    @functools.cached_property
    def groups(self) -> list[OfGroup]:
        """Return the errors of each group, the worst first. Empty if no group has two streams."""
        names = group_names(self.fitted.examples)
        if len(set(names)) == len(names):
            return []
        wrong = wrong_of(self.fitted.examples, self.fitted.chosen)
        return by_group(names, wrong, root=not self.fitted.examples.labels)

    def __str__(self) -> str:
        """Return the sentences, and the warnings."""
        return "\n".join([*self.sentences, *self.warnings])

    def _repr_html_(self) -> str:
        """Return the page for a notebook, in a frame of its own."""
        import html

        from streamrde.fitting.document import document

        page = html.escape(document(self), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:0" title="streamrde fit"></iframe>'

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the report as an HTML page that needs no other file, and asks nothing of the network.

        Raises:
            OSError: the file cannot be written.
        """
        from streamrde.fitting.document import document

        replace_file(path, document(self).encode())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it but the model as plain values, for JSON."""
        examples, chosen = self.fitted.examples, self.fitted.chosen
        found: dict[str, Any] = {
            **self.measures,
            "intervals": {name: list(limits) for name, limits in self.intervals.items()},
            "choice": self.choice,
            "table": self.table,
            "early": [early._asdict() for early in self.early],
            "groups": [group._asdict() for group in self.groups],
            "sentences": self.sentences,
            "notes": list(self.notes),
            "stopped": self.fitted.stopped,
            "streams": len(examples.recordings),
            "rows": len(examples.truth),
            "seconds": self.seconds,
        }
        if examples.labels:
            counts = confusion(examples.codes, chosen.held_out)
            found |= {
                "labels": list(examples.labels),
                "confusion": counts.tolist(),
                "recall": {own.label: own.recall for own in by_class(counts, examples.labels)},
                "confused": [pair._asdict() for pair in most_confused(counts, examples.labels)],
            }
        return {name: _finite(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """Return None in the place of numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(own) for own in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
