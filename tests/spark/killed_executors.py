"""Score a stream on a cluster of two executors, and kill each of them with SIGKILL while it works.

usage: killed_executors.py FOLDER MODEL (the folder has files in FOLDER/in; predictions go to FOLDER/out)
"""

import os
import signal
import sys
import time
from pathlib import Path

import pyspark

import streamrde.spark


def executors():
    """Processes of executors below this one, by id."""
    parents, names = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text()
            names[int(entry.name)] = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        parents[int(entry.name)] = int(status.rpartition(")")[2].split()[1])

    def is_ours(process):
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return {process for process, name in names.items() if b"CoarseGrainedExecutorBackend" in name and is_ours(process)}


def main():
    folder, model = Path(sys.argv[1]), sys.argv[2]
    os.environ["SPARK_HOME"] = str(Path(pyspark.__file__).parent)  # executors are started by its scripts
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # and not that of another interface, which may go away
    spark = streamrde.spark.session(
        "local-cluster[2,1,1024]",
        {
            "spark.ui.enabled": "false",
            "spark.sql.shuffle.partitions": "2",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.sql.streaming.noDataMicroBatches.enabled": "false",
            # A block that an executor took with it is asked for again at once, and then made again.
            "spark.shuffle.io.maxRetries": "1",
            "spark.shuffle.io.retryWait": "100ms",
            "spark.sql.codegen.wholeStage": "false",
        },
    )
    spark.sparkContext.setLogLevel("OFF")
    schema = spark.read.parquet(str(folder / "in")).schema
    df = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(str(folder / "in"))
    query = (
        streamrde.spark.score(df, model, shards=4)
        .writeStream.option("checkpointLocation", str(folder / "checkpoint"))
        .start(str(folder / "out"), format="parquet")
    )
    killed = set()
    for wanted in (1, 2):  # micro-batches that are done
        while query.lastProgress is None or query.lastProgress["batchId"] + 1 < wanted:
            assert query.isActive, query.exception()
            time.sleep(0.01)
        while not (left := executors() - killed):
            time.sleep(0.01)
        os.kill(min(left), signal.SIGKILL)
        killed.add(min(left))
    query.processAllAvailable()
    left = executors()
    query.stop()
    spark.stop()
    print(f"killed {len(killed)}, {len(left - killed)} at work at the end")


if __name__ == "__main__":
    main()
