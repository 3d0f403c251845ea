"""Features of recorded and live streams are the same columns."""

import numpy as np
import pyarrow as pa
import pytest

from streamrde import Features
from streamrde.errors import ParameterError
from streamrde.features import make_pooling, pool_streams
from streamrde.windowing.recorded import window_recordings
from streamrde.windowing.tokens import Scale, Token
from tests.bundles import make_bundle, make_recording, make_reservoir

TOKEN = Token(scales=(Scale(1), Scale(3)), ends=True, summaries=True)


def recording():
    t, x = make_recording(2, 40)
    return ["s"] * len(t), t, x


@pytest.mark.parametrize("emit", ["every", "last"])
def test_columns_are_the_pooled_features_after_each_window(emit):
    bundle = make_reservoir(token=TOKEN, emit=emit)
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
