"""A coverage-guided fuzzer over the codecs, the model file's loader and the snapshots: no crash, every payload counted.

    python tests/benchmarks/fuzz.py --runs 100000    # needs atheris

Each payload begins as a good one of its kind and is changed by atheris towards code not yet reached. Whatever it is, it
must be read or refused by the one error of its kind; anything else ends the fuzzer with a trace and the payload.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import tempfile
from pathlib import Path

import atheris
import numpy as np

with atheris.instrument_imports(include=["streamrde", "msgspec", "cbor2"]):
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from bundles import make_bundle

    import streamrde as sr
    from streamrde.connectors import Columns
    from streamrde.connectors.codecs import ArrowCodec, CborCodec, JsonCodec, MessagePackCodec, PackedCodec
    from streamrde.errors import BundleError, PayloadError, SnapshotError
    from streamrde.inference.bundle import load

COLUMNS = Columns(channels=("a", "b"))
CODECS = [
    JsonCodec(COLUMNS),
    MessagePackCodec(COLUMNS),
    CborCodec(COLUMNS),
    PackedCodec(COLUMNS, layout="<dff"),
    ArrowCodec(COLUMNS),
]
BUNDLE = make_bundle(hidden=2, depth=1)
FILE = Path(tempfile.mkdtemp()) / "model.safetensors"
counts: collections.Counter[str] = collections.Counter()


def one(data: bytes) -> None:
    """The first byte chooses who has to bear the rest."""
    if not data:
        counts["empty"] += 1
        return
    kind, payload = data[0] % (len(CODECS) + 2), data[1:]
    try:
        if kind < len(CODECS):
            name = type(CODECS[kind]).__name__
            t, x = CODECS[kind].decode(payload)
            if len(t) != len(x) or not np.isfinite(t).all() or np.isinf(x).any():
                raise AssertionError(f"{name} lets {t}, {x} through")
        elif kind == len(CODECS):
            name = "load"
            FILE.write_bytes(payload)
            load(FILE)
        else:
            name = "restore"
            sr.Predictor.restore(BUNDLE, payload)
    except (PayloadError, BundleError, SnapshotError) as error:
        counts[f"{name} refused: {type(error).__name__}"] += 1
    else:
        counts[f"{name} read"] += 1


def seeds(folder: Path) -> None:
    t, x = np.arange(3.0), np.ones((3, 2))
    BUNDLE.save(FILE)
    predictor = sr.Predictor(BUNDLE)
    predictor.push(0.0, [1.0, 2.0])
    good = [codec.encode_samples(t, x) for codec in CODECS] + [FILE.read_bytes(), predictor.snapshot()]
    for i, payload in enumerate(good):
        (folder / f"seed-{i}").write_bytes(bytes([i]) + payload)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    seeds(folder)

    def counted(data: bytes) -> None:
        one(data)
        if counts.total() == options.runs:
            print(json.dumps(dict(sorted(counts.items())) | {"payloads": counts.total()}, indent=2), flush=True)
            os._exit(0)  # the fuzzer's own end says nothing

    atheris.Setup([sys.argv[0], "-max_len=20000", "-verbosity=0", str(folder)], counted)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
