"""Score DataFrames of Spark: recorded ones, and streaming ones whose state Spark keeps.

entry     `score`, the public function
sessions  `session`: start Spark, or say what it lacks
packing   pack rows into cells of samples by shard, unpack predictions
shards    score cells: partitions of a batch, or shards of a micro-batch
shipping  bring the model to the workers
state     keep streams' snapshots in Spark's state

Importing this imports no pyspark.
"""

from streamrde.spark.entry import score
from streamrde.spark.sessions import session

__all__ = ["score", "session"]
