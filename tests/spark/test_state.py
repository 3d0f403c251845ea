"""Buckets of streams in Spark's state, with a dictionary in Spark's place."""

import zlib

import pytest

from streamrde.errors import StateError
from streamrde.spark.state import KeptStream, ShardState


class Handle:
    """What Spark keeps of one shard."""

    def __init__(self):
        self.shard = None
        self.streams = {}
        self.reads = self.writes = 0

    def getValueState(self, name, schema):
        return self

    def getMapState(self, name, key, value):
        return self

    def get(self):
        return self.shard

    def update(self, value):
        self.shard = value

    def getValue(self, key):
        self.reads += 1
        return self.streams.get(key)

    def updateValue(self, key, value):
        self.writes += 1
        self.streams[key] = value

    def removeKey(self, key):
        self.streams.pop(key, None)


def opened(handle, model="A", shards=4, replaces=()):
    state = ShardState(handle, shards=shards, model=model, replaces=replaces)
    state.open()
    return state


def names_of_shard(count, shard=1, shards=4):
    names = (f"sensor-{i}" for i in range(100 * count))
    return [name for name in names if zlib.crc32(name.encode()) % shards == shard][:count]


def test_buckets_grow_with_the_streams_and_a_stream_costs_one_bucket():
    handle, names = Handle(), names_of_shard(1000)
    for start in range(0, 1000, 100):
        state = opened(handle)
        state.save({name: KeptStream(name.encode(), ("x", 1.5)) for name in names[start : start + 100]}, [])
    state = opened(handle)
    assert state.kept.streams == 1000
    assert len(handle.streams) == state.kept.buckets == 32
    found = {name: own for bucket in state.load_all() for name, own in bucket.items()}
    assert found == {name: KeptStream(name.encode(), ("x", 1.5)) for name in names}
    sizes = [len(bucket) for bucket in state.load_all()]
    assert max(sizes) < 3 * 1000 / 32
    state, handle.reads, handle.writes = opened(handle), 0, 0
    assert list(state.load([names[7], "other"])) == [names[7]]
    state.save({names[7]: KeptStream(b"new")}, [])
    assert handle.reads <= 2
    assert handle.writes == 1
    assert opened(handle).load([names[7]])[names[7]].snapshot == b"new"


def test_streams_that_ended_leave_nothing():
    handle, names = Handle(), names_of_shard(50)
    opened(handle).save(dict.fromkeys(names, KeptStream(b"x")), [])
    opened(handle).save({}, [*names, "never seen"])
    assert not handle.streams
    assert opened(handle).kept.streams == 0


def test_another_model_is_refused_unless_it_replaces_the_former():
    handle = Handle()
    opened(handle).save({"a": KeptStream(b"x")}, [])
    with pytest.raises(StateError, match=r"state of model A, and this is model B: give the former's file as replaces"):
        opened(handle, "B")
    state = opened(handle, "B", replaces=["A"])
    state.save({}, [])
    state = opened(handle, "B")  # streams of A that were silent since are continued too
    assert state.predecessors == ["A"]
    with pytest.raises(StateError, match=r"replaces = \[...\]"):
        opened(handle, "A")
    with pytest.raises(StateError, match="the checkpoint has shards = 4, and this query shards = 5"):
        opened(handle, "B", shards=5)
