"""Recurrences in torch: the twin of streamrde.inference.stacks.X is the `TorchRecurrence` of the module X here."""

from __future__ import annotations

from importlib import import_module

import torch

from streamrde.inference.kinds import defined_in
from streamrde.inference.recurrence import Recurrence
from streamrde.models.torch_recurrence import TorchRecurrence


def make_recurrence(spec: Recurrence, width: int, *, dtype: torch.dtype) -> TorchRecurrence:
    """Make a recurrence with random weights."""
    return defined_in(import_module(f"{__name__}.{spec.tag}"), TorchRecurrence)(spec, width, dtype=dtype)
