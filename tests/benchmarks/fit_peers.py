"""Fit MiniRocket and Hydra of aeon with their own defaults. fit_quality.py runs this with an interpreter that has aeon.

usage: python fit_peers.py DATA.npz JOBS.json ANSWERS.json

DATA.npz: train and test (n, channels, length), truth (n, targets), classes, 0 for numbers. Both peers end in
scikit-learn's RidgeClassifierCV, which has scores but no probabilities: the scores are given back beside the answers.
"""

import json
import pathlib
import sys
import time

import numpy as np
from aeon.classification.convolution_based import HydraClassifier, MiniRocketClassifier
from aeon.regression.convolution_based import HydraRegressor, MiniRocketRegressor

CLASSIFIERS = {"MiniRocket": MiniRocketClassifier, "Hydra": HydraClassifier}
REGRESSORS = {"MiniRocket": MiniRocketRegressor, "Hydra": HydraRegressor}


def scores_of(model, x):
    """Scores of the classes, (n, classes), from the linear classifier at the model's end."""
    found = (model.pipeline_ if hasattr(model, "pipeline_") else model.clf_).decision_function(x)
    return np.stack([-found, found], axis=1) if found.ndim == 1 else found


def run(method, seed, train, truth, test, classes):
    made = CLASSIFIERS[method] if classes else REGRESSORS[method]
    began = time.process_time()
    models = [made(random_state=seed, n_jobs=1).fit(train, target) for target in truth.T]
    seconds = time.process_time() - began
    if classes:
        (model,) = models
        answers, scores = np.zeros((len(test), classes)), np.full((len(test), classes), -1e9)
        answers[np.arange(len(test)), model.predict(test).astype(int)] = 1
        scores[:, np.asarray(model.classes_, int)] = scores_of(model, test)
    else:
        answers = scores = np.stack([model.predict(test) for model in models], axis=1)
    return {"answers": answers.tolist(), "scores": scores.tolist(), "seconds": seconds}


def main():
    data, jobs, out = sys.argv[1:]
    with np.load(data) as arrays:
        train, truth, test, classes = (arrays[name] for name in ("train", "truth", "test", "classes"))
    # Compiles what is compiled at first use, which is not counted.
    few = np.random.default_rng(0).normal(size=(8, *train.shape[1:]))
    wanted = json.loads(pathlib.Path(jobs).read_text("utf-8"))
    for method in {method for method, _ in wanted}:
        run(method, 0, few, (np.arange(8.0) % (2 if classes else 8))[:, None], few, 2 if classes else 0)
    found = [run(method, seed, train, truth, test, int(classes)) for method, seed in wanted]
    pathlib.Path(out).write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
