"""Activations and their derivatives in torch: the twins of streamrde.inference.activations."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


# Functions with names, not lambdas: a model is pickled with those that it uses.
def _identity(v: Tensor) -> Tensor:
    return v


def _softplus(v: Tensor) -> Tensor:
    # Beyond its threshold torch's softplus drops a term of exp(-threshold): 2e-9 at the default of 20.
    return nn.functional.softplus(v, threshold=40.0)


def _relu_slope(v: Tensor) -> Tensor:
    return (v > 0).to(v.dtype)


def _tanh_slope(v: Tensor) -> Tensor:
    return 1 - torch.tanh(v) ** 2


def _silu_slope(v: Tensor) -> Tensor:
    return torch.sigmoid(v) * (1 + v * (1 - torch.sigmoid(v)))


def _gelu_slope(v: Tensor) -> Tensor:
    return torch.special.ndtr(v) + v * torch.exp(-0.5 * v * v) * (1 / math.sqrt(2 * math.pi))  # type: ignore[no-any-return]


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": _identity,
    "relu": torch.relu,
    "tanh": torch.tanh,
    "silu": nn.functional.silu,
    "softplus": _softplus,
    "gelu": nn.functional.gelu,
}


DERIVATIVES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": torch.ones_like,
    "relu": _relu_slope,
    "tanh": _tanh_slope,
    "silu": _silu_slope,
    "softplus": torch.sigmoid,
    "gelu": _gelu_slope,
}
