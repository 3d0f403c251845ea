"""Losses that sequence numbers show."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.sequences import Loss, Sequences


def losses(*numbers: float) -> list[int]:
    sequences = Sequences()
    found = [sequences.observe(b"a", "s", [number]) for number in numbers]
    return [loss.missed if loss else 0 for loss in found]


def test_a_gap_is_the_numbers_between() -> None:
    assert losses(1000, 3001) == [0, 2000]
    assert losses(0, 1, 2, 4, 5) == [0, 0, 0, 1, 0]


def test_the_first_number_of_a_sender_is_no_gap() -> None:
    assert losses(17) == [0]
    sequences = Sequences()
    assert sequences.observe(b"a", "s", [1]) is None
    assert sequences.observe(b"b", "s", [900]) is None


def test_what_comes_again_is_neither_a_gap_nor_the_cause_of_one() -> None:
    assert losses(5, 6, 7, 6, 7, 8) == [0] * 6
    assert losses(5, 5, 6) == [0] * 3


@pytest.mark.parametrize("top", [255, 65_535, 2**32 - 1])
def test_a_counter_that_wraps_or_begins_again_is_no_gap(top: int) -> None:
    assert losses(top - 1, top, 0, 1, 3) == [0, 0, 0, 0, 1]


def test_samples_of_a_message_share_its_number_or_have_their_own() -> None:
    sequences = Sequences()
    assert sequences.observe(b"a", "s", [7, 7, 7]) is None
    assert sequences.observe(b"a", "s", [8, 9, 10]) is None
    assert sequences.observe(b"a", "s", [11, 14]) == Loss(2, 11, 14, True)
    assert sequences.observe(b"a", "s", [16]) == Loss(1, 14, 16, False)
    assert sequences.missed == {"s": 3}


def test_a_sample_without_a_number_says_nothing() -> None:
    assert losses(1, math.nan, 9, 10, 12) == [0, 0, 0, 0, 1]


def test_a_message_that_cannot_be_read_has_come() -> None:
    sequences = Sequences()
    sequences.skip(b"a")
    assert sequences.observe(b"a", "s", [1]) is None
    sequences.skip(b"a")
    assert sequences.observe(b"a", "s", [3]) is None
    sequences.skip(b"a")
    assert sequences.observe(b"a", "s", [7]).missed == 2


@given(st.sets(st.integers(0, 90), min_size=2))
def test_what_is_missed_is_what_was_left_out(kept: set[int]) -> None:
    assert sum(losses(*sorted(kept))) == max(kept) - min(kept) + 1 - len(kept)
