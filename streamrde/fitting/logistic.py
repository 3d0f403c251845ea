"""Multinomial logistic regression with an L2 penalty, by Newton's method.

``min_(w, b) sum_i c_i log-loss_i / n + strength |w|^2 / 2``; the biases are not penalised, c_i weighs a row.

Each Newton step is solved by conjugate gradients, which need products with the Hessian alone.

Reference: Nocedal & Wright 2006, "Numerical Optimization", algorithm 7.1.
"""

from __future__ import annotations

import math

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import ParameterError, ShapeError
from streamrde.fitting.ridge import Linear

TOLERANCE = 1e-8
"""Largest entry of the gradient at the end. The loss is then within about 1e-16 / strength of the least."""
_MOST_STEPS = 200
_MOST_PRODUCTS = 500


def fit_logistic(
    x: Floats,
    codes: Indices,
    classes: int,
    strength: float,
    *,
    weights: Floats | None = None,
    start: Linear | None = None,
    tolerance: float = TOLERANCE,
) -> Linear:
    """Fit multinomial logistic regression, whose probabilities are ``softmax(x @ weight + bias)``.

    Args:
        x: features, (n, P), finite.
        codes: numbers of the classes, (n,).
        classes: number of classes; one that has no row gets a probability near 0.
        strength: of the penalty, > 0.
        weights: c, (n,). None: 1 each.
        start: where to begin, such as the solution of a neighbouring strength. None: equal probabilities.
        tolerance: largest entry of the gradient that is left.
    Raises:
        ShapeError: lengths differ.
        ParameterError: strength is not above 0, or a code is not below `classes`.
    """
    if x.ndim != 2 or len(x) != len(codes) or not len(x):
        raise ShapeError(f"features {x.shape} and codes {codes.shape} do not fit: use (n, P) and (n,), n >= 1")
    if not strength > 0 or not math.isfinite(strength):
        raise ParameterError(f"strength={strength}: use a number above 0; without a penalty there may be no minimum")
    if codes.min() < 0 or codes.max() >= classes:
        raise ParameterError(f"codes lie from {codes.min()} to {codes.max()}: use 0 to classes - 1 = {classes - 1}")
    missing = np.bincount(codes, minlength=classes) == 0
    if missing.any():
        return _without(x, codes, missing, strength, weights, tolerance)
    n = len(x)
    share = np.full(n, 1 / n) if weights is None else weights / n
    ones = np.concatenate([x, np.ones((n, 1))], axis=1)
    penalty = np.full((x.shape[1] + 1, 1), strength)
    penalty[-1] = 0.0
    right = np.eye(classes)[codes]
    w = np.zeros((x.shape[1] + 1, classes)) if start is None else np.vstack([start.weight, start.bias])
    # The diagonal of the Hessian at equal probabilities; it evens out features of different sizes.
    diagonal = (share @ ones**2)[:, None] * (1 / classes) * (1 - 1 / classes) + penalty
    loss, p = _loss(ones, w, right, share, penalty)
    for _ in range(_MOST_STEPS):
        gradient = ones.T @ (share[:, None] * (p - right)) + penalty * w
        size = float(np.abs(gradient).max())
        if size <= tolerance:
            break
        step = _newton_step(ones, p, share, penalty, gradient, diagonal)
        descent = float((gradient * step).sum())
        length = 1.0
        while length > 1e-10:
            tried = _loss(ones, w + length * step, right, share, penalty)
            # Near the end a step changes the loss by less than its rounding; the gradient decides.
            if tried[0] <= loss + 1e-4 * length * descent + 1e-15 * abs(loss):
                break
            length /= 2
        else:
            break
        w = w + length * step
        loss, p = tried
    # Softmax does not see a bias that all classes have in common.
    return Linear(w[:-1], w[-1] - w[-1].mean())


def _loss(ones: Floats, w: Floats, right: Floats, share: Floats, penalty: Floats) -> tuple[float, Floats]:
    scores = ones @ w
    scores -= scores.max(axis=1, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return float(-(share * (right * logs).sum(axis=1)).sum() + 0.5 * (penalty * w**2).sum()), np.exp(logs)


def _newton_step(ones: Floats, p: Floats, share: Floats, penalty: Floats, gradient: Floats, diagonal: Floats) -> Floats:
    """Return s with ``Hessian s = -gradient``, to a precision that grows as the gradient shrinks."""
    norm = float(np.sqrt((gradient**2).sum()))
    enough = min(0.1, math.sqrt(norm)) * norm
    step = np.zeros_like(gradient)
    residual = -gradient
    scaled = residual / diagonal
    direction, product = scaled, float((residual * scaled).sum())
    for _ in range(_MOST_PRODUCTS):
        along = p * (ones @ direction)
        along -= p * along.sum(axis=1, keepdims=True)
        curved = ones.T @ (share[:, None] * along) + penalty * direction
        curvature = float((direction * curved).sum())
        if curvature <= 1e-300:
            break
        step = step + product / curvature * direction
        residual = residual - product / curvature * curved
        if math.sqrt(float((residual**2).sum())) <= enough:
            break
        scaled = residual / diagonal
        before, product = product, float((residual * scaled).sum())
        direction = scaled + product / before * direction
    return step


def _without(
    x: Floats, codes: Indices, missing: np.ndarray, strength: float, weights: Floats | None, tolerance: float
) -> Linear:
    """Fit the classes that occur. The others get a score that leaves them half a row's share of the probability."""
    there = np.flatnonzero(~missing)
    weight, bias = np.zeros((x.shape[1], len(missing))), np.zeros(len(missing))
    if len(there) > 1:
        own = np.searchsorted(there, codes)
        weight[:, there], bias[there] = fit_logistic(x, own, len(there), strength, weights=weights, tolerance=tolerance)
    bias[missing] = float(bias[there].mean()) - math.log(2 * len(x))
    return Linear(weight, bias)
