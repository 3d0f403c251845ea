"""Features of recorded and live streams are the same columns."""

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from streamrde import MLP, Channel, Every, Features
from streamrde.errors import ParameterError, ShapeError
from streamrde.features import Block, FeatureSpec, Pool, make_pooling, pool_streams
from streamrde.features.expansion import Expansion
from streamrde.inference.fields import Reservoir
from streamrde.windowing.partition import Partition
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Scale, Token
from tests.bundles import make_bundle, make_recording, make_reservoir

TOKEN = Token(scales=(Scale(1), Scale(3)), ends=True, summaries=True)


def recording():
    t, x = make_recording(2, 40)
    return ["s"] * len(t), t, x


@pytest.mark.parametrize("expansion", [None, Expansion(quantiles=9, pairs=5)], ids=["pooled", "expanded"])
@pytest.mark.parametrize("emit", ["every", "last"])
def test_columns_are_the_pooled_features_after_each_window(emit, expansion):
    bundle = make_reservoir(token=TOKEN, emit=emit, expansion=expansion)
    streams, t, x = recording()
    features = Features(bundle)
    found = features.table(streams, t, x)
    (windowed,) = window_recordings([t], [x], bundle.header.partition)
    field, count = bundle.header.field, len(windowed.logsigs)
    drawn = field.drawn("field", bundle.header, bundle.tensors)
    pooling = make_pooling(field.features, bundle.header.partition.places, drawn)
    expected = pool_streams(pooling, windowed.logsigs, [count], at=np.arange(count))
    assert (np.stack([found[name] for name in features.names], axis=1) == expected).all()
    assert found["t_end"].to_pylist() == windowed.end.tolist()
    assert {"share(0/8)", "max(1/19)", "mean~2(3:a.b)", "mean~2(end:b)"} <= set(features.names)


def test_tokens_are_columns_too():
    streams, t, x = recording()
    bundle = make_reservoir(token=TOKEN)
    features = Features(bundle, of="tokens")
    found = features.table(streams, t, x)
    (windowed,) = window_recordings([t], [x], bundle.header.partition)
    np.testing.assert_array_equal(np.stack([found[name] for name in features.names], axis=1), windowed.logsigs)
    plain = Features(make_bundle(), of="tokens")
    assert plain.names[:4] == ("1:t", "1:a", "1:b", "1:t.a")
    assert plain.table(streams, t, x).num_columns == 4 + len(plain.names)


@pytest.mark.parametrize("of", ["features", "tokens"])
def test_live_streams_give_the_rows_of_recorded_ones(of):
    bundle = make_reservoir()
    streams, t, x = recording()
    features = Features(bundle, of=of)
    batches, live = [], Features(bundle, of=of)
    for part in np.array_split(np.arange(len(t)), 6):
        batches.append(live.push(["s"] * len(part), t[part], x[part]))
        saved, live = live.snapshot(), Features(bundle, of=of)
        live.restore(saved)
    batches.append(live.flush())
    assert pa.Table.from_batches(batches).equals(features.table(streams, t, x))
    assert batches[0].schema == live.schema


def test_wrong_choices_are_refused():
    with pytest.raises(ParameterError, match="no pooled features"):
        Features(make_bundle())
    with pytest.raises(ParameterError, match="use 'features' or 'tokens'"):
        Features(make_reservoir(), of="states")


def test_a_description_without_a_model_gives_tokens_as_they_are():
    streams, t, x = recording()
    features = Features(
        channels=["a", "b"], windows=Every(0.7), scales=(1, (4, 1)), depth=3, summaries=True, of="tokens"
    )
    token = Token(scales=(Scale(1), Scale(4, 1)), ends=True, summaries=True)
    (windowed,) = window_recordings([t], [x], Partition((0.0, 0.0), 3, Every(0.7), "linear", token=token))
    np.testing.assert_array_equal(features.to_numpy(features.table(streams, t, x)), windowed.logsigs)
    assert {"1:t.a.b", "4:a", "end:b", "slope:a"} <= set(features.names)
    header = msgspec.structs.replace(features.bundle.header, field=MLP())
    assert Features(header, of="tokens").table(streams, t, x).equals(features.table(streams, t, x))


def test_pools_of_tokens_need_no_model():
    streams, t, x = recording()
    described = {"channels": ["a", Channel(name="b", fill=2.0)], "windows": Every(0.7), "scales": (1, 2)}
    tokens = Features(**described, of="tokens")
    rows = tokens.to_numpy(tokens.table(streams, t, x)).astype(np.float32).astype(np.float64)
    features = Features(**described)
    found = features.to_numpy(features.table(streams, t, x))
    count, size = rows.shape
    means = rows.cumsum(axis=0) / np.arange(1, count + 1)[:, None]
    np.testing.assert_allclose(found[:, :size], means, rtol=1e-12, atol=1e-12)
    assert (found[:, size : 2 * size] == np.maximum.accumulate(rows)).all()
    assert (found[:, 2 * size :] == rows).all()
    assert features.names[0] == "mean(1:t)"
    last = Features(**described, emit="last", pools=(Pool("last", "ends"),))
    table = last.table(["s", "r"] * 20, t, x)
    assert table["stream"].to_pylist() == ["s", "r"]
    np.testing.assert_allclose(last.to_numpy(table), x[[-2, -1]], rtol=1e-6)
    assert last.names == ("last(end:a)", "last(end:b)")


@pytest.mark.parametrize("of", ["features", "tokens"])
def test_a_model_is_asked_for_no_predictions(of, monkeypatch):
    streams, t, x = recording()
    bundle = make_reservoir(token=TOKEN)
    features = Features(bundle, of=of)
    built = []
    monkeypatch.setattr(type(bundle.header.field), "build", lambda *args: built.append(args))
    features.table(streams, t, x)
    assert not built  # all fleets share what is made of the random part
    assert features.bundle.header.outputs == 1
    assert not features.bundle.tensors["readout.weight"].any()


def test_what_cannot_be_described_is_refused():
    spec = FeatureSpec(blocks=(Block(directions=9, scales=(0,)),))
    random = msgspec.structs.replace(make_bundle().header, field=Reservoir(features=spec))
    for arguments, message in (
        ({}, "give the names of the data channels"),
        ({"channels": "ab"}, "give the names of the data channels"),
        ({"channels": ["a", "a"]}, "has a name twice"),
        ({"channels": ["a"], "windows": 1.0}, "windows"),
        ({"channels": ["a"], "scales": (0,)}, "at `..token.scales.0..windows`"),
        ({"channels": ["a"], "scales": ()}, "scales is empty"),
        ({"channels": ["a"], "depth": 0}, "depth"),
        ({"channels": ["a"], "emit": "first"}, "use 'every' or 'last'"),
        ({"channels": ["a"], "emit": "last", "of": "tokens"}, "a token belongs to a window"),
        ({"channels": ["a"], "pools": ()}, "pools"),
        ({"channels": ["a"], "interpolation": "cubic"}, "interpolation"),
        ({"model": make_reservoir(), "windows": Every(2.0), "depth": 3}, "windows, depth: the model says these"),
        ({"model": random}, "random features need a model"),
        ({"model": make_bundle()}, "no pooled features"),
    ):
        with pytest.raises(ParameterError, match=message):
            Features(**arguments)
    features = Features(channels=["a"])
    with pytest.raises(ShapeError, match=r"no column 'mean\(1:t\)'"):
        features.to_numpy(pa.table({"stream": ["s"]}))
