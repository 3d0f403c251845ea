"""DataFrames of Spark, recorded and streaming: the bits of `streamrde.score`, whatever happens to the query."""

import datetime as dt
import decimal
import os
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from bundles import make_bundle
from scoring_data import by_key, make_table

import streamrde as sr
import streamrde.spark
from streamrde import Order
from streamrde.demo.watch_data import FOLDER, MODEL
from streamrde.errors import BundleError, ConfigError

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # py4j's sockets
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated:DeprecationWarning"),
]
CHANNELS = ["a", "b"]


def shuffled(table, seed=0):
    return table.take(pa.array(np.random.default_rng(seed).permutation(table.num_rows)))


def scored(table, model, **settings):
    """What `score` gives for the rows in order of time, by stream and window."""
    return by_key(sr.score(table.sort_by("t"), model, **settings).read_all())


class Stream:
    """A folder of files that a streaming DataFrame reads, and the files that its query writes."""

    def __init__(self, spark, folder, schema):
        self.spark = spark
        self.folder = folder
        self.schema = schema
        self.count = 0
        (folder / "in").mkdir(parents=True)

    def add(self, *tables):
        for table in tables:
            path = self.folder / "in" / f"{self.count:03d}.parquet"
            pq.write_table(table, path)
            os.utime(path, (self.count, self.count))  # Spark takes files in the order of these times
            self.count += 1

    def run(self, model, **settings):
        """Score all files that are not scored yet, one in a micro-batch, and return what the query observed."""
        df = self.spark.readStream.schema(self.schema).option("maxFilesPerTrigger", 1).parquet(str(self.folder / "in"))
        query = (
            streamrde.spark.score(df, model, **settings)
            .writeStream.option("checkpointLocation", str(self.folder / "checkpoint"))
            .trigger(availableNow=True)
            .start(str(self.folder / "out"), format="parquet")
        )
        query.awaitTermination()
        return [progress.observedMetrics["streamrde"] for progress in query.recentProgress if progress.observedMetrics]

    def forget_commit(self):
        """Leave the files as a driver does that dies when the last micro-batch has written its output."""
        for log in (self.folder / "checkpoint" / "commits", self.folder / "out" / "_spark_metadata"):
            last = max((path for path in log.glob("[0-9]*")), key=lambda path: int(path.name))
            last.unlink()
            (log / f".{last.name}.crc").unlink(missing_ok=True)

    def predictions(self):
        return by_key(self.spark.read.parquet(str(self.folder / "out")).toArrow())


@pytest.fixture
def stream(spark, tmp_path):
    table = make_table(40, 30, interleaved=True)
    return Stream(spark, tmp_path / "stream", spark.createDataFrame(table.slice(0, 1)).schema)


def test_a_batch_has_the_bits_of_score(spark, model):
    table = make_table(40, 30)
    settings = {"truth": ["kind"], "features": ["state", "logsignature"], "filters": [("kind", "!=", "z")]}
    df = spark.createDataFrame(shuffled(table)).repartition(3)
    found = streamrde.spark.score(df, model, shards=5, **settings)
    assert by_key(found.toArrow()) == scored(table, model, **settings)
    assert found.schema["value"].metadata["outputs"] == '["x","y","z"]'


def test_rows_that_are_left_out_are_counted(spark, model):
    from pyspark.sql import Observation

    table = make_table(3, 20)
    t = table["t"].to_pylist()
    t[5], t[30] = None, t[29]
    table = table.set_column(1, "t", pa.array(t))
    counts = Observation("rows")
    df = spark.createDataFrame(table).coalesce(1)
    with pytest.raises(
        Exception, match=r"partition 0: column 't', row 5 .*the time is null; fill it in or drop the row"
    ):
        streamrde.spark.score(df, model).collect()
    found = streamrde.spark.score(df, model, faults="drop", observe=counts).toArrow()
    assert by_key(found) == by_key(sr.score(table, model, faults="drop").read_all())
    assert {name: n for name, n in counts.get.items() if n} == {"samples": 58, "dropped": 1, "duplicate": 1}


