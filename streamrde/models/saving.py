"""The tensors of a model in torch, out of and into a bundle."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

import streamrde
from streamrde.inference.bundle import Bundle
from streamrde.inference.model_part import PARTS
from streamrde.inference.statistics import StreamStatistics
from streamrde.models.header import dtype_name
from streamrde.models.scaling import Scaling

if TYPE_CHECKING:
    from streamrde.models.neural_rde import NeuralRDE

_FLOAT64 = {*Scaling._fields, "range_low", "range_high"}


def to_bundle(
    model: NeuralRDE,
    *,
    metrics: Mapping[str, float] | None = None,
    training: Mapping[str, str] | None = None,
    statistics: StreamStatistics | None = None,
) -> Bundle:
    """Return the model's weights and header as NumPy arrays, ready to be saved or served.

    The header is the model's, completed with what its weights say of it. What was known of the errors of the bundle
    that it came from, `learned` and `calibration`, is left out: the weights may have been trained since.

    Args:
        metrics, training, statistics: of the header. None: as the model has them.
    Raises:
        BundleError: a weight is not finite.
    """
    own = model.header
    external = {name: getattr(model, name).description() for name in PARTS if not own.part(name).stored}
    header = msgspec.structs.replace(
        own,
        dtype=dtype_name(model.dtype),
        value_dtype=model.value_dtype,
        hidden_range=bool(torch.isfinite(model.range_low).all() and torch.isfinite(model.range_high).all()),
        versions={"streamrde": streamrde.__version__, "numpy": np.__version__, "torch": str(torch.__version__)},
        metrics=own.metrics if metrics is None else dict(metrics),
        training=own.training if training is None else dict(training),
        statistics=own.statistics if statistics is None else statistics,
        learned=None,
        calibration=None,
        **external,
    )
    tensors, shapes = {}, header.shapes()
    for name, tensor in model.state_dict().items():
        if _tensor_name(name) in shapes:
            array = tensor.detach().cpu().numpy()
            tensors[_tensor_name(name)] = array.astype(np.float64 if name in _FLOAT64 else header.dtype)
    if model.decay is not None:
        # Divided in float64, so that a time of 1 second leaves every bit as it is.
        rates = model.decay.detach().cpu().double().abs() / model.decay_time
        tensors["decay"] = rates.numpy().astype(header.dtype)
    return Bundle(header, tensors | dict(model.novelty))


def load_tensors(model: NeuralRDE, bundle: Bundle) -> None:
    """Give the model the tensors of a bundle with the same header."""
    state = model.state_dict()
    names = {_tensor_name(name): name for name in state if _tensor_name(name) in bundle.tensors}
    model.novelty = {name: tensor for name, tensor in bundle.tensors.items() if name.startswith("novelty.")}
    # A copy: the bundle's arrays may be read-only, and must not train along.
    loaded = {own: torch.tensor(bundle.tensors[name]) for name, own in names.items()}
    model.load_state_dict(state | loaded)


def save(model: NeuralRDE | Bundle, path: str | os.PathLike[str]) -> None:
    """Write a model to `path`: safetensors with a JSON header, which `streamrde.load` reads without torch.

    The file is written under a temporary name, synced and renamed.

    Raises:
        BundleError: a weight is not finite.
    """
    (model if isinstance(model, Bundle) else to_bundle(model)).save(path)


def _tensor_name(name: str) -> str:
    return name.replace("_", ".") if name in _FLOAT64 else name
