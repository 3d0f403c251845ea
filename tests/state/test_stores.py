"""One conformance suite over every state store."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamrde.errors import StateError, StateFullError
from streamrde.state import Checkpoint, MemoryStore, SqliteStore

IDENTITY = {"model": "abc", "source.time_unit": "s"}


class Memory:
    """A store that is reopened in this process."""

    def __init__(self, _):
        self.store = MemoryStore()

    def again(self):
        self.store.close()
        self.store.open(IDENTITY)
        return self.store


class Sqlite:
    """A store whose file is reopened by a new object, as a new process would."""

    def __init__(self, folder):
        self.path = folder / "state.db"
        self.store = SqliteStore(self.path)

    def again(self):
        self.store.close()
        self.store = SqliteStore(self.path)
        self.store.open(IDENTITY)
        return self.store


@pytest.fixture(params=[Memory, Sqlite])
def kept(request, tmp_path):
    kept = request.param(tmp_path)
    kept.store.open(IDENTITY)
    yield kept
    kept.store.close()


def everything(store):
    return {name: data for part in store.scan(rows=2) for name, data in part.items()}


def test_a_new_store_is_empty(kept):
    store = kept.again()
    assert len(store) == 0
    assert everything(store) == store.positions() == store.outbox() == store.read(["a"]) == {}
    assert store.last_window("a") is None


def test_what_was_committed_is_there_after_reopening(kept):
    first = Checkpoint(
        snapshots={"a": b"1", "b": b"2", "c": b"3"}, windows={"a": 4}, positions={"sink": b"p"}, outbox=[b"x", b"y"]
    )
    kept.store.commit(first)
    kept.store.commit(Checkpoint(snapshots={"b": memoryview(b"22")}, windows={"b": 7}, ended=["c"], sent=1))
    kept.store.commit(Checkpoint(outbox=[b"z"], positions={"source": b"q"}))
    store = kept.again()
    assert everything(store) == {"a": b"1", "b": b"22"}
    assert store.read(["b", "nobody", "c"]) == {"b": b"22"}
    assert [store.last_window(name) for name in "abc"] == [4, 7, None]
    assert store.positions() == {"sink": b"p", "source": b"q"}
    assert store.outbox() == {2: b"y", 3: b"z"}
    assert len(store) == 2


def test_an_ended_stream_keeps_its_last_window_and_may_return(kept):
    kept.store.commit(Checkpoint(snapshots={"a": b"1"}, windows={"a": 4}))
    kept.store.commit(Checkpoint(ended=["a"], windows={"a": 5}))
    assert kept.again().last_window("a") == 5
    kept.store.commit(Checkpoint(snapshots={"a": b"new"}))
    assert kept.again().read(["a"]) == {"a": b"new"}
    assert kept.store.last_window("a") == 5


def test_streams_not_saved_for_long_are_forgotten(kept):
    kept.store.commit(Checkpoint(snapshots={"old": b"1", "both": b"2"}, ended=["gone"], saved=100.0))
    kept.store.commit(Checkpoint(snapshots={"both": b"3", "new": b"4"}, saved=200.0))
    assert kept.store.prune(150.0) == 2
    kept.store.compact()
    assert everything(kept.again()) == {"both": b"3", "new": b"4"}
    kept.store.commit(Checkpoint(snapshots={"old": b"again", "both": b"5"}, saved=300.0))
    assert everything(kept.again()) == {"both": b"5", "new": b"4", "old": b"again"}


def test_another_identity_is_refused_with_every_difference(kept):
    kept.store.close()
    with pytest.raises(StateError, match=r"model was 'abc' and is 'xyz'; source.time_unit was 's' and is 'not set'"):
        kept.store.open({"model": "xyz"})
    kept.store.close()
    kept.store.open(IDENTITY)
    kept.store.commit(Checkpoint(identity={"model": "xyz"}))
    kept.store.close()
    kept.store.open({"model": "xyz"})


NAMES = st.sampled_from(["a", "b", "ü/ß", "a'; DROP TABLE streams; --", "x" * 300])
COMMITS = st.lists(
    st.builds(
        lambda snapshots, windows, ended: Checkpoint(
            snapshots={n: d for n, d in snapshots.items() if n not in ended},
            windows={n: w for n, w in windows.items() if n in snapshots or n in ended},
            ended=ended,
        ),
        st.dictionaries(NAMES, st.binary(max_size=20)),
        st.dictionaries(NAMES, st.integers(0, 2**60)),
        st.sets(NAMES),
    ),
    max_size=6,
)


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(commits=COMMITS, reopen=st.integers(0, 6))
def test_every_store_agrees_with_dictionaries(tmp_path, commits, reopen):
    for kind in (Memory, Sqlite):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        kept = kind(folder)
        kept.store.open(IDENTITY)
        snapshots, windows = {}, {}
        for i, commit in enumerate(commits):
            if i == reopen:
                kept.again()
            kept.store.commit(commit)
            snapshots = {n: d for n, d in (snapshots | commit.snapshots).items() if n not in commit.ended}
            windows |= commit.windows
        assert everything(kept.again()) == snapshots
        assert {n: kept.store.last_window(n) for n in windows} == windows
        kept.store.close()


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.open(IDENTITY)
    store.commit(Checkpoint(snapshots={f"s{i}": bytes(2000) for i in range(200)}))
    store.close()
    return path


def refused(path, match):
    with pytest.raises(StateError, match=match) as caught:
        SqliteStore(path).open(IDENTITY)
    assert str(path) in str(caught.value)


def test_a_store_is_held_by_one_run(path):
    first = SqliteStore(path)
    first.open(IDENTITY)
    refused(path, "another run has it open")
    first.close()
    SqliteStore(path).open(IDENTITY)


def test_files_that_are_no_state_stores_are_refused(tmp_path, path):
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as database:
        database.execute("CREATE TABLE mine (x)")
    database.close()
    refused(other, "another program")
    text = tmp_path / "text"
    text.write_text("no database, whatever its length may be" * 100)
    refused(text, "not a state store")
    refused(tmp_path, "cannot be opened")
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    refused(path, "has version 99")


def test_a_damaged_file_is_refused(path):
    data = bytearray(path.read_bytes())
    for i in range(8192 * 3, len(data), 8192):  # the headers of B-tree pages
        data[i : i + 64] = b"\xff" * 64
    path.write_bytes(data)
    refused(path, "damaged")


def test_a_full_disk_refuses_a_checkpoint_whole_and_keeps_the_last(tmp_path):
    path = tmp_path / "state.db"
    store = SqliteStore(path, max_bytes=200_000)
    store.open(IDENTITY)
    store.commit(Checkpoint(snapshots={"a": b"1"}, outbox=[b"x"]))
    big = {f"s{i}": bytes(50_000) for i in range(10)}
    with pytest.raises(StateFullError, match="full"):
        store.commit(Checkpoint(snapshots={"a": b"2"} | big, sent=1))
    assert everything(store) == {"a": b"1"}
    assert store.outbox() == {1: b"x"}
    store.commit(Checkpoint(snapshots={"a": b"3", "s1": b"small"}))
    store.close()
    store.open(IDENTITY)
    assert everything(store) == {"a": b"3", "s1": b"small"}
    store.close()


def test_a_commit_is_seen_whole_or_not_at_all_after_a_kill(tmp_path):
    """The write-ahead log cut anywhere: what is read is one of the two commits."""
    path = tmp_path / "state.db"
    store = SqliteStore(path)
    store.open(IDENTITY)
    store.commit(Checkpoint(snapshots=dict.fromkeys("abc", b"1" * 3000)))
    before = path.with_name("state.db-wal").stat().st_size
    store.commit(Checkpoint(snapshots=dict.fromkeys("abc", b"2" * 3000)))
    database, log = path.read_bytes(), path.with_name("state.db-wal").read_bytes()
    store.close()
    seen = set()
    for cut in range(before, len(log) + 1, 1000):
        copy = tmp_path / f"cut-{cut}.db"
        copy.write_bytes(database)
        copy.with_name(copy.name + "-wal").write_bytes(log[:cut])
        again = SqliteStore(copy)
        again.open(IDENTITY)
        values = set(everything(again).values())
        again.close()
        assert len(values) == 1
        seen |= values
    assert b"1" * 3000 in seen


def test_a_store_that_is_not_open_says_so(tmp_path):
    with pytest.raises(StateError, match="not open"):
        SqliteStore(tmp_path / "s.db").commit(Checkpoint())
