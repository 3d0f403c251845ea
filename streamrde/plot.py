"""Plots of recordings with their predictions, of log-signatures, and of novelty over time (extra `plot`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from streamrde.arrays import Floats
from streamrde.errors import MissingExtraError, ParameterError, ShapeError
from streamrde.inference.predictions import Prediction
from streamrde.signature.words import logsignature_channels, lyndon_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Predictions: TypeAlias = pa.RecordBatch | pa.Table | Iterable[Prediction | Mapping[str, Any]]

# Colours that the colour-blind tell apart (Okabe & Ito 2008), on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31", "#7F7F7F")
_GREY = "#7F7F7F"
# Part of a channel's lane that its line takes.
_FILLED = 0.8
# Windows beyond which their edges are not drawn, words beyond which they are not named, and streams with a line.
_MOST_EDGES = 200
_MOST_WORDS = 40
_MOST_STREAMS = len(COLOURS)
# Smallest p-value that is drawn: those of long recordings of training reach 1e-5.
_LEAST_P = 1e-6


def recording(
    t: ArrayLike,
    x: ArrayLike,
    predictions: Predictions = (),
    *,
    truth: str | float | Sequence[str] | Sequence[float] | None = None,
    edges: ArrayLike | None = None,
    channels: Sequence[str] | None = None,
    units: Sequence[str] = (),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw a stream's channels above each other, with the windows' edges, the predictions and the truth below.

    Each channel has a lane of its own, whose label has its unit and the range from the lane's bottom to its top.
    Classes are coloured bars, from each window's beginning to its end, fainter where they are less probable. Numbers
    are steps, and the truth is a dashed line in the same lane.

    Args:
        t: times of the samples, (L,), seconds.
        x: samples without time, (L, channels); NaN is a channel that was not observed.
        predictions: of one stream, as `Predictor.push` or `Fleet.push` return them. Provisional ones are left out.
        truth: the label or the number to predict, of the whole recording or one for each prediction.
        edges: of the windows, seconds. By default those of the predictions.
        channels: names of the channels.
        units: units of the channels, in their order.
        title: of the plot.
        ax: axes to draw on. None: new ones.
    Raises:
        ShapeError: t, x, channels or truth have another length.
        ParameterError: the predictions are of several streams.
        MissingExtraError: Matplotlib is not installed.
    """
    t, x = np.asarray(t, np.float64), np.asarray(x, np.float64)
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or t.shape != x.shape[:1]:
        raise ShapeError(f"t has shape {t.shape} and x {x.shape}: give t (L,) and x (L, channels), a row for each time")
    names = [f"channel {i + 1}" for i in range(x.shape[1])] if channels is None else [*channels]
    if len(names) != x.shape[1]:
        raise ShapeError(f"channels has {len(names)} names and x {x.shape[1]} columns: give one for each")
    rows = [row for row in _rows(predictions) if not row.get("provisional")]
    if len(streams := {row["stream"] for row in rows}) > 1:
        raise ParameterError(f"predictions of {len(streams)} streams: choose those of the one that is drawn")
    ax = _axes(ax, height=1.2 + 0.7 * (len(names) + bool(rows)))
    unit = dict(zip(names, units, strict=False))
    ticks = []
    for lane, name in enumerate(names):
        low, high = _lane(ax, -float(lane), t, [(x[:, lane], {"color": COLOURS[lane % len(COLOURS)], "lw": 1.0})])
        ticks.append((-lane + 0.5 * _FILLED, f"{_named(name, unit.get(name, ''))}\n{low:.3g} to {high:.3g}"))
    bounds = np.asarray(edges, np.float64) if edges is not None else _edges_of(rows)
    if len(bounds) <= _MOST_EDGES:
        for edge in bounds:
            ax.axvline(edge, color=_GREY, lw=0.5, alpha=0.35, zorder=0)
    if rows:
        told = _truths(truth, len(rows))
        draw = _classes if rows[0].get("label") is not None else _numbers
        ticks += draw(ax, -float(len(names)), rows, told)
    ax.set_yticks([place for place, _ in ticks], [text for _, text in ticks], fontsize=8)
    ax.set_ylim(min(place for place, _ in ticks) - 0.6, 1.0)
    ax.set_xlabel("time [s]")
    ax.set_title(title, loc="left")
    ax.margins(x=0.01)
    return ax


