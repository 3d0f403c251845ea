"""Draw one recorded stream, and what the model says while it runs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats
from streamrde.fitting.examples import Candidate, Examples
from streamrde.fitting.recordings import Recording
from streamrde.fitting.serving import answers_of
from streamrde.inference.bundle import Bundle
from streamrde.pages.page import charts, figure, section
from streamrde.pages.svg import Axis, Plot, axis, thinned

# Channels and classes that are drawn, and points of a line.
_CHANNELS, _CLASSES, _POINTS = 7, 5, 600
# Windows with a truth of their own that are drawn, the last ones.
_WINDOWS = 200


class _Shown(NamedTuple):
    recording: Recording
    end: Floats
    value: Floats
    truth: Floats
    """(K, 1) or (K, outputs)."""
    known: bool
    """True if the model that answers has learned from the stream."""


def portrait(examples: Examples, candidate: Candidate, bundle: Bundle) -> str:
    """Return a section of the page with the stream of median duration, or "" if no window of it closed.

    The answers are those of a model that has not seen the stream, if the candidate keeps one.
    """
    spans = np.array([recording.t[-1] - recording.t[0] for recording in examples.recordings])
    place = int(np.argsort(spans, kind="stable")[len(spans) // 2])
    shown = _along(examples, candidate, place) if examples.along else _whole(examples, candidate, bundle, place)
    if not len(shown.end):
        return ""
    t, x = shown.recording.t, shown.recording.x
    begin, last = float(t[0]), max(float(t[-1]), float(shown.end[-1]))
    if examples.along:
        begin = max(begin, float(shown.end[0] - (shown.end[-1] - shown.end[0]) / max(1, len(shown.end) - 1)))
    across = axis("seconds since the stream began", [begin - t[0], last - t[0]])
    kept = np.flatnonzero((t >= begin) & (t <= last))
    kept = kept[list(thinned(len(kept), _POINTS))]
    figures = [_answers(shown, examples, across)]
    for j, name in enumerate(examples.channels[:_CHANNELS]):
        plot = Plot(across, axis(name, x[kept, j]), title=name, height=180)
        observed = kept[np.isfinite(x[kept, j])]
        plot.line(t[observed] - t[0], x[observed, j], colour=0)
        figures.append(figure(name, plot.svg()))
    others = len(examples.channels) - _CHANNELS
    more = f" Channels that are not drawn: {others}." if others > 0 else ""
    model = "The model has learned from this stream." if shown.known else "The model that answers has not seen it."
    if examples.along:
        # Other windows of the stream may have been learned from.
        model = "Each window is answered by a model that has not seen that window."
    title = "One stream while it runs"
    return section(title, f"Stream '{shown.recording.stream}', of median duration. {model}{more}", charts(*figures))


def _whole(examples: Examples, candidate: Candidate, bundle: Bundle, place: int) -> _Shown:
    model = bundle if candidate.without is None else candidate.without(int(examples.folds[place]))
    recording = examples.recordings[place]
    (answers,) = answers_of(model, [recording])
    truth = np.repeat(examples.truth[place][None], len(answers.end), axis=0)
    return _Shown(recording, answers.end, answers.value, truth, candidate.without is None)


def _along(examples: Examples, candidate: Candidate, place: int) -> _Shown:
    own = np.flatnonzero((examples.stream == place) & np.isfinite(candidate.held_out).all(axis=1))[-_WINDOWS:]
    return _Shown(
        examples.recordings[place], examples.ends[own], candidate.held_out[own], examples.truth[own], known=False
    )


def _answers(shown: _Shown, examples: Examples, across: Axis) -> str:
    at = shown.end - shown.recording.t[0]
    if not examples.labels:
        return _numbers(shown, examples, across)
    title = "What the model says"
    plot = Plot(across, axis("probability", [0, 1], zero=True, high=1, percent=True), title=title, height=240)
    codes = np.unique(shown.truth[np.isfinite(shown.truth)]).astype(int)
    true = [examples.labels[code] for code in codes]
    first = int(shown.truth[-1, 0])
    likely = [int(code) for code in np.argsort(-shown.value.max(axis=0), kind="stable") if code != first]
    drawn = [first, *likely[: _CLASSES - 1]]
    for colour, code in enumerate(drawn, start=1):
        plot.line(at, shown.value[:, code], colour=colour, label=examples.labels[code][:12])
    caption = f"in truth it is {true[0]}" if len(true) == 1 else f"in truth it is {examples.labels[first]} at the end"
    left = len(examples.labels) - len(drawn)
    return figure(
        title, plot.svg(), caption + (f"; less likely classes that are not drawn: {left}" if left > 0 else "")
    )


def _numbers(shown: _Shown, examples: Examples, across: Axis) -> str:
    name = examples.targets[0] if examples.targets else "target"
    at = shown.end - shown.recording.t[0]
    plot = Plot(across, axis(name, [*shown.truth[:, 0], *shown.value[:, 0]]), title=name, height=240)
    plot.line(at, shown.truth[:, 0], colour=0, dashed=True, label="truth")
    plot.line(at, shown.value[:, 0], label="model")
    ahead = f"{examples.horizon:g} s after each window's end" if examples.horizon else ""
    return figure(f"What the model says: {name}", plot.svg(), ahead)
