"""The compiled kernels against the reference, for every instruction set that this processor has."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from bundles import make_bundle
from hypothesis import given
from hypothesis import strategies as st
from tolerances import STEPPER32

from streamrde import Fleet, kernels
from streamrde.kernels import reference

native = pytest.importorskip("streamrde.kernels._native", reason="no compiled kernels: there was no C++ compiler")
VARIANTS = native.variants()  # of this processor, the best first
# Fused multiply-adds round once where the reference rounds twice; some ten operations deep.
RTOL = 1e-13


@pytest.fixture(params=VARIANTS)
def variant(request):
    before = native.variant()
    native.choose(request.param)
    yield request.param
    native.choose(before)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=0, atol=RTOL * max(1.0, np.abs(expected).max()))


def sizes():
    small = [(c, n) for c in range(1, 17) for n in range(1, 7) if reference.signature_channels(c, n) <= 20_000]
    return [*small, (17, 2), (40, 2), (2, 8), (1, 8), (3, 7)]


@pytest.mark.parametrize(("channels", "depth"), sizes())
def test_every_size_equals_the_reference(variant, channels, depth):
    rng = np.random.default_rng(channels * 100 + depth)
    increments = rng.normal(size=(12, channels)) * 0.3
    starts, lengths = np.array([0, 5, 5, 7]), np.array([5, 0, 2, 5])
    ours, theirs = (np.zeros((4, reference.signature_channels(channels, depth))) for _ in range(2))
    native.fold(ours, increments, starts, lengths, depth)
    reference.fold(theirs, increments, starts, lengths, depth)
    close(ours, theirs)
    places = np.arange(0, theirs.shape[1], 1 + theirs.shape[1] // 500)
    logs = native.log_words(theirs, channels, depth, places)
    close(logs, reference.log_words(theirs, channels, depth, places))
    # One row at a time and many in lanes: the same bits.
    assert logs[:1].tobytes() == native.log_words(theirs[:1].copy(), channels, depth, places).tobytes()


@pytest.mark.parametrize(("channels", "depth"), [(1, 1), (2, 2), (4, 3), (8, 3), (3, 5), (20, 2)])
def test_push_push_many_and_fold_give_the_same_bits(variant, channels, depth):
    path = np.random.default_rng(0).normal(size=(30, channels))
    indices = np.arange(reference.signature_channels(channels, depth))
    one, many = (native.Accumulator(channels, depth, indices, False) for _ in range(2))
    for x in path:
        one.push(x)
    many.push_many(path[:11])
    many.push_many(path[11:])
    folded = np.zeros((1, len(indices)))
    native.fold(folded, np.diff(path, axis=0), np.zeros(1, np.intp), np.array([29]), depth)
    assert one.state()[1].tobytes() == many.state()[1].tobytes()
    assert one.state()[1][channels:].tobytes() == folded[0].tobytes()
    out = np.empty(len(indices))
    assert one.words(out) is out
    assert out.tobytes() == native.log_words(folded, channels, depth, indices)[0].tobytes()


@pytest.mark.parametrize("kind", [list, tuple, np.float32, ">f8", "strided", "readonly", "object", int])
def test_samples_of_any_type_are_read(kind):
    from streamrde import LogSignature

    path = np.round(np.random.default_rng(1).normal(size=(9, 3)) * 8)
    plain, other = LogSignature(3, 3), LogSignature(3, 3)
    for x in path:
        plain.push(x)
        if kind in (list, tuple):
            other.push(kind(float(v) for v in x))
        elif kind is int:
            other.push([int(v) for v in x])
        elif kind == "strided":
            other.push(np.repeat(x, 2)[::2])
        elif kind == "readonly":
            x.flags.writeable = False
            other.push(x)
        else:
            other.push(x.astype(kind))
    assert plain.value().tobytes() == other.value().tobytes()
    strided = LogSignature(3, 3)
    strided.push_many(np.asfortranarray(path))
    assert strided.value().tobytes() == plain.value().tobytes()


arrays = st.one_of(
    st.builds(
        lambda shape, dtype, seed: np.random.default_rng(seed).normal(size=shape).astype(dtype),
        st.lists(st.integers(0, 5), max_size=3).map(tuple),
        st.sampled_from(["f8", "f4", "i4", ">f8", "c16", "O", "?"]),
        st.integers(0, 99),
    ),
    st.just(np.full(3, np.nan)),
    st.just(np.full((2, 3), np.inf)),
    st.none(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=4),
)


@pytest.mark.skipif(kernels.Accumulator is not native.Accumulator, reason="it is about the compiled LogSignature")
@given(st.lists(arrays, min_size=5, max_size=5), st.integers(-3, 40))
def test_whatever_comes_is_an_error_or_right_never_a_crash(values, number):
    from streamrde import LogSignature

    acc = LogSignature(3, 2)
    for value in values:
        for call in (acc.push, acc.push_many, acc._take, acc.value, lambda v: acc.set_state(True, v)):
            with contextlib.suppress(TypeError, ValueError):
                call(value)
        for call in (
            lambda v: native.log_words(v, number, number, values[0]),
            lambda v: native.fold(v, *values[:3], number),
            lambda v: native.path_signatures(v, number, values[1]),
            lambda v: native.Names().add(v, values[2]),
            lambda v: native.Names().names(v),
        ):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                call(value)
    uninitialised = native.Accumulator.__new__(native.Accumulator)
    for call in (uninitialised.words, uninitialised.reset, uninitialised.state, lambda: uninitialised.push(values[0])):
        with pytest.raises(RuntimeError, match="not initialised"):
            call()


def test_the_best_variant_of_the_processor_is_chosen_first():
    before = native.variant()
    assert native.choose(None) == VARIANTS[0]
    native.choose(before)


@pytest.mark.parametrize("name", sorted({"avx2", "avx512", "fpga", ""} - set(VARIANTS)))
def test_a_refused_variant_changes_nothing(variant, name):
    with pytest.raises(ValueError, match=f"has no variant '{name}'"):
        native.choose(name)
    assert native.variant() == variant


def test_variants_differ_within_the_documented_bound():
    before, bundle = native.variant(), make_bundle(outputs=2, task="regression", labels=())
    rng, rows = np.random.default_rng(3), 400
    names, t, x = (
        rng.integers(0, 5, rows).astype(str),
        np.cumsum(rng.exponential(0.2, rows)),
        rng.normal(size=(rows, 2)),
    )
    found = {}
    for name in VARIANTS:
        native.choose(name)
        found[name] = Fleet(bundle, features=("state", "logsignature")).push(names, t, x)
    native.choose(before)
    first = found.pop(VARIANTS[-1])
    for batch in found.values():
        for column, bound in (("logsignature", RTOL), ("state", STEPPER32)):
            expected = np.stack(first[column].to_numpy(zero_copy_only=False))
            got = np.stack(batch[column].to_numpy(zero_copy_only=False))
            scale = np.abs(expected).max() if column == "logsignature" else 1 + np.abs(expected).max()
            np.testing.assert_allclose(got, expected, rtol=0, atol=bound * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["reference", *VARIANTS])
def test_the_environment_chooses(name):
    code = "import streamrde.kernels as k; print(k.IMPLEMENTATION.name, k.Accumulator.__module__)"
    env = os.environ | {"STREAMRDE_KERNELS": name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True)
    assert done.stdout.split()[0] == name
    env["STREAMRDE_KERNELS"] = "fpga"
    failed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert "STREAMRDE_KERNELS=fpga asks for it, and this machine has" in failed.stderr
    assert "baseline, reference: use one of these, or leave it unset" in failed.stderr


paths = st.builds(
    lambda shape, dtype, seed, order, step: np.asarray(
        np.random.default_rng(seed).normal(size=shape).astype(dtype), order=order
    )[..., ::step],
    st.lists(st.integers(0, 6), min_size=1, max_size=4).map(tuple),
    st.sampled_from(["f8", "f4", ">f8", "i8", "u1", "?"]),
    st.integers(0, 99),
    st.sampled_from(["C", "F"]),
    st.sampled_from([1, 2, -1]),
)


@given(paths, st.integers(1, 5), st.sampled_from([None, np.nan, np.inf]))
def test_paths_of_any_layout_are_an_error_or_have_the_bits_of_plain_ones(path, depth, bad):
    from streamrde import LogSignature, logsignature, signature
    from streamrde.errors import StreamRDEError

    if bad is not None and path.size and path.dtype.kind == "f":
        path.flat[path.size // 2] = bad
    path.flags.writeable = False
    for compute in (logsignature, signature):
        try:
            got = compute(path, depth)
        except StreamRDEError:
            usable = path.ndim >= 2 and path.shape[-1] >= 1 and path.shape[-2] >= 1
            assert not usable or not np.isfinite(path.astype(float)).all()
            continue
        assert np.isfinite(path.astype(float)).all()
        plain = np.array(path, dtype=np.float64, order="C")
        assert got.tobytes() == compute(plain, depth).tobytes()
        if compute is logsignature and kernels.IMPLEMENTATION.name != "reference":
            for one, expected in zip(plain.reshape(-1, *plain.shape[-2:]), got.reshape(-1, got.shape[-1]), strict=True):
                acc = LogSignature(path.shape[-1], depth)
                acc.push_many(one)
                assert acc.value().tobytes() == expected.tobytes()
