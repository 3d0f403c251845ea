"""scikit-learn's interface: classify streams, predict numbers of them, and transform them into log-signatures.

panels        streams in arrays, lists and data frames
answers       the answers of a model to streams
learning      a model of streams, fitted in closed form or trained
estimators    `NeuralRDEClassifier` and `NeuralRDERegressor`
transformer   `LogSignatureTransformer`
excused       checks of `check_estimator` that do not apply to streams, and why

Importing this imports scikit-learn, and PyTorch only where a model is trained.
"""

from streamrde.errors import MissingExtraError

try:
    import sklearn as _sklearn  # noqa: F401 (a clear error before all others)
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise MissingExtraError("streamrde.sklearn", "sklearn") from None

from streamrde.sklearn.estimators import NeuralRDEClassifier, NeuralRDERegressor
from streamrde.sklearn.excused import excused_checks
from streamrde.sklearn.transformer import LogSignatureTransformer

__all__ = ["LogSignatureTransformer", "NeuralRDEClassifier", "NeuralRDERegressor", "excused_checks"]
