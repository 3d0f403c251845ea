from __future__ import annotations

import numpy as np
import pytest
import torch

from streamrde.models.training.examples import Example, Examples, collate


def make_examples(rng: np.random.Generator, *, classes: bool, alike: bool = False) -> list[Example]:
    """Five streams of 1 to 6 windows; some targets are unknown, of one stream all."""
    made = []
    for i, length in enumerate((4,) * 5 if alike else (3, 1, 6, 2, 4)):
        if classes:
            target = rng.integers(-1, 3, length)
        else:
            target = np.where(rng.random((length, 2)) < 0.3, np.nan, rng.normal(size=(length, 2)))
        if i == 3:
            target[:] = -1 if classes else np.nan
        logsigs = rng.normal(size=(length, 3))
        made.append(Example(f"s{i}", rng.normal(size=2), np.arange(1.0, length + 1), logsigs, target))
    return made


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("classes", [True, False])
def test_a_batch_is_its_streams_padded(classes, alike) -> None:
    made = make_examples(np.random.default_rng(0), classes=classes, alike=alike)
    longest = max(len(example.logsigs) for example in made)
    for examples in (made, Examples.join(made)):
        batch = collate(examples, torch.device("cpu"))
        assert batch.target.dtype == (torch.int64 if classes else torch.float64)
        for i, example in enumerate(made):
            length = len(example.logsigs)
            known = example.target >= 0 if classes else np.isfinite(example.target)
            pad = ((0, longest - length), *((0, 0),) * (known.ndim - 1))
            np.testing.assert_array_equal(batch.x0[i], example.x0)
            np.testing.assert_array_equal(batch.logsigs[i], np.pad(example.logsigs, ((0, longest - length), (0, 0))))
            np.testing.assert_array_equal(batch.target[i], np.pad(np.where(known, example.target, 0), pad))
            np.testing.assert_array_equal(batch.weight[i], np.pad(known / max(1, known.sum()), pad))


def test_a_choice_of_examples_is_a_view_of_theirs() -> None:
    made = make_examples(np.random.default_rng(1), classes=True)
    examples = Examples.join(made)
    assert len(examples) == 5
    chosen = examples[np.array([4, 0])]
    assert [example.stream for example in chosen] == ["s4", "s0"]
    assert [example.stream for example in examples[1:3]] == ["s1", "s2"]
    np.testing.assert_array_equal(chosen[0].logsigs, made[4].logsigs)
    assert np.shares_memory(chosen[1].logsigs, examples[0].logsigs)
    assert examples[-1].stream == "s4"
    assert not len(Examples.join([]))
