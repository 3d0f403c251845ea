"""The estimators of `streamrde.sklearn` as aeon's classifier and regressor, for its pipelines, tools and benchmarks.

`streamrde.sklearn` reads aeon's arrays and lists itself. These are for code that asks for aeon's base classes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from numpy.typing import NDArray

from streamrde.arrays import Floats
from streamrde.errors import MissingExtraError

try:
    from aeon.classification.base import BaseClassifier
    from aeon.regression.base import BaseRegressor
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "aeon":
        raise
    raise MissingExtraError("streamrde.aeon", "aeon") from None

import streamrde.sklearn as ours
from streamrde.sklearn.learning import Config

_TAGS: dict[str, Any] = {
    "X_inner_type": ["numpy3D", "np-list"],
    "capability:multivariate": True,
    "capability:unequal_length": True,
    "capability:missing_values": True,
    "algorithm_type": "feature",
}
_QUICK = {"choice": "above, ridge"}
"""Parameters for aeon's checks: the first candidate alone."""


class NeuralRDEClassifier(BaseClassifier):  # type: ignore[misc]
    """Classify streams. See `streamrde.sklearn.NeuralRDEClassifier`, which is fitted as `estimator_`."""

    _tags: ClassVar[dict[str, Any]] = _TAGS

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
        self.estimator_ = ours.NeuralRDEClassifier(**self.get_params()).fit(X, y)
        return self

    def _predict(self, X: Any) -> NDArray[Any]:
        return self.estimator_.predict(X)

    def _predict_proba(self, X: Any) -> Floats:
        return self.estimator_.predict_proba(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return dict(_QUICK)


class NeuralRDERegressor(BaseRegressor):  # type: ignore[misc]
    """Predict a number of each stream. See `streamrde.sklearn.NeuralRDERegressor`, which is fitted as `estimator_`."""

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
        self.estimator_ = ours.NeuralRDERegressor(**self.get_params()).fit(X, y)
        return self

    def _predict(self, X: Any) -> Floats:
        return self.estimator_.predict(X)

    @classmethod
    def _get_test_params(cls, parameter_set: str = "default") -> dict[str, Any]:
        return dict(_QUICK)
