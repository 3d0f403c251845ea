"""The Neural RDE in torch: model, training, importers, export. Nothing else in the package imports torch.

neural_rde       the model, built from a header; fields and ends are its parts, torch_field the contract of a field
saving           its tensors, out of and into a bundle; torch_stepper serves it as it is
graphs           ONNX graphs of steps: onnx_export traces torch, reservoir_graph needs none
training         from recorded files to a bundle; sweeping tries configurations, report shows what came out
importers        models that were trained elsewhere; foreign and structure read their modules
stack_importers  stacks that were trained elsewhere; stack_layouts knows the names of their recurrences' tensors
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamrde.errors import MissingExtraError

if TYPE_CHECKING:
    from streamrde.models.graphs import export_onnx
    from streamrde.models.importers import Imported, from_neural_rdes, from_torchcde
    from streamrde.models.neural_rde import NeuralRDE
    from streamrde.models.saving import save, to_bundle
    from streamrde.models.stack_importers import from_slices, from_stack
    from streamrde.models.sweeping.run import Sweep, sweep
    from streamrde.models.torch_stepper import TorchStepper
    from streamrde.models.training.config import TrainConfig, load_train_config
    from streamrde.models.training.novelty import add_novelty
    from streamrde.models.training.run import train
    from streamrde.models.training.statistics import add_statistics

__all__ = [
    "Imported",
    "NeuralRDE",
    "Sweep",
    "TorchStepper",
    "TrainConfig",
    "add_novelty",
    "add_statistics",
    "export_onnx",
    "from_neural_rdes",
    "from_slices",
    "from_stack",
    "from_torchcde",
    "load_train_config",
    "save",
    "sweep",
    "to_bundle",
    "train",
]

_HOMES = {
    "Imported": "importers",
    "NeuralRDE": "neural_rde",
    "Sweep": "sweeping.run",
    "TorchStepper": "torch_stepper",
    "TrainConfig": "training.config",
    "add_novelty": "training.novelty",
    "add_statistics": "training.statistics",
    "export_onnx": "graphs",
    "from_neural_rdes": "importers",
    "from_slices": "stack_importers",
    "from_stack": "stack_importers",
    "from_torchcde": "importers",
    "load_train_config": "training.config",
    "save": "saving",
    "sweep": "sweeping.run",
    "to_bundle": "saving",
    "train": "training.run",
}


def __getattr__(name: str) -> Any:
    """Import a public name at first use, because most need torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'streamrde.models' has no attribute '{name}'")
    try:
        return getattr(import_module(f"streamrde.models.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "pysiglib"):
            raise
        raise MissingExtraError("training", "train") from None
