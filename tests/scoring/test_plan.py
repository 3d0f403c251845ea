"""Plans: every row of every stream in exactly one part, and parts that are worth a task."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.scoring import plan
from streamrde.scoring.plan import make_plan
from streamrde.scoring.scan import Scan


def scan_of(names, starts=(0,)):
    """What looking at a file with these rows would find."""
    names = list(names)
    order = list(dict.fromkeys(names))
    places = {name: [i for i, other in enumerate(names) if other == name] for name in order}
    columns = [np.array([f(places[name]) for name in order]) for f in (min, max, len)]
    return Scan(order, *columns, np.array(starts))


files_of_streams = st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), min_size=1, max_size=5)


@given(files_of_streams, st.integers(1, 3), st.integers(1, 10))
def test_every_row_is_scored_once_and_streams_stay_together(files, groups, least):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "_LEAST_ROWS", least)
        parts = make_plan([scan_of(file) for file in files], groups=groups)
    streams = [name for part in parts for name in part.streams]
    assert sorted(streams) == sorted({name for file in files for name in file})
    scored = []
    for part in parts:
        own = set(part.streams)
        rows = 0
        for piece in part.pieces:
            inside = files[piece.file][piece.start : piece.stop]
            assert piece.shared == (not own.issuperset(inside))
            taken = [i for i, name in enumerate(inside, piece.start) if name in own]
            scored += [(piece.file, i) for i in taken]
            rows += len(taken)
            # A stream ends where it has no row later on.
            later = {name for file in files[piece.file + 1 :] for name in file}
            assert {name for name in inside if name in own and name not in later} == set(piece.ends)
        assert rows == part.rows
    assert sorted(scored) == [(f, i) for f, file in enumerate(files) for i in range(len(file))]


def test_streams_that_follow_each_other_are_cut_at_row_groups(monkeypatch):
    monkeypatch.setattr(plan, "_LEAST_ROWS", 100)
    names = np.repeat([f"s{i}" for i in range(20)], 30)
    parts = make_plan([scan_of(names, starts=range(0, 600, 150))])
    assert len(parts) >= 4
    # What is decoded in vain is less than what is scored.
    for part in parts:
        (piece,) = part.pieces
        assert piece.start - piece.start // 150 * 150 <= part.rows


def test_a_rest_that_costs_more_to_reach_than_to_score_is_not_cut_off(monkeypatch):
    monkeypatch.setattr(plan, "_LEAST_ROWS", 200)
    names = np.repeat([f"s{i}" for i in range(8)], 30)
    assert len(make_plan([scan_of(names)])) == 1
    assert len(make_plan([scan_of(names), scan_of(np.repeat(["a", "b"], 30))])) == 2


def test_interleaved_streams_stay_in_one_part_unless_asked(monkeypatch):
    monkeypatch.setattr(plan, "_LEAST_ROWS", 10)
    scans = [scan_of([f"s{i % 10}" for i in range(200)])]
    assert len(make_plan(scans)) == 1
    assert [part.rows for part in make_plan(scans, groups=4)] == [60, 40, 60, 40]
