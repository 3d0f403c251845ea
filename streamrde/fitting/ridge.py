"""Ridge regression in closed form, with its strength chosen by what is left out.

``min_(w, b) sum_i c_i |y_i - b - x_i w|^2 + strength |w|^2``; the bias b is not penalised, c_i weighs a row.

`fit_ridge` takes all features at once and is meant for fewer streams than features. `NormalEquations` sums batches: its
memory depends on the number of features and folds alone.

Reference: Hastie, Tibshirani & Friedman 2009, "The Elements of Statistical Learning", 3.4.1 and 7.10.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from streamrde.arrays import Floats, Indices
from streamrde.errors import ParameterError, ShapeError

STRENGTHS = np.logspace(-4, 4, 17)
"""Strengths that are tried, times the mean variance of a direction of the data. Both ends fit nothing better."""


class Linear(NamedTuple):
    """A linear function: ``x @ weight + bias``."""

    weight: Floats
    """(P, outputs)"""
    bias: Floats
    """(outputs,)"""

    def __call__(self, x: Floats) -> Floats:
        """Return the answers, (n, outputs)."""
        return np.asarray(x @ self.weight + self.bias)


class RidgeFit(NamedTuple):
    """A ridge regression on everything, and its answers to what was left out."""

    linear: Linear
    strengths: Floats
    """(outputs,)"""
    held_out: Floats
    """(n, outputs): the answer to each row by the regression without its fold."""
    without: Callable[[int], Linear]
    """Return the regression without a fold."""

    @property
    def strength(self) -> float:
        """Return the strength of the first output, which all share if they have none of their own."""
        return float(self.strengths[0])


def fit_ridge(
    x: Floats,
    y: Floats,
    folds: Indices,
    *,
    weights: Floats | None = None,
    each: bool = False,
    strengths: Floats = STRENGTHS,
) -> RidgeFit:
    """Fit ridge regression, and choose the strength with the least squared error on the folds left out.

    Leaving a fold f out needs no other fit: with the hat matrix ``H = 1/n + U diag(v / (v + strength)) U'`` its errors
    are ``(I - H_ff)^-1 (y - H y)_f``, exactly. With weights, rows are those of the weighted regression, times the root
    of their weight: H has ``sqrt(c c') / sum(c)`` in the place of 1/n.

    Args:
        x: features, (n, P), finite. Constant and repeated ones do no harm.
        y: targets, (n, outputs), finite.
        folds: number of the fold of each row, (n,). `numpy.arange(n)` leaves out one row at a time.
        weights: c, (n,), > 0. None: 1 each.
        each: choose a strength for each output. Otherwise they share one.
        strengths: tried, relative to the mean eigenvalue of the centred features' covariance.
    Raises:
        ShapeError: lengths differ.
        ParameterError: fewer than two folds.
    """
    _check(x, y, folds)
    number = np.unique(folds, return_inverse=True)[1]
    if number.max() < 1:
        raise ParameterError("fit_ridge needs two folds at least: a strength is judged by what was left out")
    centre, centred = _centred(x, weights)
    middle, wanted = _centred(y, weights)
    root = None if weights is None else np.sqrt(weights)
    values, vectors = _directions(centred)
    turned = vectors.T @ wanted
    # The unit of strength makes the choice independent of the features' scale and number.
    unit = float(values.sum()) / max(1, len(values)) or 1.0
    rows = [np.flatnonzero(number == k) for k in range(int(number.max()) + 1)]
    outputs = y.shape[1]
    least, best, errors = np.full(outputs, np.inf), np.full(outputs, np.nan), np.empty_like(y)
    for strength in np.sort(strengths)[::-1]:
        kept = values / (values + strength * unit)
        residual = wanted - vectors @ (kept[:, None] * turned)
        found = _left_out(vectors, kept, residual, rows, root)
        loss = (found**2).mean(axis=0) if each else np.full(outputs, (found**2).mean())
        better = loss < least  # of equals the strongest, which comes first, and never what is not finite
        least[better], best[better], errors[:, better] = loss[better], strength, found[:, better]
    if np.isnan(best).any():
        raise ParameterError("no strength gives finite answers; scale the features, or try larger strengths")
    penalty = best * unit
    # X' U / sqrt(v) are the directions among the features, so that w = X' U (U' y) / (v + strength).
    weight = centred.T @ (vectors @ (turned / (values[:, None] + penalty)))
    return RidgeFit(
        Linear(weight, middle - centre @ weight),
        best,
        y - (errors if root is None else errors / root[:, None]),
        lambda fold: _penalised(
            x[folds != fold], y[folds != fold], None if weights is None else weights[folds != fold], penalty
        ),
    )


def _penalised(x: Floats, y: Floats, weights: Floats | None, penalty: Floats) -> Linear:
    """Return the ridge regression with the penalty of each output, (outputs,), in units of the squared features."""
    centre, centred = _centred(x, weights)
    middle, wanted = _centred(y, weights)
    values, vectors = _directions(centred)
    weight = centred.T @ (vectors @ ((vectors.T @ wanted) / (values[:, None] + penalty)))
    return Linear(weight, middle - centre @ weight)


def _centred(x: Floats, weights: Floats | None) -> tuple[Floats, Floats]:
    """Return the mean, (P,), and the differences from it, (n, P), times the roots of the weights."""
    if weights is None:
        centre = x.mean(axis=0)
        return centre, x - centre
    centre = weights @ x / weights.sum()
    return centre, np.sqrt(weights)[:, None] * (x - centre)


def _directions(centred: Floats) -> tuple[Floats, Floats]:
    """Return squared singular values (r,) and left singular vectors (n, r) of centred features, without null ones."""
    n, p = centred.shape
    if n <= p:
        values, vectors = np.linalg.eigh(centred @ centred.T)
    else:
        values, right = np.linalg.eigh(centred.T @ centred)
        with np.errstate(divide="ignore", invalid="ignore"):
            vectors = centred @ right / np.sqrt(np.maximum(values, 0.0))
    # A direction below this is rounding: an eigenvalue is off by about eps times the largest, times the size.
    real = values > max(n, p) * np.finfo(float).eps * max(float(values[-1]), 0.0)
    return values[real], np.ascontiguousarray(vectors[:, real])


def _left_out(vectors: Floats, kept: Floats, residual: Floats, rows: list[Indices], root: Floats | None) -> Floats:
    n = len(residual)
    total = n if root is None else float((root**2).sum())
    if len(rows) == n:
        leverage = (1.0 if root is None else root**2) / total + (vectors**2) @ kept
        return np.asarray(residual / np.maximum(1 - leverage, 1e-12)[:, None])
    errors = np.empty_like(residual)
    for own in rows:
        u = vectors[own]
        hat = (1.0 if root is None else np.outer(root[own], root[own])) / total + (u * kept) @ u.T
        rest = np.eye(len(own)) - hat
        try:
            errors[own] = np.linalg.solve(rest, residual[own])
        except np.linalg.LinAlgError:  # a fold that nothing else says anything of
            errors[own] = np.linalg.lstsq(rest, residual[own], rcond=None)[0]
    return errors


class NormalEquations:
    """Sums of batches from which ridge regressions are solved, one sum for each fold.

    Memory: folds x P x (P + outputs) numbers, whatever the number of rows.
    """

    def __init__(self, features: int, outputs: int, folds: int) -> None:
        self._shift = np.zeros(features), np.zeros(outputs)
        self._count = np.zeros(folds)
        self._x = np.zeros((folds, features))
        self._y = np.zeros((folds, outputs))
        self._xx = np.zeros((folds, features, features))
        self._xy = np.zeros((folds, features, outputs))
        self._yy = np.zeros((folds, outputs))

    def add(self, x: Floats, y: Floats, folds: Indices, *, weights: Floats | None = None) -> None:
        """Add rows.

        Args:
            x, y: features (n, P) and targets (n, outputs), finite.
            folds: number of the fold of each row, (n,), below the number of folds.
            weights: c, (n,), > 0. None: 1 each.
        Raises:
            ShapeError: lengths differ.
        """
        _check(x, y, folds)
        if x.shape[1] != self._x.shape[1] or y.shape[1] != self._y.shape[1]:
            raise ShapeError(
                f"rows have {x.shape[1]} features and {y.shape[1]} targets; {self._x.shape[1]} and {self._y.shape[1]} "
                "were announced"
            )
        if not len(x):
            return
        if not self._count.any():
            # Sums about the first batch's mean lose no digits to a mean that is large beside the spread.
            self._shift = x.mean(axis=0), y.mean(axis=0)
        x, y = x - self._shift[0], y - self._shift[1]
        for k in np.unique(folds):
            a, b = x[folds == k], y[folds == k]
            if weights is None:
                self._count[k] += len(a)
                self._x[k] += a.sum(axis=0)
                self._y[k] += b.sum(axis=0)
            else:
                own = weights[folds == k]
                self._count[k] += own.sum()
                self._x[k] += own @ a
                self._y[k] += own @ b
                a, b = np.sqrt(own)[:, None] * a, np.sqrt(own)[:, None] * b
            self._xx[k] += a.T @ a
            self._xy[k] += a.T @ b
            self._yy[k] += (b**2).sum(axis=0)

    def spread(self) -> Floats:
        """Return the standard deviation of each feature over all rows and their weights, (P,)."""
        count = max(float(self._count.sum()), 1.0)
        squares = np.einsum("kii->i", self._xx) / count
        return np.asarray(np.sqrt(np.maximum(squares - (self._x.sum(axis=0) / count) ** 2, 0.0)))

    def rescale(self, factor: Floats) -> None:
        """Multiply all features by a factor each, (P,), as if the rows had been added so."""
        self._shift = self._shift[0] * factor, self._shift[1]
        self._x *= factor
        self._xx *= factor[:, None] * factor
        self._xy *= factor[:, None]

    def solve(self, *, each: bool = False, strengths: Floats = STRENGTHS) -> tuple[Linear, Floats, tuple[Linear, ...]]:
        """Return the regression on all rows, the strength of each output, (outputs,), and those without each fold.

        The strength is relative to the mean eigenvalue, as in `fit_ridge`, and has the least squared error on the folds
        left out.

        Args:
            each, strengths: as of `fit_ridge`.
        Raises:
            ParameterError: fewer than two folds have rows.
        """
        filled = np.flatnonzero(self._count)
        if len(filled) < 2:
            raise ParameterError("rows of two folds at least are needed: a strength is judged by what was left out")
        values, vectors, cross, _, _ = self._turned(None)
        real = values > 0
        unit = float(values[real].sum()) / max(1, int(real.sum())) or 1.0
        outputs = self._y.shape[1]
        losses = np.zeros((len(strengths), outputs))
        parts = {int(k): self._turned(int(k)) for k in filled}
        for k, part in parts.items():
            for j, strength in enumerate(strengths):
                losses[j] += self._loss(k, _solve(part, strength * unit))
        if not each:
            losses = np.repeat(losses.sum(axis=1, keepdims=True), outputs, axis=1)
        best = strengths[len(losses) - 1 - losses[::-1].argmin(axis=0)]
        linear = self._unshifted(_solve((values, vectors, cross, *self._means(None)), best * unit))
        without = [
            self._unshifted(_solve(parts[k], best * unit)) if k in parts else linear for k in range(len(self._count))
        ]
        return linear, best, tuple(without)

    def _sum(self, values: Floats, left_out: int | None) -> Floats:
        # Added without the fold, not subtracted from the whole: a fold far from the others would cancel.
        rest = [k for k in range(len(values)) if k != left_out]
        return np.asarray(values[rest].sum(axis=0))

    def _means(self, left_out: int | None) -> tuple[Floats, Floats]:
        count = float(self._sum(self._count, left_out))
        return self._sum(self._x, left_out) / count, self._sum(self._y, left_out) / count

    def _turned(self, left_out: int | None) -> tuple[Floats, Floats, Floats, Floats, Floats]:
        count = float(self._sum(self._count, left_out))
        x, y = self._means(left_out)
        xx = self._sum(self._xx, left_out) - count * np.outer(x, x)
        values, vectors = np.linalg.eigh(xx)
        values[values <= len(values) * np.finfo(float).eps * max(float(values[-1]), 0.0)] = 0.0
        cross = vectors.T @ (self._sum(self._xy, left_out) - count * np.outer(x, y))
        return values, vectors, cross, x, y

    def _loss(self, k: int, linear: Linear) -> Floats:
        weight, bias = linear
        count, x, y = self._count[k], self._x[k], self._y[k]
        squares = self._yy[k] + (weight * (self._xx[k] @ weight)).sum(axis=0) + count * bias**2
        return np.asarray(squares - 2 * (weight * self._xy[k]).sum(axis=0) - 2 * bias * (y - x @ weight))

    def _unshifted(self, linear: Linear) -> Linear:
        return Linear(linear.weight, linear.bias + self._shift[1] - self._shift[0] @ linear.weight)


def _solve(part: tuple[Floats, Floats, Floats, Floats, Floats], penalty: float | Floats) -> Linear:
    """Return the regression with one penalty, or with that of each output, (outputs,)."""
    values, vectors, cross, x, y = part
    values = values[:, None]
    scaled = np.where(values > 0, 1 / np.where(values > 0, values + penalty, 1.0), 0.0)
    weight = vectors @ (scaled * cross)
    return Linear(weight, y - x @ weight)


def fit_any_ridge(
    x: Floats, y: Floats, folds: Indices, *, weights: Floats | None = None, each: bool = False
) -> RidgeFit:
    """Fit ridge regression by the quicker way: `fit_ridge`, or with more rows than features `NormalEquations`.

    Args:
        x, y, folds, weights, each: as of `fit_ridge`, with folds from 0.
    """
    if len(x) <= x.shape[1]:
        return fit_ridge(x, y, folds, weights=weights, each=each)
    sums = NormalEquations(x.shape[1], y.shape[1], int(folds.max()) + 1)
    sums.add(x, y, folds, weights=weights)
    linear, strengths, without = sums.solve(each=each)
    held_out = np.empty_like(y)
    for k, part in enumerate(without):
        held_out[folds == k] = part(x[folds == k])
    return RidgeFit(linear, strengths, held_out, without.__getitem__)


def _check(x: Floats, y: Floats, folds: Indices) -> None:
    if x.ndim != 2 or y.ndim != 2 or not len(x) == len(y) == len(folds):
        raise ShapeError(
            f"features {x.shape}, targets {y.shape} and folds {folds.shape} do not fit: use (n, P), (n, outputs), (n,)"
        )
