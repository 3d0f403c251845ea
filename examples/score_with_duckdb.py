"""SQL in, predictions out, SQL over them: an Arrow stream from duckdb through the model and back.

Neither side holds more than a few batches: rows are computed as they are read. Needs: pip install duckdb

usage: python examples/score_with_duckdb.py
"""

import duckdb

import streamrde as sr
from streamrde.demo.watch_data import FOLDER, MODEL

database = duckdb.connect()
samples = database.sql(
    f"SELECT stream_id, t, ax, ay, az, wx, wy, wz, label FROM '{FOLDER}/subject-*.parquet' "
    "WHERE subject >= 8 ORDER BY stream_id, t"
)
predictions = sr.score(samples, MODEL, truth=["label"])  # a RecordBatchReader: nothing has been computed yet

# Another connection: the first one is busy with the samples while these are read.
print(
    duckdb.from_arrow(predictions)
    .aggregate("true_label, count(*) AS windows, round(100 * avg((label = true_label)::INT), 1) AS right_percent")
    .order("true_label")
)
