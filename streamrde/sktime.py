"""The estimators of `streamrde.sklearn` as sktime's classifier and regressor, for its pipelines, tools and benchmarks.

`streamrde.sklearn` reads sktime's arrays and lists itself. These are for code that asks for sktime's base classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats
from streamrde.errors import MissingExtraError

try:
    from sktime.classification.base import BaseClassifier
    from sktime.regression.base import BaseRegressor
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "sktime":
        raise
    raise MissingExtraError("streamrde.sktime", "sktime") from None

import streamrde.sklearn as ours
from streamrde.sklearn.learning import Config

_TAGS: dict[str, Any] = {
    "X_inner_mtype": "df-list",
    "y_inner_mtype": "numpy1D",
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "capability:random_state": True,
    "property:randomness": "derandomized",
    "python_dependencies": "scikit-learn",
}
_OF_CLASSES = {"capability:predict_proba": True, "capability:class_weight": True}
_QUICK: list[dict[str, Any]] = [{"choice": "above, ridge"}, {"choice": "above, ridge", "step": 0.1}]
"""Parameters for sktime's checks: the first candidate alone."""


def _arrays(X: Any) -> list[Floats]:
    """Return streams of (channels, time)."""
    return [frame.to_numpy(dtype=np.float64).T for frame in X]


class NeuralRDEClassifier(BaseClassifier):  # type: ignore[misc]
    """Classify streams. See `streamrde.sklearn.NeuralRDEClassifier`, which is fitted as `estimator_`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamrde.sktime import NeuralRDEClassifier
    >>> y = np.arange(20) % 2
    >>> X = np.sin((2 + 2 * y[:, None, None]) * np.arange(40) / 10 + np.arange(20)[:, None, None])
    >>> NeuralRDEClassifier(choice="above, ridge").fit(X, y).predict(X[:4])
    array([0, 1, 0, 1])
    """

    _tags: ClassVar[dict[str, Any]] = {**_TAGS, **_OF_CLASSES}

    def __init__(
        self,
        step: float = 1.0,
        minutes: float | None = None,
        choice: str = "",
        config: Config | None = None,
        class_weight: Any = None,
        random_state: Any = 0,
    ) -> None:
        self.step = step
        self.minutes = minutes
        self.choice = choice
        self.config = config
        self.class_weight = class_weight
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> NeuralRDEClassifier:
        self.estimator_ = ours.NeuralRDEClassifier(**self.get_params()).fit(_arrays(X), y)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict(_arrays(X))

    def _predict_proba(self, X: Any) -> Floats:
        return self.estimator_.predict_proba(_arrays(X))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's checks."""
        return [dict(own) for own in _QUICK]


class NeuralRDERegressor(BaseRegressor):  # type: ignore[misc]
    """Predict a number of each stream. See `streamrde.sklearn.NeuralRDERegressor`, which is fitted as `estimator_`.

    Examples
    --------
    >>> import numpy as np
    >>> from streamrde.sktime import NeuralRDERegressor
    >>> y = np.arange(20) % 2
    >>> X = np.sin((2 + 2 * y[:, None, None]) * np.arange(40) / 10 + np.arange(20)[:, None, None])
    >>> NeuralRDERegressor(choice="above, ridge").fit(X, y).predict(X[:4]).round()
    array([0., 1., 0., 1.])
    """

    _tags: ClassVar[dict[str, Any]] = _TAGS

    def __init__(
        self,
        step: float = 1.0,
        minutes: float | None = None,
        choice: str = "",
        config: Config | None = None,
        random_state: Any = 0,
    ) -> None:
        self.step = step
        self.minutes = minutes
        self.choice = choice
        self.config = config
        self.random_state = random_state
        super().__init__()

    def _fit(self, X: Any, y: Any) -> NeuralRDERegressor:
        self.estimator_ = ours.NeuralRDERegressor(**self.get_params()).fit(_arrays(X), y)
        return self

    def _predict(self, X: Any) -> Floats:
        return self.estimator_.predict(_arrays(X))

    @classmethod
    def get_test_params(cls, parameter_set: str = "default") -> list[dict[str, Any]]:
        """Return parameters for sktime's checks."""
        return [dict(own) for own in _QUICK]
