"""Has a stream drifted away from what a model was trained on? A sequential test of p-values.

Those of its windows' inputs (see inference.novelty) need no labels. Those of its errors come with its labels, and say
how rare errors as large were on streams that were left out in training (see adapting.split).

A gambler who does not believe that the p-values p_1, p_2, ... are uniform bets on small ones. Each bet multiplies a
capital by

    f(p) = integral over e in [0, 1] of e p^(e - 1) de = (e^y - 1 - y) / y^2,   y = -log p

(the simple mixture of Vovk, Nouretdinov & Gammerman, "Testing exchangeability on-line", ICML 2003), whose mean is 1
under uniform p. A capital that has fallen below 1 is raised to 1, as Page's test (1954) does, so that the past of a
stream costs no time to notice its drift:

    capital <- max(capital, 1) f(p),   alarm where capital >= threshold; then it begins at 1 again

Of uniform, independent p-values the mean number of windows before a false alarm is at least the threshold (an
e-detector of CUSUM type: Shin, Ramdas & Rinaldo, "E-detectors", 2024, theorem 2.4). Windows of a stream depend on each
other; so training raises the threshold to what but few of its own streams reached while they were left out of the fit.
"""

from __future__ import annotations

import math

from streamrde.arrays import Floats, Indices

COLUMNS = 3
"""Numbers that the test keeps of a stream: windows that were novel, alarms, logarithm of the capital."""


def log_growth(p: float) -> float:
    """``log f(p)``, p in (0, 1]."""
    y = -math.log(p)
    # Below, the difference would lose its digits: the series.
    f = (math.expm1(y) - y) / (y * y) if y > 1e-2 else 0.5 + y * (1 / 6 + y * (1 / 24 + y / 120))
    return math.log(f)


def watch(rows: Floats, column: int, slots: Indices, p: Floats, *, novel: float, alarm: float) -> None:
    """Take the p-values of windows, in order, into their streams' tests.

    Args:
        rows: the table of streams; changed in place, from `column` on.
        slots, p: stream and p-value of each window, (n,); NaN: it was not judged, and changes nothing.
        novel: p-values below are counted.
        alarm: logarithm of the threshold.
    """
    for slot, value in zip(slots.tolist(), p.tolist(), strict=True):
        if math.isnan(value):
            continue
        capital = max(float(rows[slot, column + 2]), 0.0) + log_growth(value)
        if value < novel:
            rows[slot, column] += 1
        if capital >= alarm:
            rows[slot, column + 1] += 1
            capital = 0.0
        rows[slot, column + 2] = capital


def highest_capital(p: Floats) -> float:
    """Return the logarithm of the highest capital on a stream with p-values (n,) that no alarm stopped."""
    capital = best = 0.0
    for value in p.tolist():
        capital = max(capital, 0.0) + log_growth(value)
        best = max(best, capital)
    return best