TIMES = {
    "timestamp": lambda t: pa.array([dt.datetime.fromtimestamp(s, dt.UTC) for s in t], pa.timestamp("us", "UTC")),
    "local": lambda t: pa.array([dt.datetime.fromtimestamp(s, dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f") for s in t]),
    "decimal": lambda t: pa.array([decimal.Decimal(f"{s:.6f}") for s in t], pa.decimal128(20, 6)),
    "ms": lambda t: pa.array([round(1000 * s) for s in t], pa.int64()),
    "text": lambda t: pa.array([dt.datetime.fromtimestamp(s, dt.UTC).isoformat() for s in t]),
}
SETTINGS = {"local": {"time_zone": "Europe/Vienna"}, "ms": {"time_unit": "ms"}}


def test_all_types_of_times_and_values_mean_what_they_mean_in_arrow(spark, model):
    """Spark's session is in New York, which must not matter."""
    from pyspark.sql import functions as F

    rows = 40
    t = 1.7e9 + np.arange(rows) * 0.125
    values = np.arange(rows) % 7 - 3
    table = pa.table(
        {
            "stream_id": pa.array(np.arange(rows) % 3),
            **{name: make(t.tolist()) for name, make in TIMES.items()},
            "long": pa.array(values.tolist(), pa.int64()),
            "decimal value": pa.array([decimal.Decimal(int(v)) / 4 for v in values], pa.decimal128(10, 2)),
            "a": pa.array([None if i % 5 == 0 else float("nan") if i % 7 == 0 else i / 8 for i in range(rows)]),
            "b": pa.array((values % 2 == 0).tolist()),
        }
    )
    df = spark.createDataFrame(table).withColumn("local", F.to_timestamp_ntz("local")).cache()
    assert [kind for name, kind in df.dtypes if name in ("timestamp", "local")] == ["timestamp", "timestamp_ntz"]
    for name in TIMES:
        settings = {"time": name, **SETTINGS.get(name, {})}
        found = streamrde.spark.score(df, model, **settings).toArrow()
        assert by_key(found) == by_key(sr.score(table, model, **settings).read_all()), name
        assert found.num_rows, name
    settings = {"time": "ms", "time_unit": "ms", "channels": ["long", "decimal value"], "units": {"long": "g"}}
    found = streamrde.spark.score(df, model, **settings).toArrow()
    assert by_key(found) == by_key(sr.score(table, model, **settings).read_all())


def test_a_table_in_long_form(spark, model):
    table = make_table(4, 20)
    long = pa.concat_tables(
        table.select(["stream_id", "t"])
        .append_column("name", pa.array([name] * table.num_rows))
        .append_column("value", table[name])
        for name in CHANNELS
    )
    found = streamrde.spark.score(spark.createDataFrame(shuffled(long)), model, name="name").toArrow()
    assert by_key(found) == scored(table, model)


@pytest.mark.slow
def test_a_stream_has_the_bits_of_score_over_a_restart_and_each_window_once(stream, model, tmp_path):
    """Its samples come up to 3 s late, in other micro-batches, and more than one bucket of the state is in use."""
    table = make_table(100, 30, interleaved=True)
    order = np.argsort(table["t"].to_numpy() + np.random.default_rng(0).uniform(0, 3, table.num_rows))
    arriving = table.take(pa.array(order))
    settings = {"shards": 2, "truth": ["kind"], "order": Order(lateness=3.0)}
    stream.add(arriving.slice(0, 1000), arriving.slice(1000, 500))
    stream.run(model, **settings)
    files = len(list((stream.folder / "out").glob("*.parquet")))
    stream.forget_commit()
    stream.add(arriving.slice(1500, 1500))
    observed = stream.run(model, **settings)
    assert [counts["samples"] for counts in observed] == [500, 1500]
    assert len(list((stream.folder / "out").glob("*.parquet"))) > files
    settings.pop("shards")
    assert stream.predictions() == scored(table, model, state_out=str(tmp_path / "state.sqlite"), **settings)


@pytest.mark.slow
def test_a_checkpoint_keeps_its_shards_and_a_model_that_replaces_another_continues(stream, model):
    table = make_table(5, 30, interleaved=True)
    stream.add(table.slice(0, 60))
    stream.run(model, shards=3)
    # These rows are of a shard that the checkpoint does not have. Shard 0, which is always there, tells.
    far = next(name for name in table["stream_id"].to_pylist() if zlib.crc32(name.encode()) % 7 > 2)
    second, third = (
        table.slice(60).filter(test(table["stream_id"].slice(60), far)) for test in (pc.equal, pc.not_equal)
    )
    stream.add(second, third)
    with pytest.raises(Exception, match=r"the checkpoint has shards = 3, and this query shards = 7: .* Set shards = 3"):
        stream.run(model, shards=7)
    other = make_bundle(1)
    with pytest.raises(BundleError, match="cannot continue the streams of the one that it replaces"):
        stream.run(make_bundle(1, hidden=9), shards=3, replaces=[model])
    stream.run(other, shards=3, replaces=[model])
    fleet = sr.Fleet(sr.load(model))
    x = np.stack([table[name].to_numpy() for name in CHANNELS], axis=1)
    before = fleet.push(table["stream_id"][:60], table["t"].to_numpy()[:60], x[:60])
    fleet.swap(other)
    after = fleet.push(table["stream_id"][60:], table["t"].to_numpy()[60:], x[60:])
    assert stream.predictions() == by_key(pa.Table.from_batches([before, after]))


@pytest.mark.slow
def test_late_rows_stop_the_query_or_are_counted(stream, model):
    table = make_table(3, 40, interleaved=True)
    early = table.slice(0, 60).take(pa.array([i for i in range(60) if i != 50]))
    stream.add(early, pa.concat_tables([table.slice(50, 1), table.slice(60, 60)]))
    with pytest.raises(Exception, match=r"set faults='drop' to count .*; order = Order\(...\) can wait for late"):
        stream.run(model, shards=1)
    observed = stream.run(model, shards=1, faults="drop")
    assert [counts["late"] for counts in observed] == [1]


@pytest.mark.slow
def test_time_passes_for_silent_streams_and_ends_idle_ones(stream, spark):
    bundle = make_bundle(interpolation="hold")
    rows = [("quiet", 0.1), ("quiet", 0.4), ("loud", 0.2), ("loud", 30.0), ("loud", 100.0)]
    tables = [pa.table({"stream_id": [name], "t": [t], "a": [t], "b": [1.0], "kind": ["x"]}) for name, t in rows]
    stream.add(*tables)
    stream.run(bundle, shards=4, advance="watermark", idle=60.0)
    fleet, batches = sr.Fleet(bundle), []
    latest = 0.0
    for name, t in rows:
        batches.append(fleet.push([name], [t], [[t, 1.0]]))
        latest = max(latest, t)
        batches.append(fleet.advance(latest))
    batches.append(fleet.evict(idle=60.0, now=100.0))
    assert "quiet" not in fleet
    assert stream.predictions() == by_key(pa.Table.from_batches(batches))
    kept = spark.read.format("statestore").option("stateVarName", "streams").load(str(stream.folder / "checkpoint"))
    assert kept.count() == 1


@pytest.mark.slow
def test_the_clock_closes_windows_of_silent_streams(stream, spark):
    bundle = make_bundle(interpolation="hold")
    now = time.time()
    rows = [("a", now), ("b", now + 0.25), ("a", now + 0.5)]
    stream.add(pa.table([*zip(*rows, strict=True), [1.0, 2.0, 3.0], [0.0] * 3], ["stream_id", "t", "a", "b"]))
    df = spark.readStream.schema("stream_id string, t double, a double, b double").parquet(str(stream.folder / "in"))
    query = (
        streamrde.spark.score(df, bundle, shards=2, advance="clock", every=0.2)
        .writeStream.option("checkpointLocation", str(stream.folder / "checkpoint"))
        .start(str(stream.folder / "out"), format="parquet")
    )
    seen, end = {}, time.monotonic() + 240
    while len({window for _, window in seen}) < 6 or not {"a", "b"} <= {name for name, _ in seen}:
        assert query.isActive, query.exception()
        assert time.monotonic() < end, "no window closes"
        time.sleep(0.2)
        seen = stream.predictions() if (stream.folder / "out" / "_spark_metadata" / "0").exists() else {}
    query.stop()
    fleet = sr.Fleet(bundle)
    names, t = [name for name, _ in rows], [t for _, t in rows]
    batches = [fleet.push(names, t, [[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])]
    batches.append(fleet.advance(max(row["t_end"] for row in stream.predictions().values())))
    want = by_key(pa.Table.from_batches(batches))
    found = stream.predictions()
    assert found.items() <= want.items()
    assert len(found) >= len(want) - 1  # the clock is not the same for all shards


def test_settings_that_make_no_sense_are_refused(spark, model, stream):
    df = spark.createDataFrame(make_table(2, 5))
    refusals = {
        "no column 'streamid' .did you mean 'stream_id'": {"stream": "streamid"},
        "jobs is not for DataFrames: Spark divides the work": {"jobs": 2},
        "restarts is not for DataFrames: rows of a DataFrame have no order": {"restarts": "split"},
        "input_file_name": {"stream": ""},
        "name the column of the time": {"time": ""},
        "are for streaming DataFrames": {"idle": 3.0},
        "shards = 0": {"shards": 0},
    }
    for message, settings in refusals.items():
        with pytest.raises(ConfigError, match=message):
            streamrde.spark.score(df, model, **settings)
    live = spark.readStream.schema(stream.schema).parquet(str(stream.folder / "in"))
    with pytest.raises(ConfigError, match=r"order = Order\(merge=True\)"):
        streamrde.spark.score(live, model, name="kind", value="a")
    with pytest.raises(ConfigError, match="advance = 'sometimes'"):
        streamrde.spark.score(live, model, advance="sometimes")
    provider = "spark.sql.streaming.stateStore.providerClass"
    kept = spark.conf.get(provider)
    spark.conf.unset(provider)
    try:
        with pytest.raises(ConfigError, match="RocksDBStateStoreProvider"):
            streamrde.spark.score(live, model)
    finally:
        spark.conf.set(provider, kept)


@pytest.mark.slow
def test_a_stream_has_the_bits_of_score_when_executors_are_killed(spark, model, tmp_path):
    """The session is that of another process, with a cluster. The one of the tests only reads the files."""
    table = make_table(30, 40, interleaved=True)
    folder = tmp_path / "stream"
    schema = spark.createDataFrame(table.slice(0, 1)).schema
    stream = Stream(spark, folder, schema)
    stream.add(*(table.slice(start, 240) for start in range(0, 1200, 240)))
    script = Path(__file__).with_name("killed_executors.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(model)], capture_output=True, text=True, timeout=300, check=False
    )
    assert "killed 2, 2 at work at the end" in done.stdout, done.stdout + done.stderr
    assert stream.predictions() == scored(table, model, state_out=str(tmp_path / "state.sqlite"))


@pytest.mark.slow
def test_spark_connect_gives_the_bits_of_score(spark, tmp_path):
    """The model has more than 1 MB, which Spark would not send to all processes of a stream without Connect."""
    table = pq.read_table(FOLDER / "subject-08.parquet").slice(0, 4000)
    stream = Stream(spark, tmp_path / "stream", None)
    stream.add(table.slice(0, 2500), table.slice(2500))
    script = Path(__file__).with_name("connected.py")
    command = [sys.executable, str(script), str(stream.folder), str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert "pyspark.sql.connect" in done.stdout, done.stdout + done.stderr
    assert by_key(spark.read.parquet(str(stream.folder / "batch")).toArrow()) == scored(table, MODEL)
    assert stream.predictions() == scored(table, MODEL, state_out=str(tmp_path / "state.sqlite"))
