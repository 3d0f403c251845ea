"""Compare predicted probabilities with observed shares, and draw both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Ints
from streamrde.pages.page import charts, figure
from streamrde.pages.svg import Plot, axis


class Reliability(NamedTuple):
    """Predicted probabilities beside observed shares, in bins."""

    edges: Floats
    """Edges of the bins of probability, (bins + 1,)."""
    said: Floats
    """Mean probability, (bins,). NaN in an empty bin."""
    seen: Floats
    """Observed share, (bins,)."""
    windows: Ints
    error: float
    """Expected calibration error: the mean over windows of ``|seen - said|``."""


def reliability(probability: Floats, event: Floats, *, bins: int = 15) -> Reliability:
    """Compare probabilities, (n,), with events (1 or 0), (n,), in bins as in `inference.quality`.

    Reference: Guo et al. 2017, "On calibration of modern neural networks", section 2.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(probability * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        said = np.bincount(place, probability, bins) / count
        seen = np.bincount(place, event, bins) / count
    error = float(np.nansum(count * np.abs(seen - said)) / max(1, count.sum()))
    return Reliability(edges, said, seen, count, error)


def reliability_charts(probability: Floats, event: Floats, *, what: str, share: str, of: str, counted: str) -> str:
    """Draw the reliability of probabilities, (n,), of events (1 or 0), (n,), and how often each is given.

    Args:
        what: names the probability.
        share: names the observed share.
        of: words after the number of events, such as "windows of the test streams".
        counted: things that are counted, such as "windows".
    """
    found = reliability(probability, event)
    across = axis(what, [0, 1], zero=True, high=1)
    plot = Plot(across, axis(share, [0, 1], zero=True, high=1), title="Reliability")
    plot.diagonal("calibrated")
    full = found.windows > 0
    plot.line(found.said[full], found.seen[full])
    plot.points(found.said[full], found.seen[full], size=4, titles=[f"{n:,} {counted}" for n in found.windows[full]])
    counts = Plot(across, axis(counted, found.windows, zero=True), title="How often")
    counts.bars(found.edges, found.windows)
    return charts(
        figure("Reliability", plot.svg(), f"expected calibration error {found.error:.3f}, {len(event):,} {of}"),
        figure("How often which probability is given", counts.svg(), f"the same {counted} and bins"),
    )
