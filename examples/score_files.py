"""Process recorded files in batches: many streams, any Arrow format, constant memory, all cores.

usage: python examples/score_files.py [FILES ...]
"""

import sys
import tempfile
from pathlib import Path

import pyarrow.parquet

import streamrde as sr
from streamrde.demo.watch_data import MODEL, held_out_files

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "predictions.parquet"
    summary = sr.score(sys.argv[1:] or held_out_files(), MODEL, out=out, truth=["label"], jobs=2)
    predictions = pyarrow.parquet.read_table(out)

for row in predictions.slice(0, 5).to_pylist():
    print(f"{row['stream']}  {row['t_start']:4.1f} to {row['t_end']:4.1f} s  {row['label']:4}  {max(row['value']):.0%}")

print(f"{summary.streams} streams, {summary.predictions} windows; spent: {summary.phases}")
measured = summary.evaluation
print(f"right: {measured['accuracy']:.1%} of all windows, {measured['accuracy_at_end']:.1%} at the end")
