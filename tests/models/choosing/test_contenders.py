from __future__ import annotations

import numpy as np
import pytest

from streamrde.fitting.examples import Examples, as_examples
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target
from streamrde.inference.stacks import RECURRENCES
from streamrde.models.choosing.contenders import contenders
from streamrde.windowing.policies import Every


def examples_of(*, streams: int = 8, length: int = 40, channels: int = 2, missing: float = 0.0) -> Examples:
    rng, found = np.random.default_rng(0), []
    for i in range(streams):
        x = rng.normal(size=(length, channels))
        x[1:][rng.random((length - 1, channels)) < missing] = np.nan
        target = Target(np.array([[float(i % 2)]]), None, ("a", "b"))
        found.append(Recording(f"s{i}", np.arange(length) / 10, x, target, f"s{i}", f"s{i}"))
    names = [f"c{j}" for j in range(channels)]
    return as_examples(found, names, classify=True, seed=3)


@pytest.mark.parametrize(("channels", "missing", "depth"), [(2, 0.0, 2), (2, 0.5, 2), (20, 0.0, 1)])
def test_every_contender_is_a_model_that_can_be_made(channels, missing, depth) -> None:
    examples = examples_of(channels=channels, missing=missing)
    found = contenders(examples)
    assert len({own.name for own in found}) == len(found)
    for own in found:
        own.config.check()
        header = own.config.header(examples.observed[0], examples.labels, "stream")
        assert header.depth == depth
        assert header.interpolation == ("hold" if missing else "linear")
        assert header.token.summaries == (missing > 0.1)
        assert own.config.training.seed == 3
    kinds = {own.name.split(", ")[1] for own in found if own.kind == "stack"}
    assert {"rg_lru", "gru", "s4d", "slice"} <= kinds <= RECURRENCES.keys()
    assert found[-1].kind == "Neural RDE"


@pytest.mark.parametrize(("length", "missing", "counted"), [(300, 0.0, True), (40, 0.0, False), (300, 0.5, False)])
def test_stacks_are_given_pulses_of_long_streams_that_are_sampled_evenly(length, missing, counted) -> None:
    *stacks, rde = contenders(examples_of(length=length, missing=missing))
    assert all((own.config.token.pulses is not None) == counted for own in stacks)
    assert rde.config.token.pulses is None


def test_few_streams_are_trained_for_more_epochs_and_long_ones_part_by_part() -> None:
    few, many = (contenders(examples_of(streams=n))[0].config.training for n in (8, 300))
    assert few.epochs > many.epochs
    assert not few.truncate
    long = contenders(examples_of(streams=4, length=2000), Every(0.1))[0]
    assert 0 < long.config.training.truncate < 2000
    assert long.config.windows == Every(0.1)


def test_weights_of_classes_are_those_of_their_rows() -> None:
    examples = examples_of()
    weights = np.where(examples.codes == 1, 1.5, 0.5)
    for own in contenders(examples._replace(weights=weights)):
        assert own.config.training.class_weights == {"a": 0.5, "b": 1.5}


def test_the_name_says_the_epochs() -> None:
    first = contenders(examples_of())[0]
    longer = first.lasting(7)
    assert longer.name == f"{first.model}, 7 epochs"
    assert (longer.epochs, longer.kind, longer.model) == (7, first.kind, first.model)
