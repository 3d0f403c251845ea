"""Embed a stateful predictor in an app: push samples, read predictions, look ahead, survive a restart.

usage: python examples/embed_in_app.py
"""

import streamrde as sr
from streamrde.connectors.files import read
from streamrde.demo.watch_data import COLUMNS, MODEL, held_out_files

bundle = sr.load(MODEL)  # numpy only, no torch
predictor = sr.Predictor(bundle, stream="wrist")

# The first stream of a recording stands for your sensor: (time in seconds, one value per channel).
recording = next(read(held_out_files()[0], COLUMNS))
mine = [i for i, name in enumerate(recording.streams.to_pylist()) if name == recording.streams[0].as_py()]

for i in mine[:1000]:
    for prediction in predictor.push(recording.t[i], recording.x[i]):
        print(f"{prediction.t_end:5.1f} s  {prediction.label}  {prediction.value.max():.0%}")

# What would it say if the window ended now? Nothing is committed.
provisional = predictor.peek()
print(f"{provisional.t_end:5.2f} s  {provisional.label}  {provisional.value.max():.0%}  (provisional)")

# A snapshot is the stream's whole state: put it anywhere, go on from it in another process.
saved = predictor.snapshot()
restored = sr.Predictor.restore(bundle, saved)
rest = mine[1000:]
assert [p.value.tolist() for p in restored.push_many(recording.t[rest], recording.x[rest])] == [
    p.value.tolist() for p in predictor.push_many(recording.t[rest], recording.x[rest])
]
print(f"restored from {len(saved)} bytes: the same predictions, bit for bit")