def logsignature(
    values: ArrayLike, channels: Sequence[str] | int, depth: int, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the coefficients of a window's log-signature as bars, by Lyndon word, the levels in different colours.

    The first level is how far each channel went. Words of two letters are the signed areas between pairs of channels.

    Args:
        values: in the basis "words", (B,).
        channels: names of the path's channels, time included, in its order; or their number.
        depth: of the log-signature.
        title: of the plot.
        ax: axes to draw on. None: new ones.
    Raises:
        ShapeError: `values` is not the log-signature of so many channels at this depth.
        MissingExtraError: Matplotlib is not installed.
    """
    values = np.asarray(values, np.float64)
    names = [f"{i + 1}" for i in range(channels)] if isinstance(channels, int) else [*channels]
    if values.shape != (size := logsignature_channels(len(names), depth),):
        raise ShapeError(
            f"values has shape {values.shape}, and a log-signature of {len(names)} channels at depth {depth} has "
            f"({size},): give one window, and count time as a channel"
        )
    ax = _axes(ax, height=3.0)
    words = lyndon_words(len(names), depth)
    levels = np.array([len(word) for word in words])
    places = np.arange(size)
    for level in range(1, depth + 1):
        own = levels == level
        ax.bar(places[own], values[own], color=COLOURS[(level - 1) % len(COLOURS)], label=f"level {level}", width=0.8)
    ax.axhline(0.0, color=_GREY, lw=0.6)
    if size <= _MOST_WORDS:
        ax.set_xticks(places, ["·".join(names[i] for i in word) for word in words], rotation=90, fontsize=8)
    ax.set_xlabel("Lyndon word")
    ax.set_ylabel("coefficient\n[product of units]")
    ax.set_title(title, loc="left")
    if depth > 1:
        ax.legend(frameon=False, fontsize=8)
    ax.margins(x=0.01)
    return ax


def novelty(predictions: Predictions, *, level: float = 0.01, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the windows' p-values over time, and mark those below a level.

    Args:
        predictions: of one or more streams, with novelty: `Fleet(bundle, novelty=True)`.
        level: p-value below which a window is marked.
        title: of the plot.
        ax: axes to draw on. None: new ones.
    Raises:
        ParameterError: no prediction has a p-value, or `level` is not between 0 and 1.
        MissingExtraError: Matplotlib is not installed.
    """
    if not 0.0 < level < 1.0:
        raise ParameterError(f"level={level}: give a p-value between 0 and 1, such as 0.01")
    rows = [row for row in _rows(predictions) if row.get("novelty") is not None]
    if not rows:
        raise ParameterError("no prediction has a p-value: use novelty = true and a model that was trained with it")
    ax = _axes(ax, height=2.6)
    streams = [*dict.fromkeys(row["stream"] for row in rows)]
    for i, stream in enumerate(streams):
        own = [row for row in rows if row["stream"] == stream]
        t = np.array([row["t_end"] for row in own])
        p = np.maximum([row["novelty"] for row in own], _LEAST_P)
        colour = COLOURS[i] if i < _MOST_STREAMS else _GREY
        named = stream if i < _MOST_STREAMS else f"{len(streams) - _MOST_STREAMS} more" if i == _MOST_STREAMS else None
        ax.plot(t, p, "-", color=colour, lw=1.0, alpha=0.8, label=_text(named))
        rare = p < level
        ax.plot(t[rare], p[rare], "o", color=COLOURS[1] if len(streams) == 1 else colour, ms=4)
    ax.axhline(level, color=_GREY, lw=0.8, ls="--")
    ax.annotate(f"p = {level:g}", (1.0, level), xycoords=("axes fraction", "data"), fontsize=8, color=_GREY,
                ha="right", va="bottom")  # fmt: skip
    ax.set_yscale("log")
    ax.set_ylim(top=1.5)
    ax.set_xlabel("time [s]")
    ax.set_ylabel("p-value of the window")
    ax.set_title(title, loc="left")
    if len(streams) > 1:
        ax.legend(frameon=False, fontsize=8, loc="lower left")
    ax.margins(x=0.01)
    return ax


def _axes(ax: Axes | None, *, height: float) -> Axes:
    """Return the axes to draw on, without a frame above and at the right."""
    if ax is None:
        try:
            from matplotlib import pyplot
        except ImportError:
            raise MissingExtraError("streamrde.plot", "plot") from None
        _, ax = pyplot.subplots(figsize=(9.0, height), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(_GREY)
    ax.tick_params(color=_GREY)
    return ax


def _rows(predictions: Predictions) -> list[dict[str, Any]]:
    if isinstance(predictions, pa.RecordBatch | pa.Table):
        return [*predictions.to_pylist()]
    return [msgspec.structs.asdict(one) if isinstance(one, Prediction) else dict(one) for one in predictions]


def _named(name: str, unit: str) -> str:
    return _text(f"{name} [{unit}]" if unit else name) or ""


def _text(text: str | None) -> str | None:
    """Return text that Matplotlib draws as it is: a dollar begins a formula there."""
    return None if text is None else text.replace("$", r"\$")


def _lane(ax: Axes, bottom: float, t: Floats, lines: Sequence[tuple[Floats, dict[str, Any]]]) -> tuple[float, float]:
    """Draw lines of one range in a lane. Return the range."""
    every = np.concatenate([values for values, _ in lines])
    finite = every[np.isfinite(every)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    size = high - low
    for values, style in lines:
        shown = np.isfinite(values)  # what was not observed is bridged
        level = (values[shown] - low) / size if size else np.full(shown.sum(), 0.5)
        ax.plot(t[shown], bottom + _FILLED * level, **style)
    return low, high


def _edges_of(rows: Sequence[Mapping[str, Any]]) -> Floats:
    return np.unique([[row["t_start"], row["t_end"]] for row in rows]) if rows else np.empty(0)


def _truths(truth: Any, windows: int) -> list[Any] | None:
    """Return the truth of each window. None: it is not known."""
    if truth is None:
        return None
    if isinstance(truth, str) or np.ndim(truth) == 0:
        return [truth] * windows
    if len(truth) != windows:
        raise ShapeError(f"truth has {len(truth)} values for {windows} predictions: give one, or one for each")
    return [*truth]


def _classes(
    ax: Axes, lane: float, rows: Sequence[Mapping[str, Any]], truth: list[Any] | None
) -> list[tuple[float, str]]:
    """Draw the predicted classes as bars, and the true ones below."""
    told = [row["label"] or "not finite" for row in rows]
    sure = [max(row["value"]) if len(row["value"]) > 1 else max(row["value"][0], 1 - row["value"][0]) for row in rows]
    labels = [*dict.fromkeys([*sorted(set(told)), *map(str, truth or ())])]
    colours = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(labels)}
    ticks = []
    for place, name, shown, alpha in (
        (lane + 0.35, "predicted", told, [0.25 + 0.75 * float(p) if np.isfinite(p) else 0.25 for p in sure]),
        (lane, "truth", truth, [1.0] * len(rows)),
    ):
        if shown is None:
            continue
        for row, label, strength in zip(rows, shown, alpha, strict=True):
            span = (row["t_start"], row["t_end"] - row["t_start"])
            ax.broken_barh([span], (place, 0.28), color=colours[str(label)], alpha=strength, lw=0)
        ticks.append((place + 0.14, name))
    for label in labels:
        ax.plot([], [], "s", color=colours[label], label=_text(label))
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ticks


def _numbers(
    ax: Axes, lane: float, rows: Sequence[Mapping[str, Any]], truth: list[Any] | None
) -> list[tuple[float, str]]:
    """Draw the predicted numbers as steps, each output in a colour, and the true ones dashed."""
    value = np.array([row["value"] for row in rows], np.float64)
    t = np.repeat([[row["t_start"], row["t_end"]] for row in rows], 1, axis=0).ravel()
    lines = [
        (np.repeat(value[:, i], 2), {"color": COLOURS[i % len(COLOURS)], "lw": 1.6, "label": "predicted"})
        for i in range(value.shape[1])
    ]
    if truth is not None:
        known = np.array(truth, np.float64).reshape(len(rows), -1)
        style = {"color": "black", "lw": 1.0, "ls": "--", "label": "truth"}
        lines += [(np.repeat(known[:, i], 2), style) for i in range(known.shape[1])]
    low, high = _lane(ax, lane, t, lines)
    if truth is not None:
        handles, labels = ax.get_legend_handles_labels()
        single = dict(zip(labels, handles, strict=True))
        ax.legend(
            single.values(), single.keys(), frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0)
        )
    return [(lane + 0.5 * _FILLED, f"predicted\n{low:.3g} to {high:.3g}")]
