"""Predicted probabilities beside observed shares."""

import numpy as np
import pytest

from streamrde.pages.reliability import reliability, reliability_charts

SAID, EVENT = np.array([0.05, 0.95, 0.95, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])


def test_reliability_compares_what_is_said_with_what_is_so() -> None:
    found = reliability(SAID, EVENT)
    assert found.windows[[0, 14]].tolist() == [1, 3]
    assert found.seen[14] == pytest.approx(2 / 3)
    assert found.error == pytest.approx((0.05 + 3 * abs(2 / 3 - 2.9 / 3)) / 4)


def test_the_charts_say_what_is_counted() -> None:
    shown = reliability_charts(SAID, EVENT, what="p", share="seen", of="streams left out", counted="streams")
    assert shown.count("<svg") == 2
    assert f"expected calibration error {reliability(SAID, EVENT).error:.3f}, 4 streams left out" in shown
