"""Compare predictions corrected by late labels with frozen ones and with the simplest answers.

    python tests/benchmarks/late_labels.py FOLDER [--sets bidmc beijing6 beijing24]

FOLDER holds the files that fit_sets.py names. All errors are progressive: each label is predicted before it is learned.

bidmc: models of `fit` that have not seen a patient (out of fold) answer for an excerpt of 32 s each 15 s. Once a minute
the truth about an excerpt comes, 60 s late. Settings of the corrections come from patients of the other folds.
beijing6, beijing24: a model of the first three years; the last year's labels come when they are due.
"""

from __future__ import annotations

import argparse
import pathlib

import intervals
import numpy as np
import pyarrow as pa
from fit_sets import SETS, file_of

import streamrde as sr
from streamrde.adapting.baselines import METHODS
from streamrde.adapting.learning import find_learned
from streamrde.adapting.progress import progress, summary
from streamrde.adapting.section import Adapting, Times
from streamrde.adapting.settings import Adapt
from streamrde.adapting.targets import Part, Targets
from streamrde.adapting.trackers import Tracking
from streamrde.inference.labels import adapting_of
from streamrde.inference.states import Serving

LATE, EVERY = 60.0, 60.0
# Recordings of eight minutes: no more labels come.
AFTER = (1, 3, 6)
# Errors below this share of a target's spread count as that, where they are compared in a patient whose target stands.
SMALL = 0.05


def rmse(squares: list[np.ndarray]) -> np.ndarray:
    return np.sqrt(np.nanmean(np.array(squares), axis=0))


def show(title: str, errors: dict[str, list[np.ndarray]]) -> None:
    print(f"{title}: " + "; ".join(f"{name} {' / '.join(f'{e:.2f}' for e in rmse(e))}" for name, e in errors.items()))


def bidmc(folder: pathlib.Path, minutes: float) -> None:
    file = file_of("bidmc", folder)
    assert file is not None
    parts = SETS["bidmc"].parts(file)
    part = next(iter(parts))
    table = pa.concat_tables([part.train, part.test])
    names = SETS["bidmc"].target
    report = sr.fit(table, names, group="patient", stream="stream_id", time="t", drop=(), minutes=minutes)
    examples, frozen = report.fitted.examples, report.fitted.chosen.held_out
    # As_examples keeps the order of the recordings: one row each.
    ids = [recording.stream for recording in examples.recordings]
    patient = np.unique([name.rsplit("_", 1)[0] for name in ids], return_inverse=True)[1]
    t_end = np.array([float(name.rsplit("_", 1)[1]) + 32.0 for name in ids])
    order = np.lexsort((t_end, patient))
    patient, t_end, frozen, truth, fold = (
        column[order] for column in (patient, t_end, frozen, examples.truth, examples.folds)
    )
    errors: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, "best")}
    after: dict[int, dict[str, list[np.ndarray]]] = {n: {name: [] for name in (*METHODS, "best")} for n in AFTER}
    worst, later = np.zeros((2, len(names)))
    for number in np.unique(fold):
        others = fold != number
        minute = others & (np.round(t_end - 32.0) % EVERY == 0)
        shift, scale = truth[others].mean(axis=0), truth[others].std(axis=0)
        targets = Targets([Part("numbers", slice(0, len(names)))], shift, scale)
        learned = find_learned(targets, patient[minute], t_end[minute], frozen[minute], truth[minute], lag=LATE)
        assert learned is not None
        section = Adapting(targets, Times(0.0, 15.0), Adapt(), learned, np.empty(0), 0)
        for one in np.unique(patient[fold == number]):
            own = np.flatnonzero(patient == one)
            rows, slots, wait, known = section.blank[None].copy(), np.zeros(1, np.intp), [], 0
            squares: dict[str, list[np.ndarray]] = {name: [] for name in (*METHODS, "best")}
            begun = 0
            for window, at in enumerate(own):
                while wait and t_end[wait[0][1]] + LATE <= t_end[at]:
                    number_of, place = wait.pop(0)
                    section.label(rows, slots, truth[place][None], np.array([number_of]), None)
                    known += 1
                served = section.issue(
                    rows, slots, np.array([window]), t_end[at][None], frozen[at][None], np.empty((1, 0))
                )
                for name, value in zip((*METHODS, "best"), (*served.by_method[0], served.value[0]), strict=True):
                    square = (value - truth[at]) ** 2
                    squares[name].append(square)
                    errors[name].append(square)
                    if known in AFTER:
                        after[known][name].append(square)
                begun += not known
                if round(t_end[at] - 32.0) % EVERY == 0:
                    wait.append((window, at))
            worst = np.maximum(worst, rmse(squares["best"]) / np.maximum(rmse(squares["last"]), 1e-9))
            roots = (np.maximum(rmse(squares[name][begun:]), SMALL * scale) for name in ("best", "last"))
            later = np.maximum(later, next(roots) / next(roots))
    print(f"BIDMC, {len(np.unique(patient))} patients, {' / '.join(names)}, root mean squared errors")
    show("all", errors)
    for n in AFTER:
        show(f"after {n} labels", after[n])
    print("error of best by that of the last label, worst patient: " + " / ".join(f"{ratio:.2f}" for ratio in worst))
    print("the same, predictions after the first label: " + " / ".join(f"{ratio:.2f}" for ratio in later))


def beijing(folder: pathlib.Path, hours: int) -> None:
    case = intervals.beijing(folder, hours)
    serving = Serving(adapt=Adapt(serve="best", pending=hours + 8), intervals=Tracking())
    found = progress(adapting_of(case.bundle, serving, 0), case.windows, horizon=case.horizon)
    said = summary(case.windows, found, case.names, scale=np.array([np.nanstd(case.windows.label)]))
    print(f"Beijing, {hours} h ahead, the last year, {said['labels']:,} labels, root mean squared errors")
    print("all: " + "; ".join(f"{name} {values[0]:.2f}" for name, values in said["rmse"].items()))
    print(said["beside_last"], {name: value for name, value in said["coverage"][0].items() if name != "streams"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sets", nargs="+", default=["bidmc", "beijing6", "beijing24"])
    parser.add_argument("--minutes", type=float, default=1.0, help="time that the fit of bidmc may take")
    asked = parser.parse_args()
    for name in asked.sets:
        if name == "bidmc":
            bidmc(asked.folder, asked.minutes)
        else:
            beijing(asked.folder, int(name.removeprefix("beijing")))


if __name__ == "__main__":
    main()
