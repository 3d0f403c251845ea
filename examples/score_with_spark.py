"""A Spark DataFrame in, predictions out as one: which exercises does the model confuse?

Needs: pip install "streamrde[spark]", and Java 17 (Debian, Ubuntu: apt-get install openjdk-17-jre-headless)

usage: python examples/score_with_spark.py
"""

from pyspark.sql import functions as F

import streamrde.spark
from streamrde.demo.watch_data import FOLDER, MODEL

spark = streamrde.spark.session("local[2]", {"spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "2"})
samples = spark.read.parquet(f"{FOLDER}/subject-08.parquet", f"{FOLDER}/subject-09.parquet")
predictions = streamrde.spark.score(samples, MODEL, truth=["label"])

predictions.groupBy("true_label").agg(
    F.count("*").alias("windows"),
    F.round(100 * F.avg((F.col("label") == F.col("true_label")).cast("int")), 1).alias("right_percent"),
    F.mode("label").alias("most_often"),
).orderBy("true_label").show()
spark.stop()
