"""Are p-values right, and are they small where something is wrong?"""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from bundles import make_bundle
from models.recordings import config_for, quiet, write_recordings

import streamrde as sr
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files
from streamrde.errors import ConfigError, ParameterError

pytest.importorskip("torch")
pytest.importorskip("pysiglib")

from streamrde.adapting.drift import highest_capital
from streamrde.connectors.files.reading import read
from streamrde.inference.novelty import Novelty
from streamrde.models import add_novelty, train
from streamrde.models.training.novelty import fit_novelty
from streamrde.windowing.recorded import window_recordings


def make_streams(seed, count, windows, *, channels=3, faulty=None):
    """Paths of one kind: each channel swings at its own speed and size, with noise. 20 samples per window of 1 s."""
    rng = np.random.default_rng(seed)
    t = np.arange(20 * windows + 1) / 20
    speed, size = 2 * np.pi * (0.4 + 0.3 * np.arange(channels)), 1.0 + 0.7 * np.arange(channels)
    for _ in range(count):
        x = size * np.sin(speed * t[:, None] + rng.uniform(0, 6.3, channels)) * rng.uniform(0.8, 1.2)
        x = x + 0.1 * rng.normal(size=x.shape)
        yield t, x if faulty is None else faulty(x, rng)


def windows_of(streams, depth=3):
    return [sr.logsig_windows(t, np.column_stack([t, x]), depth, sr.Every(1.0))[1] for t, x in streams]


def header_for(channels, depth=3, **changes):
    data = tuple(sr.Channel(name=f"x{i}") for i in range(channels))
    return msgspec.structs.replace(make_bundle().header, channels=data, depth=depth, windows=sr.Every(1.0), **changes)


def judge_of(header, logsigs, groups):
    told, tensors = fit_novelty(header, logsigs, groups)
    bundle_like = Novelty(tensors, told, channels=header.path_channels, depth=header.depth, seconds=1.0)
    return told, tensors, bundle_like


def distance_to_uniform(p):
    """The statistic of Kolmogorov and Smirnov."""
    p = np.sort(p)
    return np.abs(p - (np.arange(len(p)) + 0.5) / len(p)).max()


@pytest.fixture(scope="module")
def trained():
    return judge_of(header_for(3), windows_of(make_streams(0, 40, 30)), [str(i) for i in range(40)])


def test_p_values_of_new_streams_of_the_same_kind_are_uniform(trained):
    told, _, judge = trained
    assert (told.windows, told.streams) == (1200, 40)
    p = judge.p(np.concatenate(windows_of(make_streams(1, 60, 30))))
    assert distance_to_uniform(p) < 0.1
    assert 0.003 < (p < 0.01).mean() < 0.02


def stuck(x, rng):
    x[:, 1] = x[0, 1]
    return x


def noisy(x, rng):
    return x + 0.3 * rng.normal(size=x.shape)


@pytest.mark.parametrize(
    ("faulty", "least", "alarmed"),
    [
        (stuck, 1.0, 1.0),
        (lambda x, rng: x[:, [1, 0, 2]], 0.95, 1.0),
        (lambda x, rng: x * [1.0, 2.0, 1.0], 0.03, 0.3),
        (lambda x, rng: x * 2.0, 0.1, 0.7),
        (noisy, 0.05, 0.15),
    ],
    ids=["stuck", "swapped", "gain", "gain of all", "noise"],
)
def test_a_faulty_sensor_is_novel_and_its_stream_drifts(trained, faulty, least, alarmed):
    told, _, judge = trained
    streams = [judge.p(own) for own in windows_of(make_streams(2, 20, 30, faulty=faulty))]
    assert (np.concatenate(streams) < 0.01).mean() >= least
    assert np.mean([highest_capital(p) > told.alarm for p in streams]) >= alarmed


