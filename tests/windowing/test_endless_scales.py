"""Scales do not drift along a stream, wherever it is saved and restored."""

from benchmarks.endless_scales import LIMIT, measure


def test_scales_stay_exact_along_a_stream_that_is_often_restored():
    errors, _, _ = measure(4000, 30, 12)
    assert max(errors) <= LIMIT
    assert min(errors) > 0.0  # or nothing was compared
