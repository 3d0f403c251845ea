"""A model behind River's interface: predict and learn one sample at a time, for many streams."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from streamrde.adapting.settings import Adapt
from streamrde.arrays import Floats
from streamrde.errors import MissingExtraError, ParameterError
from streamrde.inference.bundle import Bundle, load
from streamrde.inference.fleet import Fleet
from streamrde.inference.untrained import Scales, reservoir
from streamrde.nearest import did_you_mean, listed
from streamrde.times import as_time
from streamrde.windowing.policies import Every, WindowPolicy

try:
    from river import base
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "river":
        raise
    raise MissingExtraError("streamrde.river", "river") from None

Sample: TypeAlias = Mapping[Any, Any]
Model: TypeAlias = Bundle | str | os.PathLike[str] | None
_MOST = 4096
"""Predictions of a stream that are kept for labels to come, as many as a Fleet keeps at most."""


class _Known(NamedTuple):
    """A prediction, known from a time on."""

    t: float
    window: int
    value: Floats


class Predictor(base.Estimator):  # type: ignore[misc]
    """Predict and learn sample by sample, as River's models do. State and labels are kept for each stream.

    The model is fitted or trained beforehand, or it is an untrained reservoir that learns its whole readout from the
    labels, see `streamrde.reservoir`. `predict_one` takes a sample and returns the newest prediction of its
    stream, None before the first window closes. A sample is taken once: the same one does not count again, and
    `learn_one` takes a sample that was not predicted. `learn_one` brings the label of what was predicted at the sample;
    the stream learns from it as by `Fleet.label`. Of several samples between two predictions, the first label counts.

    An instance is a classifier, a regressor or a multi-target regressor of River, as the model says. Classes are texts.

    Args:
        model: a model, from `fit`, `train`, `load` or `reservoir`, or the path of its file. None: a reservoir of the
            settings below.
        time: key of the time in a sample, seconds or a datetime.
        stream: key of the stream's name in a sample. "": all samples are of one stream.
        adapt: use of labels, as of `Fleet`: "best" serves each stream a mix of all, by their errors so far.
        channels: of a reservoir: the keys of its channels in a sample, or centre and spread by key.
        windows: of a reservoir: seconds of a window, or another rule.
        targets: of a reservoir: names of the numbers to predict, or centre and spread by name.
        classes: of a reservoir: the classes to predict, in the place of targets.
    Attributes:
        fleet: the streams.
    Raises:
        BundleError, ParameterError: the file is no model, or the model predicts only when a stream ends.
    """

    def __new__(cls, model: Model = None, *others: Any, **settings: Any) -> Predictor:
        """Make the kind of River's models that the model's task asks for."""
        if cls is Predictor:
            own = {name: settings[name] for name in ("channels", "windows", "targets", "classes") if name in settings}
            parts = _bundle_of(model, **own).header.parts
            if len(parts) > 1:
                raise ParameterError(f"the model has {len(parts)} heads, and River's models predict one thing")
            numbers = _Regressor if parts[0].outputs == 1 else _MultiTargetRegressor
            cls = _Classifier if parts[0].classes else numbers
        return super().__new__(cls)  # type: ignore[no-any-return]

    def __init__(
        self,
        model: Model = None,
        time: str = "t",
        stream: str = "",
        adapt: Adapt | str = "best",
        *,
        channels: Scales = (),
        windows: WindowPolicy | float = 1.0,
        targets: Scales = ("y",),
        classes: Sequence[str] = (),
    ) -> None:
        self.model, self.time, self.stream, self.adapt = model, time, stream, adapt
        self.channels, self.windows, self.targets, self.classes = channels, windows, targets, classes
        bundle = _bundle_of(model, channels, windows, targets, classes)
        self.fleet = Fleet(bundle, adapt=adapt)  # type: ignore[arg-type]
        self._head = bundle.header.parts[0]
        self._channels = [channel.name for channel in bundle.header.channels]
        self._last: dict[str, float] = {}
        self._known: dict[str, deque[_Known]] = {}
        self._labelled: dict[str, int] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self._get_params(), self._state())

    def __deepcopy__(self, memo: dict[int, Any]) -> Predictor:
        # The model has no state of streams and is shared.
        memo[id(self)] = copied = _restored(type(self), self._get_params(), self._state())
        return copied

    def _state(self) -> tuple[Any, ...]:
        known = {name: deque(own, _MOST) for name, own in self._known.items()}
        return self.fleet.snapshot(), dict(self._last), known, dict(self._labelled)

    def clone(self, new_params: dict[str, Any] | None = None, include_attributes: bool = False) -> Any:
        """Return a predictor with the same model and settings, which has seen no sample."""
        if include_attributes:
            return _restored(type(self), {**self._get_params(), **(new_params or {})}, self._state())
        return type(self)(**{**self._get_params(), **(new_params or {})})

    def learn_one(self, x: Sample, y: Any) -> None:
        """Learn from the label of what was predicted at a sample.

        Args:
            x: the sample, as of `predict_one`.
            y: the class or number, or numbers by name. None or NaN: it is not known.
        Raises:
            ParameterError: y is no class of the model.
        """
        known = self._at(x)
        name = self._name(x)
        if known is None or y is None or known.window <= self._labelled.get(name, -1):
            return
        self.fleet.label([name], self._values(y), window=[known.window])
        self._labelled[name] = known.window

    def _newest(self, x: Sample) -> Floats | None:
        known = self._at(x)
        return None if known is None else known.value

    def _at(self, x: Sample) -> _Known | None:
        """Return what is predicted at a sample, which is taken if it is new."""
        name = self._name(x)
        t = self._time(x)
        found = self._known.setdefault(name, deque(maxlen=_MOST))
        if t > self._last.get(name, -np.inf):
            closed = self.fleet.push([name], [t], [self._row(x)])
            self._last[name] = t
            if len(closed):
                value = np.array(closed.column("value")[-1].as_py(), dtype=np.float64)
                found.append(_Known(t, closed.column("window")[-1].as_py(), value))
        place = len(found) if not found or found[-1].t <= t else bisect_right(found, t, key=lambda own: own.t)
        return found[place - 1] if place else None

    def _name(self, x: Sample) -> str:
        if self.stream and self.stream not in x:
            raise ParameterError(
                f"x has no '{self.stream}', which is to name its stream; it has {listed([*map(str, x)])}"
            )
        return str(x[self.stream]) if self.stream else ""

    def _time(self, x: Sample) -> float:
        if self.time not in x:
            raise ParameterError(
                f"x has no '{self.time}'{did_you_mean(self.time, [str(key) for key in x])}: name the key of the time "
                "with time"
            )
        return float(as_time(x[self.time]))

    def _row(self, x: Sample) -> list[float]:
        """Return the channels of a sample. Those that it does not have are not observed."""
        if not any(name in x for name in self._channels):
            raise ParameterError(
                f"x has no channel of {listed(self._channels)}, the model's; it has {listed([*map(str, x)])}"
            )
        values = (x.get(name) for name in self._channels)
        return [np.nan if value is None else float(value) for value in values]

    def _values(self, y: Any) -> Any:
        return [float(y)]


class _Classifier(Predictor, base.Classifier):  # type: ignore[misc]
    def predict_proba_one(self, x: Sample) -> dict[str, float]:
        """Take a sample, and return the probabilities of the classes. Empty before the first window closes."""
        value = self._newest(x)
        if value is None:
            return {}
        if self._head.is_binary:
            value = np.array([1 - value[0], value[0]])
        return dict(zip(self._head.classes, value.tolist(), strict=True))

    def predict_one(self, x: Sample) -> str | None:
        """Take a sample, and return the most probable class. None before the first window closes."""
        found = self.predict_proba_one(x)
        return max(found, key=found.__getitem__) if found else None

    def _values(self, y: Any) -> Any:
        return [None if y != y else str(y)]  # NaN is not known


class _Regressor(Predictor, base.Regressor):  # type: ignore[misc]
    def predict_one(self, x: Sample) -> float | None:
        """Take a sample, and return the number that is predicted. None before the first window closes."""
        value = self._newest(x)
        return None if value is None else float(value[0])


class _MultiTargetRegressor(Predictor, base.MultiTargetRegressor):  # type: ignore[misc]
    def predict_one(self, x: Sample) -> dict[str, float]:
        """Take a sample, and return the numbers by name. Empty before the first window closes."""
        value = self._newest(x)
        return {} if value is None else dict(zip(self._names(), value.tolist(), strict=True))

    def _names(self) -> list[str]:
        return list(self._head.labels) or [str(i) for i in range(self._head.outputs)]

    def _values(self, y: Any) -> Any:
        return [[float(y.get(name, np.nan)) for name in self._names()]]


def _bundle_of(
    model: Model,
    channels: Scales = (),
    windows: WindowPolicy | float = 1.0,
    targets: Scales = ("y",),
    classes: Sequence[str] = (),
) -> Bundle:
    """Return the model, or make a reservoir."""
    if model is not None:
        if channels:
            raise ParameterError("channels are those of the model: leave them out, or leave the model out")
        return model if isinstance(model, Bundle) else load(model)
    if not channels:
        raise ParameterError("give a model, or channels=[...], the keys of what a reservoir is to learn from")
    rule = windows if isinstance(windows, WindowPolicy) else Every(windows)
    return reservoir(channels, windows=rule, targets=() if classes else targets, classes=classes)


def _restored(kind: type[Predictor], params: dict[str, Any], state: tuple[Any, ...]) -> Predictor:
    """Return a predictor with its streams."""
    made = kind(**params)
    snapshots, made._last, made._known, made._labelled = state
    made.fleet.restore(snapshots)
    return made
