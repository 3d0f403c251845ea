"""Streams that begin again, told from streams whose rows are out of order."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from streamrde.connectors.files.restarts import Restarts, explain, find_restarts, places_by_stream, split_streams
from streamrde.connectors.samples import Samples

RNG = np.random.default_rng(5)


def ramp(rows: int, start: float = 0.0, step: float = 0.02) -> np.ndarray:
    return start + step * np.arange(rows)


def late(t: np.ndarray, share: float, by: int) -> np.ndarray:
    """Some rows a few places later."""
    place = np.arange(len(t)) + np.where(RNG.random(len(t)) < share, by + 0.5, 0.0)
    return t[np.argsort(place, kind="stable")]


RESTARTED = {
    "two recordings, each from 0": ([ramp(75), ramp(75, 0.007)], [75]),
    "three of unequal length": ([ramp(500), ramp(20), ramp(90)], [500, 520]),
    "a counter that was running": ([ramp(400, 5000.0), ramp(100)], [400]),
    "clocks that go back an hour": ([ramp(7200, 0, 1.0), ramp(7200, 3600, 1.0)], [7200]),
    "clocks that go back, a row every quarter of an hour": ([ramp(12, 0, 900.0), ramp(12, 7200, 900.0)], [12]),
    "the same times again": ([ramp(75), ramp(75)], [75]),
    "short ones": ([ramp(3), ramp(3)], [3]),
    "a long one and a short one": ([ramp(1000), ramp(5)], [1000]),
    "two that have late rows": ([late(ramp(400), 0.05, 3), late(ramp(400), 0.05, 3)], [400]),
    "five in a row": ([ramp(10) for _ in range(5)], [10, 20, 30, 40]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RESTARTED)
@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_a_restart_is_found_wherever_the_rows_are_cut(case: str, batch: int) -> None:
    parts, expected = RESTARTED[case]
    t = np.concatenate(parts)
    assert find_restarts(t) == expected
    restarts = Restarts()
    for start in range(0, len(t), batch):
        own = t[start : start + batch]
        restarts.push(Samples(pa.array(["s"] * len(own)), own, np.zeros((len(own), 1))), "a")
    assert [restart.place for restart in restarts.found()] == expected


OUT_OF_ORDER = {
    "in order": ramp(100),
    "repeats": np.repeat(ramp(50), 2),
    "shuffled": RNG.permutation(ramp(5000)),
    "shuffled, few": RNG.permutation(ramp(9)),
    "reversed": ramp(300)[::-1],
    "some late": late(ramp(2000), 0.1, 4),
    "many late by one": late(ramp(2000), 0.5, 1),
    "one late": np.array([0, 1, 2, 4, 3, 5, 6, 7.0]),
    "one stamp in the future": np.concatenate([ramp(70), [9999.0], ramp(3000, 1.4)]),
    "a block that was stored and fills its gap": np.concatenate(
        [ramp(100), ramp(100, 4.0), ramp(100, 2.0), ramp(50, 6.0)]
    ),
    "such a block at the end": np.concatenate([ramp(100), ramp(100, 4.0), ramp(100, 2.0)]),
    "nothing": ramp(0),
    "one row": ramp(1),
}


@pytest.mark.parametrize("case", OUT_OF_ORDER)
def test_rows_that_are_only_out_of_order_are_no_restart(case: str) -> None:
    assert find_restarts(OUT_OF_ORDER[case]) == []


def samples(t: np.ndarray, name: str = "s") -> Samples:
    return Samples(pa.array([name] * len(t)), t, t[:, None].copy())


def found(*files: np.ndarray) -> list[tuple[str, int]]:
    restarts = Restarts()
    for number, t in enumerate(files):
        for start in range(0, len(t), 50):
            restarts.push(samples(t[start : start + 50]), f"{number}.csv")
    return [(restart.file, restart.place) for restart in restarts.found()]


def test_files_in_another_order_than_their_times_are_no_restart() -> None:
    assert found(ramp(100, 10.0), ramp(100)) == []
    assert found(ramp(100, 20.0), ramp(100, 10.0), ramp(100)) == []
    assert found(ramp(100, 20.0), ramp(100), ramp(100, 10.0)) == []


def test_files_that_overlap_are_a_restart() -> None:
    assert found(ramp(100), ramp(100)) == [("1.csv", 100)]
    assert found(ramp(100), ramp(100, 0.5)) == [("1.csv", 100)]
    assert found(ramp(100, 1.0), ramp(100)) == [("1.csv", 100)]
    assert found(ramp(100, 10.0), ramp(1000)) == [("1.csv", 100)]


def test_one_stream_among_others_is_found_and_split() -> None:
    names = np.array(["a", "b", "c"] * 80)
    t = np.repeat(ramp(80), 3)
    t[np.flatnonzero(names == "b")[30:]] -= 0.6
    batches = [
        Samples(pa.array(names[i : i + 25].tolist()), t[i : i + 25], t[i : i + 25, None]) for i in range(0, 240, 25)
    ]
    restarts = Restarts()
    for batch in batches:
        restarts.push(batch)
    (restart,) = restarts.found()
    assert (restart.stream, restart.place) == ("b", 30)
    assert "'b' jumps back from 0.58 s to 0 s at its row 30" in explain([restart], "restarts =")
    split = list(split_streams(batches, places_by_stream([restart])))
    renamed = np.array([name for batch in split for name in batch.streams.to_pylist()])
    expected = names.astype(object)
    expected[np.flatnonzero(names == "b")[30:]] = "b#2"
    assert renamed.tolist() == expected.tolist()
    np.testing.assert_array_equal(np.concatenate([batch.t for batch in split]), t)
