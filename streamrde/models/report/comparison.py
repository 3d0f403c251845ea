"""Compare training runs: which is best by figures that all have, what differs, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from streamrde.fitting.record import Run
from streamrde.fitting.words import percent
from streamrde.models.sweeping.results import on_front
from streamrde.nearest import listed
from streamrde.pages.svg import number
from streamrde.toml import value

PARTS = {"test": "test streams", "validation": "streams that were left out", "train": "training streams"}
MEASURES = {
    "classification": {"accuracy_end": "right at the end of a stream", "accuracy_windows": "right, all windows"},
    "regression": {"rmse": "root mean square error", "rmse_end": "root mean square error at the end of a stream"},
}
_PLAIN = {
    "majority": "the most common class", "mean": "the mean", "last": "the last value known",
    "persistence": "the last value known", "nearest": "the most similar stream",
    "summaries": "a linear model of summaries", "fitted": "a reservoir of streamrde fit",
}  # fmt: skip
# Differences of fewer standard errors may be chance.
_ERRORS = 2.0
# A run that is cheaper by a smaller factor is not worth a sentence.
_CHEAPER = 1.5


class Comparison(NamedTuple):
    """Several runs, the best first."""

    runs: list[Run]
    part: str
    """Part of the data that judges: "test", or "validation" if a run has no test part. "": no common figure."""
    measure: str
    """Measure that judges, such as "accuracy_end". "": no common figure."""
    fronts: list[bool]
    """True for runs that no other beats in both score and cost of serving."""
    settings: dict[str, list[str]]
    """Settings that differ, by kind of run and dotted key, a text for each run."""
    card: dict[str, list[str]]
    """Rows of the models' cards that differ, a text for each run."""
    sentences: list[str]
    warnings: list[str]

    @property
    def scores(self) -> list[float]:
        """Return the figure of each run, NaN where there is no common one."""
        return [figure_of(run, self.part, self.measure) for run in self.runs]

    @property
    def percent(self) -> bool:
        """Return True if figures are shares."""
        return self.measure.startswith("accuracy")

    @property
    def name(self) -> str:
        """Return the figure's name."""
        return {name: text for own in MEASURES.values() for name, text in own.items()}.get(self.measure, "")

    @property
    def title(self) -> str:
        """Return the figure's name and the part that it is of."""
        return f"{self.name}, {PARTS[self.part]}" if self.measure else ""

    def said(self, score: float) -> str:
        """Format a figure."""
        return "-" if not math.isfinite(score) else percent(score) if self.percent else number(score)

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        import msgspec

        runs = [
            msgspec.to_builtins(run) | {"score": score if math.isfinite(score) else None, "front": front}
            for run, score, front in zip(self.runs, self.scores, self.fronts, strict=True)
        ]
        return {
            "part": self.part,
            "measure": self.measure,
            "runs": runs,
            "settings": self.settings,
            "card": self.card,
            "sentences": self.sentences,
            "warnings": self.warnings,
        }


def compare(runs: Sequence[Run]) -> Comparison:
    """Rank runs by the first figure that all have: of test streams, or else of streams that were left out."""
    part, measure = _common(runs)
    less = measure.startswith("rmse")

    def rank(run: Run) -> tuple[float, float]:
        # Of equal runs the cheaper one is better.
        score, cost = figure_of(run, part, measure), math.inf if run.stream_us is None else run.stream_us
        return (math.inf if not math.isfinite(score) else score if less else -score), cost

    ranked = sorted(runs, key=rank)
    known = [run for run in ranked if all(map(math.isfinite, rank(run)))]
    ahead = on_front([(figure_of(run, part, measure), run.stream_us or 0.0) for run in known], less=less)
    best = {id(run) for run, is_ahead in zip(known, ahead, strict=True) if is_ahead}
    found = Comparison(
        ranked, part, measure, [id(run) in best for run in ranked], _settings(ranked), _card(ranked), [], []
    )
    return found._replace(sentences=_sentences(found), warnings=_warnings(found))


def figure_of(run: Run, part: str, measure: str) -> float:
    """Return a measure of a run on a part of its data, or NaN."""
    found = run.measures.get(f"{part}_{measure}")
    return math.nan if found is None else found


def plain_of(run: Run, part: str, measure: str) -> tuple[str, float] | None:
    """Return the best plain model on the same streams, with its figure. None if there is none."""
    known = [
        (text, score)
        for name, text in _PLAIN.items()
        if math.isfinite(score := figure_of(run, part, f"{name}_{measure}"))
    ]
    best = min if measure.startswith("rmse") else max
    return best(known, key=lambda own: own[1], default=None)


