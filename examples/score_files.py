"""Process recorded files in batches: many streams, any Arrow format, constant memory.

usage: python examples/score_files.py [FILES ...]
"""

import sys

import pyarrow as pa

import streamrde as sr
from streamrde.connectors.arrow import read
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files, truth

fleet = sr.Fleet(sr.load(MODEL))
batches = [
    fleet.push(samples.streams, samples.t, samples.x) for samples in read(sys.argv[1:] or held_out_files(), COLUMNS)
]
batches.append(fleet.flush())  # the streams have ended: their last, short windows

predictions = pa.Table.from_batches(batches).sort_by([("stream", "ascending"), ("window", "ascending")])
for row in predictions.slice(0, 5).to_pylist():
    print(f"{row['stream']}  {row['t_start']:4.1f} to {row['t_end']:4.1f} s  {row['label']:4}  {max(row['value']):.0%}")

last = {row["stream"]: row["label"] for row in predictions.select(["stream", "label"]).to_pylist()}
labels = truth()
right = sum(last[stream] == labels[stream] for stream in last if stream in labels)
print(f"{len(last)} streams, {predictions.num_rows} windows, {right} streams right at their end")
