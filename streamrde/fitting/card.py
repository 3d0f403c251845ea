"""Fill a fitted model's card: its measures, how it was made, and the statistics of the streams it was fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from streamrde.adapting.bands import SETS
from streamrde.adapting.scores import Unit, scores_of
from streamrde.arrays import Floats
from streamrde.fitting.examples import Examples
from streamrde.inference.bundle import Bundle
from streamrde.inference.statistics import stream_statistics
from streamrde.nearest import listed

_TEST = "test_"
MEASURED = "measured"
"""Row of a card that says how a fit was measured. Cards of trainings do not have it."""


def with_card(bundle: Bundle, examples: Examples, found: Mapping[str, float]) -> Bundle:
    """Return the model with measures, training and statistics in its header. Its answers stay the same.

    Args:
        bundle: the model.
        examples: what it was fitted to.
        found: measures out of fold, which the card calls validation, and those of a test part, "test_...".
    """
    header, own = bundle.header, examples.recordings
    metrics = {name if name.startswith(_TEST) else f"validation_{name}": float(value) for name, value in found.items()}
    rows = f"{len(examples.truth):,} windows along them" if examples.along else "one target for each"
    training = {
        "streams": f"{len(own):,}, {rows}",
        "groups": f"{len(np.unique([recording.group for recording in own])):,}",
        MEASURED: f"out of fold, {len(np.unique(examples.folds))} folds",
        "seed": str(examples.seed),
        "targets": listed(examples.targets) if examples.targets else "-",
    }
    statistics = stream_statistics([r.t for r in own], [r.x for r in own], header.partition)
    changed = msgspec.structs.replace(header, metrics=metrics, training=training, statistics=statistics)
    return Bundle(changed, bundle.tensors)


def with_calibration(bundle: Bundle, examples: Examples, held_out: Floats) -> Bundle:
    """Return the model with how far answers to rows that were left out were from the truth, which intervals need.

    Rows of one group count as one stream: a group is what is left out whole.

    Args:
        held_out: probabilities (n, classes), or numbers (n, outputs).
    """
    classes = len(examples.labels)
    units = (Unit(slice(0, classes), classes),) if classes else bundle.header.thresholds
    scores = [scores_of(units, held_out, examples.truth, sets) for sets in SETS]
    return bundle.with_calibration(
        scores, examples.groups, sequences=examples.stream if examples.along else None, lag=_lag(examples)
    )


def _lag(examples: Examples) -> int:
    """Return the number of a stream's rows after which the label of one is known."""
    if not examples.along or not examples.horizon:
        return 1
    steps = np.diff(examples.ends)[np.diff(examples.stream) == 0]
    spacing = float(np.median(steps)) if len(steps) else examples.horizon
    return max(1, int(np.ceil(examples.horizon / max(spacing, 1e-300) - 1e-9)))


def with_units(bundle: Bundle, units: Sequence[str]) -> Bundle:
    """Return the model with the units of its channels in its header."""
    if not any(units):
        return bundle
    pairs = zip(bundle.header.channels, units, strict=True)
    channels = tuple(msgspec.structs.replace(channel, unit=unit) for channel, unit in pairs)
    return Bundle(msgspec.structs.replace(bundle.header, channels=channels), bundle.tensors)