def _common(runs: Sequence[Run]) -> tuple[str, str]:
    tasks = {run.task for run in runs}
    if len(tasks) == 1:
        for part in PARTS:
            for measure in MEASURES.get(next(iter(tasks)), ()):
                if all(math.isfinite(figure_of(run, part, measure)) for run in runs):
                    return part, measure
    return "", ""


def _settings(runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the settings that differ among runs of one kind, "-" for runs of other kinds."""
    found: dict[str, list[str]] = {}
    kinds = sorted({run.kind for run in runs})
    for kind in kinds:
        keys = dict.fromkeys(key for run in runs if run.kind == kind for key in run.settings)
        for key in keys:
            texts = [_text(run.settings, key) if run.kind == kind else "-" for run in runs]
            if len({text for text, run in zip(texts, runs, strict=True) if run.kind == kind and run.settings}) > 1:
                found[f"{kind}: {key}" if len(kinds) > 1 else key] = texts
    return found


def _card(runs: Sequence[Run]) -> dict[str, list[str]]:
    keys = dict.fromkeys(key for run in runs for key in run.card)
    rows = {key: [run.card.get(key, "-") for run in runs] for key in keys}
    # Trials of a sweep have no card.
    return {key: texts for key, texts in rows.items() if len({*texts} - {"-"}) > 1}


def _text(settings: Mapping[str, Any], key: str) -> str:
    if (found := settings.get(key)) is None:
        return "-"
    return value(found).strip('"')


def _sentences(found: Comparison) -> list[str]:
    if not found.measure:
        return []
    best, score = found.runs[0], found.scores[0]
    streams = best.measures.get(f"{found.part}_streams")
    of = f"{streams:,.0f} {PARTS[found.part]}" if streams else PARTS[found.part]
    reaches = {
        "accuracy_end": f"right at the end of {found.said(score)} of {of}",
        "accuracy_windows": f"right in {found.said(score)} of the windows of {of}",
    }.get(found.measure, f"with a {found.name} of {found.said(score)} on {of}")
    texts = [f"Best: {best.name}, {reaches}"]
    if len(found.runs) > 1:
        texts.append(f"Next: {found.runs[1].name}, {found.said(found.scores[1])}")
        if found.percent and streams:
            error = _ERRORS * math.sqrt(max(score * (1 - score), 1.0 / streams) / streams)
            if abs(score - found.scores[1]) < error:
                texts.append(
                    f"With {streams:,.0f} streams a difference of less than {percent(error)} may be chance: take the "
                    "cheaper one, or measure on more streams"
                )
    if plain := plain_of(best, found.part, found.measure):
        texts.append(f"The best plain model on the streams of {best.name}, {plain[0]}, reaches {found.said(plain[1])}")
    front = [run for run, ahead in zip(found.runs, found.fronts, strict=True) if ahead and run is not best]
    cheap = min(front, key=lambda run: run.stream_us or math.inf, default=None)
    if cheap is not None and best.stream_us and cheap.stream_us and best.stream_us > _CHEAPER * cheap.stream_us:
        shown = found.said(figure_of(cheap, found.part, found.measure))
        texts.append(f"{cheap.name} is served {best.stream_us / cheap.stream_us:.1f} times as fast, with {shown}")
    return texts


def _warnings(found: Comparison) -> list[str]:
    runs, texts = found.runs, []
    if len({run.task for run in runs}) > 1:
        texts.append("some runs predict classes and others numbers: their figures cannot be compared")
    targets = {", ".join(run.targets) for run in runs if run.targets}
    if len(targets) > 1:
        texts.append(
            f"the runs predict different targets ({listed(sorted(targets))}): their figures cannot be compared"
        )
    if len({run.data for run in runs if run.data}) > 1:
        texts.append("the runs learned from different files: their figures may be of different streams")
    streams = {count for run in runs if (count := run.measures.get(f"{found.part}_streams")) is not None}
    if len(streams) > 1:
        counts = ", ".join(f"{count:,.0f}" for count in sorted(streams))
        texts.append(f"the figures are of different numbers of streams ({counts}): compare them with care")
    if found.measure and found.part != "test":
        without = [run.name for run in runs if math.isnan(figure_of(run, "test", found.measure))]
        texts.append(
            f"no test streams in {listed(without, most=4)}: the figures are those of the {PARTS[found.part]}, which "
            "also chose among candidates or epochs, so they are slightly too good"
        )
    if not found.measure and len({run.task for run in runs}) == 1:
        texts.append("no figure is common to all runs: compare the measures one by one")
    if found.measure and (plain := plain_of(runs[0], found.part, found.measure)):
        less = found.measure.startswith("rmse")
        if (plain[1] <= found.scores[0]) if less else (plain[1] >= found.scores[0]):
            texts.append(f"even the best run is no better than {plain[0]}: {found.said(plain[1])}")
    return texts
