"""streamrde: streaming inference for Neural Rough Differential Equations.

    signature   log-signatures: of whole paths, and of paths that grow
    windowing   from samples to windows
    adapting    learning from labels that come late
    inference   Predictor (one stream), Fleet (many), the model file
    fitting     models from recorded files in seconds, without torch
    models      training, in torch; everything above runs without it
    connectors  MQTT, Arrow files
    scoring     recorded files in batches, on one machine or many
    runtime     from a source through a Fleet to a sink

Importing this module imports neither torch nor a connector.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from streamrde.adapting.settings import Adapt
from streamrde.adapting.trackers import Tracking
from streamrde.inference import (
    MLP,
    Bundle,
    Channel,
    Fleet,
    Head,
    Header,
    Linear,
    LogNCDE,
    Prediction,
    Predictor,
    Stack,
    load,
)
from streamrde.signature import LogSignature, logsignature, logsignature_channels, signature
from streamrde.windowing import (
    Adaptive,
    Count,
    Every,
    Gap,
    Missing,
    OpenWindow,
    Order,
    WindowPolicy,
    logsig_windows,
)

if TYPE_CHECKING:
    from streamrde.fitting.entry import fit
    from streamrde.inference.untrained import reservoir
    from streamrde.models import NeuralRDE, save, train
    from streamrde.scoring import score
    from streamrde.scoring.features import Features

__version__ = version("streamrde")
__all__ = [
    "MLP",
    "Adapt",
    "Adaptive",
    "Bundle",
    "Channel",
    "Count",
    "Every",
    "Features",
    "Fleet",
    "Gap",
    "Head",
    "Header",
    "Linear",
    "LogNCDE",
    "LogSignature",
    "Missing",
    "NeuralRDE",
    "OpenWindow",
    "Order",
    "Prediction",
    "Predictor",
    "Stack",
    "Tracking",
    "WindowPolicy",
    "fit",
    "load",
    "logsig_windows",
    "logsignature",
    "logsignature_channels",
    "reservoir",
    "save",
    "score",
    "signature",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what needs the connectors or torch at first use."""
    if name == "fit":
        from streamrde.fitting import entry

        return entry.fit
    if name == "reservoir":
        from streamrde.inference import untrained

        return untrained.reservoir
    if name == "Features":
        from streamrde.scoring import features

        return features.Features
    if name == "score":
        from streamrde import scoring

        return scoring.score
    if name in ("NeuralRDE", "save", "train"):
        from streamrde import models

        return getattr(models, name)
    raise AttributeError(f"module 'streamrde' has no attribute '{name}'")
