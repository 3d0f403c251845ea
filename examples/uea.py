"""Train on a data set of the UEA archive, on its official split, and compare with published figures.

usage: python examples/uea.py [FILE] [--config CONFIG] [--seeds 0 1 2] [--json]

FILE is Parquet with one row per sample: stream_id, t, the channels c0, c1, ..., label, and split ("train" or "test"),
named uea_basicmotions.parquet, uea_epilepsy.parquet or uea_japanesevowels.parquet: its recipe is then the file of that
name in configs/. For other data name a CONFIG. Without FILE a small set of noisy oscillations is made, to see that all
works. The archive, with its licence terms, is at timeseriesclassification.com.

Each seed's model is then served: `sr.score` of the test streams must give what training measured.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from rich.console import Console

import streamrde as sr

CONFIGS = Path(__file__).parents[1] / "configs"
# Test accuracy in % on the official split: nearest neighbours by Euclidean distance and by dynamic time warping (the
# channels' distances added, or jointly), WEASEL+MUSE, MLSTM-FCN and TapNet, from table 2 of X. Zhang et al., "TapNet:
# Multivariate time series classification with attentional prototypical network", AAAI 2020.
METHODS = ("1NN-ED", "1NN-DTW-I", "1NN-DTW-D", "WEASEL+MUSE", "MLSTM-FCN", "TapNet")
PUBLISHED = {
    "uea_basicmotions": (67.6, 100.0, 97.5, 100.0, 95.0, 100.0),
    "uea_epilepsy": (66.6, 97.8, 96.4, 100.0, 76.1, 97.1),
    "uea_japanesevowels": (92.4, 95.9, 94.9, 97.3, 97.6, 96.5),
}
SAME = 1e-5  # by how much a served measure may differ from that of training: float32, other orders of summation


def synthetic(path: Path) -> None:
    """Four classes of oscillations in six channels, 8 streams each for training and for the test."""
    rng = np.random.default_rng(0)
    tables = []
    for number in range(64):
        label, t = number % 4, np.arange(60) / 10
        phase = 2 * np.pi * (0.2 + 0.2 * label) * t + rng.uniform(0, 2 * np.pi)
        x = (1 + label) * np.stack([np.sin(phase + j) for j in range(6)]) + rng.normal(0, 0.1, (6, len(t)))
        columns = {"stream_id": [f"stream_{number:02}"] * len(t), "t": t}
        columns |= {f"c{j}": channel for j, channel in enumerate(x)}
        columns |= {"label": [f"class {label}"] * len(t), "split": ["train" if number < 32 else "test"] * len(t)}
        tables.append(pa.table(columns))
    pa.parquet.write_table(pa.concat_tables(tables), path)


def run(file: Path, config: Path, seed: int, settings: list[str], folder: Path) -> dict[str, float]:
    """Train with one seed and measure the test streams twice: as training did, and as the served model does.

    Returns:
        accuracy at the streams' ends and over all windows in %, of both, and the greatest difference between the two.
    """
    model = folder / f"seed-{seed}.safetensors"
    settings = [*settings, f"data.files={json.dumps(str(file))}", f"training.seed={seed}", f"output.model={model}"]
    trained = sr.train(config, settings=settings, console=Console(stderr=True)).header.metrics
    served = sr.score(
        file, model, out=folder / f"seed-{seed}.parquet", truth=["label"], filters=[("split", "==", "test")]
    ).evaluation
    pairs = {"end": "accuracy_at_end", "windows": "accuracy"}
    difference = max(abs(trained[f"test_accuracy_{a}"] - served[b]) for a, b in pairs.items())
    if difference > SAME:
        sys.exit(f"seed {seed}: served, the test accuracy differs from training's by {difference:g}")
    return {"seed": seed, "difference": difference} | {key: 100 * served[name] for key, name in pairs.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--config", type=Path, help="default: configs/<name of FILE>.toml")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--json", action="store_true", help="the results as one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, settings = Path(name), []
        file, config, seeds = arguments.file, arguments.config, arguments.seeds or [0, 1, 2]
        if file is None:
            file = folder / "synthetic.parquet"
            synthetic(file)
            config, seeds = config or CONFIGS / "uea_basicmotions.toml", arguments.seeds or [0]
            settings = ["training.epochs=20", "training.learning_rate=0.006"]
        config = config or CONFIGS / f"{file.stem}.toml"
        if not config.exists():
            parser.error(f"there is no {config}: name the file of a recipe with --config")
        results = [run(file, config, seed, settings, folder) for seed in seeds]
    ends = [result["end"] for result in results]
    mean, spread = statistics.mean(ends), statistics.stdev(ends) if len(ends) > 1 else math.nan
    if arguments.file is None and mean < 90:
        sys.exit(f"synthetic: only {mean:.1f} % of the test streams are right")
    published = dict(zip(METHODS, PUBLISHED.get(file.stem, ()), strict=False))
    if arguments.json:
        print(json.dumps({"file": file.stem, "seeds": results, "mean": mean, "spread": spread, "published": published}))
        return
    print(f"{file.stem}: test accuracy in %, of the streams at their end and of all windows")
    for result in results:
        print(f"  seed {result['seed']}: {result['end']:5.1f} {result['windows']:5.1f}")
    print(f"  mean   {mean:5.1f}, standard deviation {spread:.1f}; served by sr.score: the same to {SAME:g}")
    for method, figure in published.items():
        print(f"  {method:11} {figure:5.1f}")


if __name__ == "__main__":
    main()