def test_few_streams_of_the_same_kind_raise_an_alarm(trained):
    told, _, judge = trained
    assert told.alarm >= math.log(1e4)
    assert sum(highest_capital(judge.p(own)) > told.alarm for own in windows_of(make_streams(3, 60, 30))) <= 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("streams", "windows", "channels", "depth", "furthest"),
    [(10, 20, 12, 3, 0.3), (8, 25, 1, 1, 0.15), (10, 25, 40, 2, 0.45)],
    ids=["200 windows of B = 819", "one channel", "250 windows of B = 861"],
)
def test_few_windows_of_many_coefficients_are_enough(streams, windows, channels, depth, furthest):
    """Where they are fewer than the coefficients, p-values err to the safe side, and not by much."""
    own = windows_of(make_streams(4, streams, windows, channels=channels), depth)
    told, tensors, judge = judge_of(header_for(channels, depth), own, [str(i) for i in range(streams)])
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    p = judge.p(np.concatenate(windows_of(make_streams(5, 20, 20, channels=channels), depth)))
    assert distance_to_uniform(p) < furthest
    assert (p < 0.05).mean() < 0.08
    assert p.min() >= 1 / (told.windows + 1)


def test_of_a_single_stream_its_parts_are_left_out_in_turn():
    (own,) = windows_of(make_streams(9, 1, 600, channels=2), 2)
    told, _, judge = judge_of(header_for(2, 2), [own[:300]], ["a"])
    assert (told.windows, told.streams) == (300, 1)
    assert distance_to_uniform(judge.p(own[300:])) < 0.1


def test_channels_that_never_move_or_always_move_alike_do_no_harm():
    def odd(x, rng):
        x[:, 1], x[:, 2] = 5.0, 2 * x[:, 0]
        return x

    _, tensors, judge = judge_of(
        header_for(3), windows_of(make_streams(6, 20, 30, faulty=odd)), [str(i) for i in range(20)]
    )
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    p = judge.p(np.concatenate(windows_of(make_streams(7, 40, 30, faulty=odd))))
    assert distance_to_uniform(p) < 0.06


def test_fewer_windows_are_refused_and_short_ones_do_not_count():
    own = windows_of(make_streams(8, 1, 199))
    short = own[0][-1:] * 0.3
    with pytest.raises(ParameterError, match="199 whole windows, and novelty needs 200"):
        fit_novelty(header_for(3), [np.concatenate([own[0], short])], ["a"])
    # Of windows without a fixed length the last of a stream is the one that its end cut short.
    with pytest.raises(ParameterError, match="198 whole windows"):
        fit_novelty(msgspec.structs.replace(header_for(3), windows=sr.Count(20)), own, ["a"])


def test_windows_whose_numbers_overflowed_are_left_out_of_the_fit():
    own = windows_of(make_streams(8, 1, 201))
    own[0][7, 3] = np.inf
    told, tensors = fit_novelty(header_for(3), own, ["a"])
    assert told.windows == 200
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


def test_training_stores_the_distribution_where_there_are_enough_windows(tmp_path):
    config = config_for(write_recordings(tmp_path), windows={"seconds": 0.2}, training={"epochs": 1})
    known = train(config, console=quiet())
    assert known.header.novelty.streams == 21  # those of training and validation
    assert sr.Predictor(known, novelty=True).push_many([0.0, 0.1, 0.3], np.ones((3, 2)))[0].novelty is not None
    without = train(config | {"novelty": False}, console=quiet())
    assert without.header.novelty is None
    assert without.fingerprint == known.fingerprint
    console = quiet()
    assert train(config | {"windows": {"seconds": 0.8, "policy": "every"}}, console=console).header.novelty is None
    assert "skipping novelty: the training streams have" in console.file.getvalue()


def test_the_shipped_model_tells_a_stuck_sensor_from_people_it_never_saw():
    bundle = sr.load(MODEL)
    batches = list(read(held_out_files(), COLUMNS))
    fleet, faulty = (sr.Fleet(bundle, novelty=True) for _ in range(2))
    p, stuck_p = [], []
    for batch in batches:
        x = np.array(batch.x)
        p.append(fleet.push(batch.streams, batch.t, x)["novelty"].to_numpy())
        x[:, 3] = 0.25
        stuck_p.append(faulty.push(batch.streams, batch.t, x)["novelty"].to_numpy())
    clean = np.concatenate(p)
    assert distance_to_uniform(clean) < 0.12
    assert (clean < 0.01).mean() < 0.02
    assert fleet.state_counts().drifts <= 0.05 * len(fleet)
    assert (np.concatenate(stuck_p) < 0.01).mean() > 0.99
    assert faulty.state_counts().drifts >= len(faulty)


