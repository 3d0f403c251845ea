"""Classify streams, and predict numbers of them, behind scikit-learn's interface."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_array, check_random_state, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from streamrde.arrays import Floats
from streamrde.errors import ShapeError
from streamrde.fitting.report import Report
from streamrde.fitting.weights import ClassWeights
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.predictor import Predictor
from streamrde.sklearn.answers import all_answers, last_answers
from streamrde.sklearn.learning import Config, Truth, learn
from streamrde.sklearn.panels import Fitted, Layout, Panel, Streams, read_panel
from streamrde.sklearn.targets import aligned


class _StreamEstimator(BaseEstimator):  # type: ignore[misc]
    """Fit a model of streams and ask it."""

    def __init__(
        self,
        *,
        stream: str | None = None,
        time: str | None = None,
        channels: Sequence[str] = (),
        step: float = 1.0,
        minutes: float | None = None,
        choice: str = "",
        config: Config | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        self.stream = stream
        self.time = time
        self.channels = channels
        self.step = step
        self.minutes = minutes
        self.choice = choice
        self.config = config
        self.random_state = random_state

    _fitted: Fitted
    bundle_: Bundle
    report_: Report | None
    channels_: tuple[str, ...]
    n_features_in_: int
    plainest_: Floats

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def __getstate__(self) -> dict[str, Any]:
        # The report holds the streams and all candidates. A copy in another process needs the model alone.
        return {**super().__getstate__(), "report_": None} if hasattr(self, "report_") else super().__getstate__()

    def _panel(self, X: Streams) -> Panel:
        layout = Layout(self.stream, self.time, tuple(self.channels), self.step)
        return read_panel(X, layout, estimator=type(self).__name__, fitted=getattr(self, "_fitted", None))

    def _read(self, X: Streams) -> Panel:
        """Return the streams to fit.

        Raises:
            ShapeError: there is a single one, or none has two samples.
        """
        for name in ("_fitted", "bundle_", "report_"):
            if hasattr(self, name):
                delattr(self, name)
        panel = self._panel(X)
        if len(panel.t) < 2:
            raise ShapeError("X has 1 stream (n_samples = 1): give two or more")
        short = sum(len(t) < 2 for t in panel.t)
        if short == len(panel.t):
            raise ShapeError("X has one time point for each stream (n_features = 1): give two or more")
        if short:
            warnings.warn(f"{short:,} streams have a single sample and are not learned from", stacklevel=3)
        return panel

    def _fit(self, panel: Panel, truth: Truth, class_weights: ClassWeights = "equal") -> Self:
        given = self.random_state
        seed = int(given) if isinstance(given, int | np.integer) else int(check_random_state(given).randint(1 << 31))
        learned = learn(
            panel, truth, config=self.config, minutes=self.minutes, choice=self.choice, class_weights=class_weights,
            seed=seed,
        )  # fmt: skip
        self.bundle_, self.report_ = learned
        self._fitted = Fitted(panel.channels, panel.width)
        self.channels_, self.n_features_in_ = panel.channels, panel.features
        return self

    def _answers(self, X: Streams) -> tuple[Panel, Floats]:
        """Return the model's last answer to each stream, the plainest where there is none."""
        check_is_fitted(self)
        panel = self._panel(X)
        found, silent = last_answers(self.bundle_, panel)
        if silent.any():
            warnings.warn(
                f"{silent.sum():,} of {len(silent):,} streams close no window: the plainest answer stands for them",
                stacklevel=3,
            )
        return panel, found

    def predict_over_time(self, X: Streams) -> pa.Table:
        """Return the answers as each stream goes on, one row after each window: those that a live service gives.

        Columns are stream, window, t_start, t_end, value, for classes label, and flag, as of `Fleet.push`. Streams of
        arrays are called "0", "1", ...; the rows of each stand in order of time.
        """
        check_is_fitted(self)
        return all_answers(self.bundle_, self._panel(X))

    def predictor(self, **settings: Any) -> Predictor:
        """Return a predictor of one live stream. `settings` are those of `streamrde.Predictor`."""
        check_is_fitted(self)
        return Predictor(self.bundle_, **settings)

    def fleet(self, **settings: Any) -> Fleet:
        """Return predictors of many live streams. `settings` are those of `streamrde.Fleet`."""
        check_is_fitted(self)
        return Fleet(self.bundle_, **settings)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model as a file that `streamrde.load` and `streamrde run` read."""
        check_is_fitted(self)
        self.bundle_.save(path)


class NeuralRDEClassifier(ClassifierMixin, _StreamEstimator):  # type: ignore[misc]
    """Classify streams, one class each.

    `fit` takes what `streamrde.fit` takes and chooses among the same candidates, in seconds and without PyTorch: random
    features of log-signatures or summaries, with a linear readout. With `config` it trains a Neural RDE, or any other
    field, as `streamrde train` does. The model answers at any time of a live stream, see `predictor` and `save`.

    Args:
        stream, time: columns of data frames. None: found by their usual names. time = "": rows are `step` apart.
        channels: columns of data frames, or names of an array's channels. (): all other columns of numbers, or "c0",
            "c1", ...
        step: seconds between the time points of arrays.
        minutes: time after which no further candidate is tried. None: all are.
        choice: name of the candidate to fit, as `report_.table` has it. "": the best one by streams left out in turn.
        config: train as it says: the path of a TOML file of `streamrde train`, or its tables. Its data, output and test
            part are not used: the streams are X, and all of them are for learning. Needs the extra 'train'.
        class_weight: None, "balanced", or a factor for each class, as in scikit-learn.
        random_state: seed of random features and folds, or of the training.
    Attributes:
        classes_: the classes, in ascending order.
        bundle_: the fitted model.
        report_: the report of `streamrde.fit`. None after training, and in copies by pickle.
        channels_: names of the channels.
        n_features_in_: number of columns of a table, else of channels.
    """

    classes_: NDArray[Any]

    def __init__(
        self,
        *,
        stream: str | None = None,
        time: str | None = None,
        channels: Sequence[str] = (),
        step: float = 1.0,
        minutes: float | None = None,
        choice: str = "",
        config: Config | None = None,
        class_weight: str | Mapping[Any, float] | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> None:
        super().__init__(
            stream=stream, time=time, channels=channels, step=step, minutes=minutes, choice=choice, config=config,
            random_state=random_state,
        )  # fmt: skip
        self.class_weight = class_weight

    def fit(self, X: Streams, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fit the model.

        Args:
            X: the streams, see `streamrde.sklearn.panels.Streams`.
            y: class of each stream, (streams,). For a data frame: in ascending order of the column of streams, or a
                Series whose index has their names.
            groups: group of each stream, such as its person, (streams,). Groups are not divided between learning and
                judging. None: each stream is its own group.
        Raises:
            ShapeError, ValueError: X or y have other axes, lengths or values than said.
            DataError, ParameterError: as `streamrde.fit`, or `streamrde.train` with a config.
        """
        panel = self._read(X)
        given = aligned(y, panel, X, type(self).__name__)
        y = column_or_1d(given, warn=True)
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ShapeError(f"y has 1 class, {self.classes_[0]!r}: give streams of two or more")
        self.plainest_ = np.bincount(codes) / len(codes)
        labels = self._labels()
        columns = {getattr(given, "name", None) or "label": [labels[code] for code in codes]}
        weights: ClassWeights = "equal"
        if isinstance(self.class_weight, Mapping):
            weights = {str(label): float(factor) for label, factor in self.class_weight.items()}
        elif self.class_weight is not None:
            weights = self.class_weight  # type: ignore[assignment]
        return self._fit(panel, Truth(columns, True, _groups(groups, panel, X, self)), weights)

    def predict_proba(self, X: Streams) -> Floats:
        """Return the probabilities of the classes at each stream's end, (streams, classes), in the order of `classes_`.

        A part of each stream has the answer that is known by then: `X[:, :, :10]`.
        """
        _, found = self._answers(X)
        labels = self._labels()
        own = [labels.index(label) for label in self.bundle_.header.parts[0].classes]
        probabilities = np.zeros((len(found), len(labels)))
        probabilities[:, own] = found
        silent = np.isnan(found).any(axis=1)
        probabilities[silent] = self.plainest_
        return probabilities

    def predict(self, X: Streams) -> NDArray[Any]:
        """Return the most probable class at each stream's end, (streams,)."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def score(self, X: Streams, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the accuracy. `y` is as of `fit`."""
        check_is_fitted(self)
        own = aligned(y, self._panel(X), X, type(self).__name__)
        return float(super().score(X, own, sample_weight))

    def _labels(self) -> list[str]:
        """Return the classes as texts, as the model names them."""
        found = [str(own) for own in self.classes_.tolist()]
        return found if len(set(found)) == len(found) else [str(i) for i in range(len(found))]


