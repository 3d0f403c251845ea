"""Tokens that are more than the window's log-signature: what their models' files say, and how they are scaled."""

from __future__ import annotations

import json
import struct

import msgspec
import numpy as np
import pytest
from bundles import make_bundle
from tolerances import LAW, STEPPER32

import streamrde as sr
from streamrde.errors import BundleError, ParameterError
from streamrde.inference.ensemble import join, split
from streamrde.inference.header import header_differences
from streamrde.inference.novelty import TrainingWindows
from streamrde.inference.steppers import ArrayStepper, make_stepper
from streamrde.inference.token_scaling import TokenScaling
from streamrde.windowing.tokens import Scale, Token

TOKEN = Token(scales=(Scale(1), Scale(4, 2)), ends=True, summaries=True)
# Channels a and b, and time: 14 words up to depth 3 and 6 up to depth 2, 2 values, 2 * 9 summaries.
SIZES = (14, 6, 2, 18)


def written(path):
    """Return the header's JSON in a model file."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    return json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["streamrde"])


def tokens_for(bundle, count=5, seed=0):
    """Return random tokens, some of whose summaries are NaN, (count, B)."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(count, bundle.header.logsig_channels)) * 2
    tokens[:, 0] = rng.uniform(0.2, 2.0, size=count)
    start = bundle.header.partition.places.summaries.start
    tokens[:, start:][rng.random((count, tokens.shape[1] - start)) < 0.3] = np.nan
    return tokens


def test_the_parts_of_a_token_lie_one_after_the_other():
    header = make_bundle(token=TOKEN).header
    places = [*header.partition.places.scales, *header.partition.places[1:]]
    parts = [part for part in places if part.stop > part.start]
    assert [part.stop - part.start for part in parts] == [*SIZES]
    assert [part.start for part in parts] == [0, *np.cumsum(SIZES)[:-1]]
    assert header.logsig_channels == sum(SIZES) == header.shapes()["token.shift"][0]


def test_a_file_of_a_plain_model_is_as_it_was_before_there_were_tokens(tmp_path):
    bundle = make_bundle()
    bundle.save(tmp_path / "plain")
    header = written(tmp_path / "plain")
    assert header["format"] == 4
    assert not {"token", "clip"} & header.keys()
    assert "token.shift" not in bundle.tensors
    assert sr.load(tmp_path / "plain").header == bundle.header


def test_a_file_says_what_its_tokens_are(tmp_path):
    bundle = make_bundle(token=TOKEN, clip=1.5)
    bundle.save(tmp_path / "tokens")
    assert written(tmp_path / "tokens")["format"] == 5
    loaded = sr.load(tmp_path / "tokens")
    assert loaded.header == bundle.header
    assert loaded.fingerprint == bundle.fingerprint != make_bundle(token=TOKEN, clip=2.5).fingerprint
    with pytest.raises(BundleError, match=r"token\.shift"):
        sr.Bundle(bundle.header, {name: t for name, t in bundle.tensors.items() if name != "token.shift"})


def test_streams_go_on_with_another_clip_but_not_with_another_token():
    header = make_bundle(token=TOKEN).header
    assert not header_differences(header, msgspec.structs.replace(header, clip=3.0))
    assert header_differences(header, msgspec.structs.replace(header, token=Token(scales=(Scale(1), Scale(4)))))


def test_what_needs_the_windows_own_log_signature_says_so():
    hop = Token(scales=(Scale(4),))
    facts = TrainingWindows(windows=100, streams=1, alarm=9.0)
    for key, value in (("decay", True), ("novelty", facts)):
        with pytest.raises(ParameterError, match=rf"{key} needs .* the last 4 windows: name a scale of 1 window first"):
            msgspec.structs.replace(make_bundle().header, token=hop, **{key: value}).check()
        msgspec.structs.replace(make_bundle().header, token=TOKEN, **{key: value}).check()
    with pytest.raises(ParameterError, match="clip=2"):
        msgspec.structs.replace(make_bundle().header, clip=2.0).check()


def test_tokens_are_shifted_scaled_and_clipped_entry_by_entry():
    bundle = make_bundle(token=TOKEN, clip=0.7)
    tokens, shift, scale = tokens_for(bundle), bundle.tensors["token.shift"], bundle.tensors["logsig.scale"]
    tokens[0, 3], tokens[1, 5] = np.nan, np.inf
    scaled = TokenScaling(bundle)(tokens)
    for row, given in zip(scaled, tokens, strict=True):
        for j, value in enumerate(given):
            if np.isnan(value):
                expected = 0.0 if j >= sum(SIZES[:3]) else np.nan
            else:
                expected = min(max((value - shift[j]) * scale[j], -0.7), 0.7)
            np.testing.assert_equal(row[j], expected)
    assert np.isnan(tokens[0, 3])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [0.0, 0.9])
def test_the_compiled_step_scales_tokens_as_numpy_does(clip, dtype):
    bundle = make_bundle(token=TOKEN, clip=clip, dtype=dtype, first_stage="previous", decay=True)
    arrays, compiled = ArrayStepper(bundle), make_stepper(bundle)
    z = np.random.default_rng(1).normal(size=(5, 8)).astype(dtype)
    tokens, previous = tokens_for(bundle), tokens_for(bundle, seed=1)
    tolerance = LAW if dtype == "float64" else STEPPER32
    moved = arrays.step(z, tokens, previous)
    np.testing.assert_allclose(compiled.step(z, tokens, previous), moved, rtol=tolerance, atol=tolerance)
    assert np.isfinite(moved).all()
    tokens[2, 1] = np.nan
    for stepper in (arrays, compiled):
        assert np.isnan(stepper.step(z, tokens)).all(axis=1).tolist() == [False, False, True, False, False]


def test_members_of_an_ensemble_share_the_scaling_of_tokens():
    members = [make_bundle(seed=seed, token=TOKEN, clip=0.9) for seed in (0, 1)]
    shared = {name: members[0].tensors[name] for name in members[0].tensors if "scale" in name or "shift" in name}
    second = sr.Bundle(members[1].header, members[1].tensors | shared)
    joined = join([members[0], second])
    z, tokens = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32), tokens_for(joined)
    moved = make_stepper(joined).step(z, tokens)
    for i, member in enumerate(split(joined)):
        assert member.header.clip == 0.9
        own = slice(8 * i, 8 * i + 8)
        np.testing.assert_array_equal(make_stepper(member).step(z[:, own], tokens), moved[:, own])
    with pytest.raises(ParameterError, match=r"token\.shift differs"):
        join(members)