@pytest.mark.slow
def test_a_model_of_before_learns_its_windows_and_stays_what_it_is():
    shipped = sr.load(MODEL)
    own = {name: tensor for name, tensor in shipped.tensors.items() if not name.startswith("novelty.")}
    bare = sr.Bundle(msgspec.structs.replace(shipped.header, novelty=None), own)
    known = add_novelty(bare, "configs/watch.toml")
    assert known.fingerprint == bare.fingerprint == shipped.fingerprint
    assert known.header.novelty.windows == shipped.header.novelty.windows
    np.testing.assert_allclose(known.tensors["novelty.tails"], shipped.tensors["novelty.tails"], rtol=1e-6)
    with pytest.raises(ConfigError, match="are not the model's"):
        add_novelty(make_bundle(), "configs/watch.toml")


def drifting(seed, count, *, grid=0.0, paused=False):
    """Sensors read once a minute, in steps of `grid`, with pauses where they say nothing."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        t = np.arange(200) * 60.0
        x = 0.05 * np.cumsum(rng.normal(size=(200, 3)), axis=0) + np.sin(t[:, None] / 3000 + rng.uniform(0, 6.3, 3))
        kept = np.ones(200, dtype=bool)
        for start in rng.integers(1, 180, 3) if paused else ():
            kept[start : start + rng.integers(5, 20)] = False
        yield t[kept], (np.round(x / grid) * grid if grid else x)[kept]


def judged(partition, streams):
    """Log-signatures of streams' windows, NaN where no sample lies in one."""
    ts, xs = zip(*streams, strict=True)
    found = window_recordings(ts, xs, partition)
    return [np.where(own.sampled[:, None], own.logsigs, np.nan) for own in found]


@pytest.mark.slow
@pytest.mark.parametrize("paused", [False, True], ids=["", "paused"])
@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", [sr.Count(1), sr.Every(60.0)], ids=str)
def test_p_values_of_windows_of_one_sample_are_uniform(windows, interpolation, paused):
    header = msgspec.structs.replace(header_for(3), windows=windows, interpolation=interpolation)
    own = judged(header.partition, drifting(0, 20, paused=paused))
    told, tensors = fit_novelty(header, own, [str(i) for i in range(20)])
    judge = Novelty(tensors, told, channels=4, depth=3)
    found = np.concatenate([own[1:-1] for own in judged(header.partition, drifting(1, 40, paused=paused))])
    if isinstance(windows, sr.Every):
        assert np.isnan(found).any() == paused
    p = judge.p(found[np.isfinite(found).all(axis=1)])
    assert distance_to_uniform(p) < 0.15
    assert 0.1 < (p < 0.2).mean() < 0.3


@pytest.mark.parametrize("interpolation", ["linear", "hold"])
@pytest.mark.parametrize("windows", [sr.Count(1), sr.Every(60.0)], ids=str)
def test_where_most_windows_are_alike_the_others_are_the_rare_ones(windows, interpolation):
    """Three of four windows in which nothing moves: as ordinary as can be, and the rest uniform below their share."""
    header = msgspec.structs.replace(header_for(3), windows=windows, interpolation=interpolation)
    own = judged(header.partition, drifting(0, 20, grid=0.5))
    told, tensors = fit_novelty(header, own, [str(i) for i in range(20)])
    judge = Novelty(tensors, told, channels=4, depth=3)
    found = np.concatenate([own[1:-1] for own in judged(header.partition, drifting(1, 40, grid=0.5))])
    p, moves = judge.p(found), np.abs(found[:, 1:4]).max(axis=1) > 1e-6
    assert 0.15 < moves.mean() < 0.35
    assert p[~moves].min() > p[moves].max()
    assert 0.1 < (p < 0.2).mean() < 0.27
    assert (p < 0.05).mean() < 0.1
