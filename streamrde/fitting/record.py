"""Keep what a run was and reached as data in its page, so that runs can be compared."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from streamrde.errors import DataError
from streamrde.fitting.card import MEASURED
from streamrde.inference.bundle import Bundle
from streamrde.inference.card import sections
from streamrde.toml import dotted

Kind: TypeAlias = Literal["train", "fit", "trial"]

_OPEN, _CLOSE = "<!--streamrde-runs ", "-->"
# Larger pages are not those of a run.
_MOST_BYTES = 100_000_000
# Sections of a card that say what the model is. What it measured and learned from has its own place in a record.
_CARD = ("what it takes", "what it gives", "the model")
# Rows of them that differ between any two runs.
_OWN = ("fingerprint", "training streams", "novelty", "flags")
# Measures of one answer to each stream, which training takes at the stream's end, or of all windows.
_OF_CLASSES = "accuracy|auc|average_precision|f1|log_loss|calibration"
_OF_NUMBERS = "rmse|mae|r2"


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """A value over the epochs of a training."""

    epochs: tuple[float, ...]
    minutes: tuple[float, ...]
    """Minutes since the first epoch began, at each epoch's end."""
    values: tuple[float | None, ...]
    """None: the epoch had no finite value."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A training run, a fit or a trial of a sweep."""

    name: str
    kind: Kind
    task: str
    """Kind of target: "classification" or "regression"."""
    targets: tuple[str, ...] = ()
    data: str = ""
    """Files that it learned from."""
    model: str = ""
    """Path of the model's file, as the run wrote it. "": none was written."""
    fingerprint: str = ""
    settings: dict[str, Any] = {}
    """Values of the configuration by dotted key."""
    card: dict[str, str] = {}
    """Rows of the model's card: windows, token, state and so on."""
    curves: dict[str, Curve] = {}
    """By name: "loss" (training), "validation_loss", and the measure that chose the epoch."""
    measures: dict[str, float | None] = {}
    """As `Header.metrics`, with the names that training gives them."""
    seconds: float | None = None
    """Duration. None: not known."""
    parameters: int | None = None
    stream_us: float | None = None
    """Microseconds to serve a second of one stream: the steps and readouts of its windows."""


def run_of(
    bundle: Bundle,
    *,
    name: str,
    kind: Kind,
    targets: Sequence[str] = (),
    data: str | Sequence[str] = "",
    settings: Mapping[str, Any] | None = None,
    curves: Mapping[str, Curve] | None = None,
    seconds: float | None = None,
    model: str = "",
) -> Run:
    """Return the record of the run that made a model."""
    rows = [row for part in sections(bundle) if part.title in _CARD for row in part.rows]
    header, fitted = bundle.header, MEASURED in bundle.header.training
    return Run(
        name=name,
        kind=kind,
        task=header.task,
        targets=tuple(targets),
        data=data if isinstance(data, str) else ", ".join(data),
        model=os.fspath(model),
        fingerprint=bundle.fingerprint,
        settings=dotted(settings or {}),
        card={row[0]: row[1] for row in rows if row[0] not in _OWN},
        curves=dict(curves or {}),
        measures=aligned(header.metrics, along=header.target_at != "stream") if fitted else dict(header.metrics),
        seconds=seconds,
        parameters=bundle.parameters,
    )


def aligned(metrics: Mapping[str, float], *, along: bool) -> dict[str, float | None]:
    """Return the measures of a fit with the names that training gives them.

    A fit measures one answer to each stream, which is that at its end, or, with targets along streams, those of all
    windows. So its "test_accuracy" is "test_accuracy_end" or "test_accuracy_windows".

    >>> aligned({"validation_accuracy": 0.9, "test_nearest_rmse": 1.5}, along=False)
    {'validation_accuracy_end': 0.9, 'test_nearest_rmse_end': 1.5}
    """
    names, by = (_OF_CLASSES, "windows") if along else (f"{_OF_CLASSES}|{_OF_NUMBERS}", "end")
    return {f"{name}_{by}" if re.search(f"_({names})$", name) else name: value for name, value in metrics.items()}


def as_comment(runs: Sequence[Run]) -> str:
    """Return runs as an HTML comment, which a page holds and does not show."""
    text = msgspec.json.encode(runs).decode()
    # No text may end the comment. JSON has these signs within strings alone, or a minus before a digit.
    for sign in "<>":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return f"{_OPEN}{text.replace('--', '-' + chr(92) + 'u002d')}{_CLOSE}"


def read_runs(path: str | os.PathLike[str]) -> list[Run]:
    """Read the runs that a page holds, an empty list if it holds none.

    Raises:
        DataError: the file cannot be read, or what it holds is damaged.
    """
    try:
        if Path(path).stat().st_size > _MOST_BYTES:
            return []
        text = Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; give the page or the model of a run", path=str(path)) from None
    begin = text.rfind(_OPEN.encode())
    end = text.find(_CLOSE.encode(), begin)
    if begin < 0 or end < 0:
        return []
    try:
        return msgspec.json.decode(text[begin + len(_OPEN) : end], type=list[Run])
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: the runs in it cannot be read ({error}); write the page again with this version of streamrde",
            path=str(path),
        ) from None
