"""Whatever is looked at, the answer is a configuration that can be read, or an error that names the data."""

import json
import tomllib

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from streamrde.errors import DataError, StreamRDEError
from streamrde.fitting.config import FitConfig
from streamrde.looking.documents import document
from streamrde.looking.messages import Captured, look_at_messages
from streamrde.looking.roles import Given, find
from streamrde.looking.table import Table
from streamrde.models.training.config import as_train_config
from streamrde.scoring.job import Job
from streamrde.settings import convert

NAMES = st.sampled_from(
    ["t", "time", "ts", "id", "name", "value", "v", "x", "values", "device", "a.b", "", "é", '"', "y"]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6),
    st.sampled_from(["on", "open", "NaN", "12,5", "2024-03-01T10:00:00Z", "01.03.2024 10:00", "-9999", 17 * 10**11]),
)  # fmt: skip
JSON = st.recursive(
    SCALARS, lambda own: st.lists(own, max_size=3) | st.dictionaries(NAMES, own, max_size=4), max_leaves=12
)
TOPICS = st.sampled_from(["a/b", "a/c", "sensors/w1/imu", "x", "/", "", "spBv1.0/g/DDATA/n/d", "a/ü/{x}"])


@given(st.lists(st.tuples(TOPICS, JSON | st.binary(max_size=12)), min_size=1, max_size=6))
def test_any_messages(messages):
    captured = [
        Captured(topic, one if isinstance(one, bytes) else json.dumps(one).encode(), float(i))
        for i, (topic, one) in enumerate(messages)
    ]
    try:
        found = look_at_messages(captured, "mqtt://127.0.0.1:1883/#", url="mqtt://127.0.0.1:1883")
    except DataError:
        return
    assert tomllib.loads(document(found, "run", command="", channels={}))["source"]["url"] == "mqtt://127.0.0.1:1883"
    assert msgspec.json.encode(found.as_dict(), enc_hook=str)


@given(
    st.dictionaries(NAMES, st.lists(SCALARS, min_size=5, max_size=5), min_size=1, max_size=4),
    st.lists(st.integers(0, 1), min_size=5, max_size=5),
)
def test_any_table(columns, parts):
    try:
        found = find(Table("data.csv", columns, sorted(parts)), "data.csv", "5 rows", Given())
    except DataError:
        return
    convert(tomllib.loads(document(found, "fit", command="")), FitConfig)
    job = tomllib.loads(document(found, "score", command="", channels={one.name: one.name for one in found.channels}))
    readable = "" not in columns  # a column without a name cannot be a channel of a configuration
    try:
        convert(job, Job)
        as_train_config(tomllib.loads(document(found, "train", command="")))
    except StreamRDEError:
        if readable:
            raise
