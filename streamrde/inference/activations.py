"""Activations and their derivatives, elementwise, in the dtype they are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from streamrde.arrays import Reals
from streamrde.kernels.layout import check_numbers

Activation: TypeAlias = Literal["relu", "tanh", "silu", "softplus", "gelu"]
FinalActivation: TypeAlias = Literal["identity", "relu", "tanh", "silu", "softplus", "gelu"]

_erf = np.frompyfunc(math.erf, 1, 1)


def sigmoid(v: Reals) -> Reals:
    """Return the logistic function, which does not overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * v)))


def _normal_share(v: Reals) -> Reals:
    """Return Phi(v), the standard normal distribution function."""
    return np.asarray(0.5 * (1 + _erf(v * math.sqrt(0.5)).astype(v.dtype)))


# exp overflows to inf in float32 beyond 88; silu and softplus are written so that it does not.
ACTIVATIONS: dict[str, Callable[[Reals], Reals]] = {
    "identity": lambda v: v,
    "relu": lambda v: np.maximum(v, 0),
    "tanh": np.tanh,
    "silu": lambda v: v * sigmoid(v),
    "softplus": lambda v: np.logaddexp(v, np.zeros_like(v)),
    "gelu": lambda v: v * _normal_share(v),
}

DERIVATIVES: dict[str, Callable[[Reals], Reals]] = {
    "identity": np.ones_like,
    "relu": lambda v: (v > 0).astype(v.dtype),
    "tanh": lambda v: 1 - np.tanh(v) ** 2,
    "silu": lambda v: sigmoid(v) * (1 + v * (1 - sigmoid(v))),
    "softplus": sigmoid,
    "gelu": lambda v: _normal_share(v) + v * (np.exp(-0.5 * v * v) * (1 / math.sqrt(2 * math.pi))),
}

NUMBERS = {name: number for number, name in enumerate(ACTIVATIONS)}
"""Numbers of the activations in the compiled kernels."""
check_numbers("Activation", NUMBERS)
