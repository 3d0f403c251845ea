"""Score a batch and a stream through Spark Connect, with a server that this starts.

usage: connected.py FOLDER MODEL (the folder has files in FOLDER/in; predictions go to FOLDER/batch and FOLDER/out)
"""

import os
import sys
import warnings
from pathlib import Path

import streamrde.spark

PROVIDER = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"


def main():
    folder, model = Path(sys.argv[1]), sys.argv[2]
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"  # and not that of another interface, which may go away
    os.environ["SPARK_TESTING"] = "1"  # the server then takes a free port
    from pyspark.sql import SparkSession

    warnings.simplefilter("ignore")
    spark = SparkSession.builder.remote("local[2]").getOrCreate()
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    spark.conf.set("spark.sql.streaming.stateStore.providerClass", PROVIDER)
    df = spark.read.parquet(str(folder / "in"))
    streamrde.spark.score(df, model).write.parquet(str(folder / "batch"))
    live = spark.readStream.schema(df.schema).option("maxFilesPerTrigger", 1).parquet(str(folder / "in"))
    query = (
        streamrde.spark.score(live, model, shards=2)
        .writeStream.option("checkpointLocation", str(folder / "checkpoint"))
        .trigger(availableNow=True)
        .start(str(folder / "out"), format="parquet")
    )
    query.awaitTermination()
    print(type(spark).__module__)
    spark.stop()


if __name__ == "__main__":
    main()
