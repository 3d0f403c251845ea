from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fit_data import turning

import streamrde as sr
from streamrde.errors import DataError
from streamrde.fitting.along import examples_along
from streamrde.fitting.entry import fit
from streamrde.fitting.examples import as_examples
from streamrde.fitting.progress import Budget, ignore
from streamrde.fitting.recordings import Recording
from streamrde.fitting.serving import answers_of
from streamrde.fitting.targets import Target
from streamrde.models.choosing import contenders as proposed
from streamrde.models.choosing.contenders import contenders
from streamrde.models.choosing.family import train_candidates
from streamrde.models.training.trainer import Trainer


@pytest.fixture(autouse=True)
def small(monkeypatch) -> None:
    """Propose models that train in a second."""
    monkeypatch.setattr(proposed, "_STACKS", (("rg_lru", 1, 8), ("gru", 1, 8)))
    monkeypatch.setattr(proposed, "_HIDDEN", 6)
    monkeypatch.setattr(proposed, "_STEPS", 10)
    monkeypatch.setattr(proposed, "_EPOCHS", (3, 3))


def recordings(*, streams: int = 10, length: int = 20, classify: bool = True, gap: bool = False) -> list[Recording]:
    """Turn left or right, in one group of two streams each."""
    rng, t, found = np.random.default_rng(1), np.arange(length) / 10, []
    for i in range(streams):
        sign, speed = (-1) ** i, rng.uniform(1.0, 3.0)
        angle = sign * speed * t + rng.uniform(0, 6)
        x = np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.05 * rng.normal(size=(length, 2))
        own = np.where(np.arange(length) < length // 2, t, t + 1e6) if gap and i == 3 else t
        value = np.array([[float(i % 2)]]) if classify else np.array([[speed, np.nan if i == 1 else sign]])
        target = Target(value, None, ("left", "right") if classify else ())
        found.append(Recording(f"s{i}", own, x, target, str(i // 2), f"s{i}"))
    return found


def examples_of(own: list[Recording], *, classify: bool = True):
    return as_examples(own, ("a", "b"), classify=classify, seed=0, targets=() if classify else ("speed", "sign"))


def trained(examples, **options):
    return list(train_candidates(examples, budget=Budget(), progress=ignore, **options))


@pytest.mark.parametrize(("classify", "gap"), [(True, True), (False, False)])
def test_answers_out_of_fold_are_those_that_models_without_the_fold_serve(classify, gap) -> None:
    examples = examples_of(recordings(classify=classify, gap=gap), classify=classify)
    candidate = trained(examples)[0]
    assert np.isfinite(candidate.held_out).all()
    for fold in np.unique(examples.folds):
        rows = np.flatnonzero(examples.folds == fold)
        served = answers_of(candidate.without(int(fold)), [examples.recordings[i] for i in rows])
        for row, answers in zip(rows, served, strict=True):
            np.testing.assert_allclose(answers.value[-1], candidate.held_out[row], rtol=1e-4, atol=1e-5)


def test_all_kinds_are_trained_the_better_ones_on_all_folds_and_the_best_for_longer() -> None:
    examples = examples_of(recordings())
    found = contenders(examples)
    assert [own.kind for own in found] == ["stack", "stack", "Neural RDE"]
    first, second, longer = trained(examples)
    assert first.name != second.name
    assert {first.name, second.name} < {own.name for own in found}
    best = min((first, second), key=lambda own: own.losses.mean())
    epochs = found[0].epochs
    assert longer.name == best.name.replace(f", {epochs} epochs", f", {3 * epochs} epochs")


def test_the_name_of_a_candidate_makes_the_same_model_again() -> None:
    examples = examples_of(recordings())
    first = trained(examples)[0]
    (again,) = trained(examples, choice=first.name)
    assert again.held_out.tobytes() == first.held_out.tobytes()
    assert again.bundle().fingerprint == first.bundle().fingerprint
    with pytest.raises(DataError, match="choice = 'stack, gru, 1 block of 9, 3 epochs': no candidate"):
        trained(examples, choice="stack, gru, 1 block of 9, 3 epochs")


def test_numbers_that_cannot_be_learned_are_answered_with_their_mean() -> None:
    rng, own = np.random.default_rng(0), recordings(classify=False, streams=12)
    noise = [Target(np.array([[r.target.values[0, 0], rng.normal()]]), None) for r in own]
    own = [Recording(r.stream, r.t, r.x, target, r.group, r.source) for r, target in zip(own, noise, strict=True)]
    examples = examples_of(own, classify=False)
    for candidate in trained(examples):
        truth, answers = examples.truth, candidate.held_out
        error = ((answers - truth) ** 2).mean(axis=0)
        assert (error <= truth.var(axis=0) * (1 + 1e-5)).all()


@pytest.mark.parametrize("grouped", [True, False])
def test_targets_along_streams_are_learned_on_the_same_windows_and_blocks_of_time(grouped) -> None:
    rng, own = np.random.default_rng(2), []
    for i in range(4):
        t = np.arange(200.0)
        x = np.cumsum(rng.normal(size=(200, 1)), axis=0) * 0.3
        own.append(Recording(f"s{i}", t, x, Target(x, t), str(i), f"s{i}"))
    examples = examples_along(
        own, ("x",), classify=False, seed=0, targets=("x",), horizon=0.0 if grouped else 1.0, grouped=grouped
    )
    candidate = trained(examples)[0]
    assert candidate.held_out.shape == examples.truth.shape
    assert np.isfinite(candidate.losses).all()
    fold = int(examples.folds[0])
    rows = np.flatnonzero(examples.folds == fold)
    served = answers_of(candidate.without(fold), examples.recordings)
    for row in rows[:: max(1, len(rows) // 20)]:
        answers = served[examples.stream[row]]
        place = int(np.argmin(np.abs(answers.end - examples.ends[row])))
        np.testing.assert_allclose(answers.value[place], candidate.held_out[row], rtol=1e-3, atol=1e-3)


def test_minutes_go_on_to_stacks_and_the_choice_repeats_without_them() -> None:
    data = turning(streams=12, length=30)
    report = fit(data, "label", drop=("size",), minutes=60)
    stacks = [name for name in report.table if name.startswith("stack, ")]
    assert stacks
    assert "nearest" in report.table
    assert "log_loss" in report.table[stacks[0]]
    again = fit(data, "label", drop=("size",), choice=stacks[0])
    assert again.choice == stacks[0]
    assert again.bundle.header.field.tag == "stack"
    assert again.table[stacks[0]] == report.table[stacks[0]]
    assert again.bundle.header.metrics["validation_accuracy"] == again.measures["accuracy"]
    assert len(again.early) == 4
    fleet = sr.Fleet(again.bundle)
    rows = pa.Table.from_batches(
        [fleet.push(data["stream_id"], data["t"], np.stack([data["a"], data["b"]], axis=1)), fleet.flush()]
    )
    assert set(rows["label"].to_pylist()) <= {"left", "right"}


def test_no_stack_is_trained_without_minutes_or_time() -> None:
    data = turning(streams=8, length=20)
    assert not any(name.startswith("stack") for name in fit(data, "label").table)
    examples = examples_of(recordings())
    budget = Budget(1.0, clock=iter([0.0, *[100.0] * 10]).__next__)
    assert not list(train_candidates(examples, budget=budget, progress=ignore))


def test_fewer_epochs_are_trained_where_time_is_short() -> None:
    examples, ticks = examples_of(recordings()), iter(range(10**6))
    # A training takes two ticks: one before it, and one after.
    budget = Budget(1.0, clock=lambda: float(next(ticks)))
    found = list(train_candidates(examples, budget=budget, progress=ignore))
    usual = contenders(examples)[0].epochs
    assert found
    assert all(usual / 3 <= int(one.name.split(", ")[-1].split()[0]) < usual * 3 for one in found)


@pytest.mark.parametrize("epochs", [0, 1])
def test_an_interrupt_of_a_training_keeps_the_best_candidate_so_far(monkeypatch, epochs) -> None:
    epoch, done = Trainer.epoch, []

    def interrupted(trainer, *given):
        if len(done) == epochs:
            raise KeyboardInterrupt
        done.append(trainer)
        return epoch(trainer, *given)

    monkeypatch.setattr(Trainer, "epoch", interrupted)
    report = fit(turning(streams=8, length=20), "label", drop=("size",), minutes=60)
    assert len(done) == epochs
    assert report.fitted.stopped == "interrupt"
    assert not any(name.startswith(("stack", "Neural RDE")) for name in report.table)
    assert report.measures["accuracy"] > 0.9


def test_torch_that_is_missing_is_said_and_the_fit_goes_on() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fit_data import turning; from streamrde.errors import MissingExtraError; import streamrde as sr\n"
        "data = turning(streams=8, length=20)\n"
        "report = sr.fit(data, 'label', drop=('size',), minutes=5)\n"
        "assert any('not tried' in text and 'streamrde[train]' in text for text in report.warnings), report.warnings\n"
        "try:\n    sr.fit(data, 'label', drop=('size',), choice='stack, gru, 1 block of 8, 3 epochs')\n"
        "except MissingExtraError as error:\n    assert 'streamrde[train]' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    tests = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tests, check=False)
    assert not done.returncode, done.stderr
