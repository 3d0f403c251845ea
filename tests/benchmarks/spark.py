"""Rows per second of Spark on this machine's cores, beside one process of `score` with as many threads.

Every run of Spark is checked against the predictions of `score`. Before it is timed, a session has scored a few rows. A
batch is timed until its predictions are written; a stream from its start until its last micro-batch is committed,
without the time in which Spark plans the query.

usage: python tests/benchmarks/spark.py rows [--rows 1000000] [--streams 1000] [--micro-batches 10] [--shards 2,4,16]
       python tests/benchmarks/spark.py state [--streams 1000] [--bytes 4000]
"""

from __future__ import annotations

import argparse
import itertools
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import streamrde as sr
import streamrde.spark
from streamrde.demo.watch_data import MODEL

CORES = 2


def session():
    spark = streamrde.spark.session(
        f"local[{CORES}]", {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": str(CORES)}
    )
    spark.sparkContext.setLogLevel("OFF")
    return spark


def recording(rows: int, streams: int) -> pa.Table:
    """Six channels at about 50 Hz, the streams in turn."""
    rng = np.random.default_rng(0)
    number = np.arange(rows)
    t = (number // streams) * 0.02 + rng.uniform(0, 0.005, rows)
    channels = {channel.name: rng.normal(size=rows) for channel in sr.load(MODEL).header.channels}
    names = pa.DictionaryArray.from_arrays(number % streams, [f"watch-{i}" for i in range(streams)]).cast(pa.string())
    return pa.table({"stream_id": names, "t": t, **channels})


def plain(table: pa.Table) -> pa.Table:
    """Return predictions in order, in the types of Spark."""
    columns = ["stream", "window", "t_start", "t_end", "value", "label"]
    table = table.select(columns).sort_by([("stream", "ascending"), ("window", "ascending")])
    values = pa.array(table["value"].to_pylist(), pa.list_(pa.float32()))
    # Made of arrays: files forget which fields have no nulls.
    return pa.table(
        [*(table[name].combine_chunks() for name in columns if name != "value"), values],
        ["stream", "window", "t_start", "t_end", "label", "value"],
    )


def measure_rows(arguments: argparse.Namespace) -> None:
    table = recording(arguments.rows, arguments.streams)
    folder = Path(tempfile.mkdtemp(prefix="streamrde-benchmark-"))
    cuts = np.linspace(0, table.num_rows, arguments.micro_batches + 1).astype(int)
    (folder / "in").mkdir()
    for i, (start, stop) in enumerate(itertools.pairwise(cuts)):
        pq.write_table(table.slice(start, stop - start), folder / "in" / f"{i:04d}.parquet")
        time.sleep(0.002)  # Spark takes files in the order of their times
    want = plain(sr.score(table, MODEL).read_all())
    # A stream leaves the last windows open.
    want_live = plain(sr.score(table, MODEL, state_out=str(folder / "state.sqlite")).read_all())
    spark = session()
    df = spark.read.parquet(str(folder / "in"))
    for shards in (1, 2):
        streamrde.spark.score(df.limit(1000), MODEL, shards=shards).write.mode("overwrite").parquet(
            str(folder / "warm")
        )
    seconds: dict[str, list[float]] = {}
    for _ in range(arguments.runs):
        began = time.perf_counter()
        pq.write_table(sr.score(str(folder / "in"), MODEL, jobs=CORES).read_all(), folder / "score.parquet")
        seconds.setdefault(f"score, one process, {CORES} threads", []).append(time.perf_counter() - began)
        out = str(folder / "batch")
        began = time.perf_counter()
        streamrde.spark.score(df, MODEL).write.mode("overwrite").parquet(out)
        seconds.setdefault(f"Spark, batch, local[{CORES}]", []).append(time.perf_counter() - began)
        assert plain(spark.read.parquet(out).toArrow()).equals(want)
        for shards in arguments.shards:
            for name in ("live", "checkpoint"):
                shutil.rmtree(folder / name, ignore_errors=True)
            live = spark.readStream.schema(df.schema).option("maxFilesPerTrigger", 1).parquet(str(folder / "in"))
            query = (
                streamrde.spark.score(live, MODEL, shards=shards)
                .writeStream.option("checkpointLocation", str(folder / "checkpoint"))
                .trigger(availableNow=True)
                .start(str(folder / "live"), format="parquet")
            )
            query.awaitTermination()
            durations = [progress.durationMs for progress in query.recentProgress]
            taken = sum(d["triggerExecution"] - d.get("queryPlanning", 0) for d in durations) / 1000
            seconds.setdefault(f"Spark, stream, {shards} shards", []).append(taken)
            assert plain(spark.read.parquet(str(folder / "live")).toArrow()).equals(want_live)
    spark.stop()
    shutil.rmtree(folder)
    print(f"{table.num_rows:,} rows of {arguments.streams:,} streams, {arguments.micro_batches} micro-batches")
    for name, own in seconds.items():
        median = statistics.median(own)
        spread = f"{min(own):.1f}-{max(own):.1f}"
        print(f"{name:32} {median:7.2f} s ({spread}) {table.num_rows / median:12,.0f} rows/s")


def measure_state(arguments: argparse.Namespace) -> None:
    """Read and write the snapshots of all streams of a shard: a value each, in buckets of 32, or all as one value."""
    import pandas as pd
    from pyspark.sql.streaming import StatefulProcessor

    streams, size = arguments.streams, arguments.bytes

    class Layouts(StatefulProcessor):
        def init(self, handle):
            self.map = handle.getMapState("map", "name string, kind string", "data binary")
            self.value = handle.getValueState("value", "data binary")

        def handleInputRows(self, key, rows, timerValues):
            for _ in rows:
                pass
            found = {}
            for kind, count in (("each", streams), ("buckets of 32", -(-streams // 32))):
                data = np.random.default_rng(0).bytes(size * streams // count)
                began = time.perf_counter()
                for i in range(count):
                    self.map.getValue((str(i), kind))
                middle = time.perf_counter()
                for i in range(count):
                    self.map.updateValue((str(i), kind), (data,))
                found[kind] = middle - began, time.perf_counter() - middle
            data = np.random.default_rng(0).bytes(size * streams)
            began = time.perf_counter()
            self.value.get()
            middle = time.perf_counter()
            self.value.update((data,))
            found["one value"] = middle - began, time.perf_counter() - middle
            yield pd.DataFrame([{"kind": k, "read": r, "write": w} for k, (r, w) in found.items()])

        def close(self):
            pass

    folder = Path(tempfile.mkdtemp(prefix="streamrde-benchmark-"))
    spark = session()
    for _ in range(arguments.micro_batches):
        spark.range(1).coalesce(1).write.mode("append").parquet(str(folder / "in"))
    query = (
        spark.readStream.schema("id long").option("maxFilesPerTrigger", 1).parquet(str(folder / "in")).groupBy("id")
        .transformWithStateInPandas(Layouts(), "kind string, read double, write double", "append", "None")
        .writeStream.format("memory").queryName("layouts").option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True).start()
    )  # fmt: skip
    query.awaitTermination()
    rows = spark.table("layouts").collect()
    spark.stop()
    shutil.rmtree(folder)
    print(f"{streams:,} snapshots of {size:,} bytes, median of {arguments.micro_batches} micro-batches")
    for kind in dict.fromkeys(row.kind for row in rows):
        read, write = (
            statistics.median(1000 * row[name] for row in rows if row.kind == kind) for name in ("read", "write")
        )
        print(f"{kind:15} {read:8.1f} ms read {write:8.1f} ms written")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rows", "state"])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--micro-batches", type=int, default=10)
    parser.add_argument("--shards", type=lambda text: [int(one) for one in text.split(",")], default=[2, 4, 16])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=4000)
    arguments = parser.parse_args()
    import pyspark

    print(
        f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, Spark {pyspark.__version__}"
    )
    measure_rows(arguments) if arguments.what == "rows" else measure_state(arguments)


if __name__ == "__main__":
    main()
