"""How good the shipped smart-watch model is, and how sure that is: every figure from the recordings.

usage: python examples/watch_quality.py                       # the shipped model on people 8 to 10: a second
       python examples/watch_quality.py --seeds 0 1 2         # its recipe trained anew: some minutes each
       python examples/watch_quality.py --cross-validate      # the recipe on people 1 to 7, each left out in turn

Accuracy is the share of streams whose prediction is right 2, 5 and 10 seconds after they began, and at their end, as
`sr.score` serves it. The recipe was chosen by cross-validation on people 1 to 7; people 8 to 10 are only measured.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet
from rich.console import Console

import streamrde as sr
from streamrde.demo.watch_data import FOLDER, MODEL

CONFIG = Path(__file__).parents[1] / "configs" / "watch.toml"
SECONDS = (2.0, 5.0, 10.0)
SAME = 1e-5  # by how much a served measure may differ from that of training: float32, other orders of summation


def measure(model: Path, people: list[int]) -> dict[str, tuple[int, int]]:
    """How many streams of these people are right, and how many there are: after so many seconds, and at the end."""
    files = [FOLDER / f"subject-{person:02}.parquet" for person in people]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "predictions.parquet"
        sr.score(files, model, out=out, truth=["label"])
        rows = pyarrow.parquet.read_table(out, columns=["stream", "t_end", "label", "true_label"]).to_pylist()
    streams: dict[str, list[tuple[float, bool]]] = {}
    for row in rows:
        streams.setdefault(row["stream"], []).append((row["t_end"], row["label"] == row["true_label"]))
    result = {}
    for limit in SECONDS:
        lasting = [windows for windows in streams.values() if windows[-1][0] >= limit]
        # An edge at 0.1 * 3 is an edge at 0.3.
        right = [[hit for end, hit in windows if end <= limit + 1e-9][-1] for windows in lasting]
        result[f"{limit:g}s"] = sum(right), len(right)
    result["end"] = sum(windows[-1][1] for windows in streams.values()), len(streams)
    return result


def trained(folder: Path, seed: int, settings: list[str]) -> Path:
    """The recipe's model for one seed; training's own measures must be those that are served."""
    model = folder / "model.safetensors"
    settings = [*settings, f"training.seed={seed}", f"output.model={json.dumps(str(model))}", 'output.metrics=""']
    sr.train(CONFIG, settings=settings, console=Console(stderr=True))
    return model


def check(model: Path, right: dict[str, tuple[int, int]]) -> None:
    """Exit where the model's file tells of other measures than it serves."""
    metrics = sr.load(model).header.metrics
    for name, (hits, streams) in right.items():
        difference = abs(metrics[f"test_accuracy_{name}"] - hits / streams)
        if difference > SAME:
            sys.exit(f"{model}: accuracy {name}, served, differs from training's by {difference:g}")


def row(name: str, right: dict[str, tuple[int, int]]) -> str:
    return f"{name:12}" + "".join(f"{100 * hits / streams:8.1f}" for hits, streams in right.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", help="train anew instead of taking the shipped model")
    parser.add_argument("--cross-validate", action="store_true", help="leave each of people 1 to 7 out in turn")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="key=value instead of the recipe's")
    arguments = parser.parse_args()
    print(f"{'right in %':12}" + "".join(f"{f'{limit:g} s':>8}" for limit in SECONDS) + f"{'end':>8}")
    tables = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.cross_validate:
            for seed in arguments.seeds or [0]:
                folds = []
                for person in range(1, 8):
                    own = [f"data.files={json.dumps(f'{FOLDER}/subject-0[1-7].parquet')}", f"split.test=[{person}]"]
                    model = trained(folder, seed, [*arguments.settings, *own])
                    folds.append(measure(model, [person]))
                    check(model, folds[-1])
                    print(row(f"without {person}", folds[-1]), flush=True)
                tables.append({key: tuple(map(sum, zip(*(f[key] for f in folds), strict=True))) for key in folds[0]})
                print(row(f"seed {seed}", tables[-1]), flush=True)
        else:
            for seed in arguments.seeds or [None]:
                own = [f"data.files={json.dumps(f'{FOLDER}/subject-*.parquet')}"]
                model = MODEL if seed is None else trained(folder, seed, [*arguments.settings, *own])
                tables.append(measure(model, [8, 9, 10]))
                check(model, tables[-1])
                print(row("shipped" if seed is None else f"seed {seed}", tables[-1]), flush=True)
    if len(tables) > 1:
        shares = {key: [100 * table[key][0] / table[key][1] for table in tables] for key in tables[0]}
        print(f"{'mean':12}" + "".join(f"{statistics.mean(values):8.1f}" for values in shares.values()))
        print(f"{'deviation':12}" + "".join(f"{statistics.stdev(values):8.1f}" for values in shares.values()))


if __name__ == "__main__":
    main()