class NeuralRDERegressor(RegressorMixin, _StreamEstimator):  # type: ignore[misc]
    """Predict a number of each stream, or several.

    See `NeuralRDEClassifier`, which has the same parameters but `class_weight`, and the same attributes but `classes_`.
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.regressor_tags.poor_score = True  # where one column of a table, so one moment, decides: see excused
        return tags

    def fit(self, X: Streams, y: ArrayLike, *, groups: ArrayLike | None = None) -> Self:
        """Fit the model.

        Args:
            X: the streams, see `streamrde.sklearn.panels.Streams`.
            y: numbers of each stream, (streams,) or (streams, targets). For a data frame: in ascending order of the
                column of streams, or with an index that has their names.
            groups: group of each stream, as of `NeuralRDEClassifier.fit`.
        Raises:
            ShapeError, ValueError: X or y have other axes, lengths or values than said.
            DataError, ParameterError: as `streamrde.fit`, or `streamrde.train` with a config.
        """
        panel = self._read(X)
        given = aligned(y, panel, X, type(self).__name__)
        numbers = check_array(given, ensure_2d=False, dtype=np.float64, input_name="y", estimator=self)
        if numbers.ndim not in (1, 2):
            raise ShapeError(f"y has shape {numbers.shape}: give (streams,) or (streams, targets)")
        self._one = numbers.ndim == 1
        columns = numbers.reshape(len(numbers), -1)
        self.plainest_ = columns.mean(axis=0)
        if self._one:
            names: Sequence[Any] = [getattr(given, "name", None) or "target"]
        else:
            names = getattr(given, "columns", range(columns.shape[1]))
            names = [f"target{name}" if isinstance(name, int) else name for name in names]
        targets = {str(name): column for name, column in zip(names, columns.T, strict=True)}
        return self._fit(panel, Truth(targets, False, _groups(groups, panel, X, self)))

    def predict(self, X: Streams) -> Floats:
        """Return the numbers at each stream's end, (streams,) or (streams, targets)."""
        _, found = self._answers(X)
        found = np.where(np.isfinite(found), found, self.plainest_)
        return found[:, 0] if self._one else found

    def score(self, X: Streams, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the coefficient of determination. `y` is as of `fit`."""
        check_is_fitted(self)
        own = aligned(y, self._panel(X), X, type(self).__name__)
        return float(super().score(X, own, sample_weight))


def _groups(groups: ArrayLike | None, panel: Panel, X: Streams, estimator: object) -> Sequence[Any] | None:
    if groups is None:
        return None
    return list(column_or_1d(aligned(groups, panel, X, type(estimator).__name__, name="groups")))
