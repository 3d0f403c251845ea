"""Fit logistic regressions of all folds and several strengths at once.

For each fold left out, for none, and for each strength the loss is that of `fitting.logistic`,

    ``min_(w, b) sum_i c_i log-loss_i / sum_i c_i + strength sum_j penalty_j |w_j|^2 / 2``,

with a penalty per feature that may differ from fold to fold. All of them are moved by Newton's method together. Each
product with the features, which takes nearly all of the time, then serves all: the features are read from memory once
instead of once per fold and strength. Products are float32.

Where there are far fewer rows than features, each fold's features are first turned to the directions that its rows
span: a penalty is a scale of its feature, and ``x diag(penalty)^-1 x'`` has as many directions as rows.

Reference: Nocedal & Wright 2006, "Numerical Optimization", algorithm 7.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Bools, Floats, Indices
from streamrde.errors import ParameterError, ShapeError
from streamrde.fitting.ridge import Linear

Singles = NDArray[np.float32]

_MOST_STEPS = 20
_MOST_PRODUCTS = 40
_FEW = 800
"""Rows up to which features are turned, if there are more features: time grows with the cube of the rows."""
_ENOUGH = 1e-3
"""Norm of the gradient at the end, relative to that at the start: scores are then right to about as much."""


class Paths(NamedTuple):
    """Regressions of all strengths, in the order of the strengths."""

    held_out: Floats
    """Scores of each row by the regressions without its fold, (strengths, n, classes)."""
    fits: tuple[Linear, ...]
    """Fits to all rows, one per strength."""
    without: tuple[tuple[Linear, ...], ...]
    """Without each fold, one tuple per strength."""


class PathProblem:
    """Regressions of all folds, to be fitted with several strengths.

    Args:
        x: features, (n, P), finite, of about the same size, best with mean 0.
        codes: numbers of the classes, (n,).
        classes: number of classes, >= 2.
        folds: number of the fold of each row, from 0, (n,).
        penalties: of each feature without each fold, and in the last row with all rows, (folds + 1, P), > 0. None: 1.
        weights: c, (n,), > 0. None: 1 each.
    Raises:
        ShapeError: the arrays do not fit each other.
        ParameterError: a penalty is not above 0, or there are fewer than two classes.
    """

    def __init__(
        self,
        x: Floats | Singles,
        codes: Indices,
        classes: int,
        folds: Indices,
        *,
        penalties: Floats | None = None,
        weights: Floats | None = None,
    ) -> None:
        n, size = x.shape
        count = int(folds.max()) + 1
        if len(codes) != n or len(folds) != n or (penalties is not None and penalties.shape != (count + 1, size)):
            raise ShapeError(
                f"features {x.shape}, codes {codes.shape} and folds {folds.shape} do not fit: use (n, P), (n,), (n,), "
                "and one row of penalties (P,) per fold and one more"
            )
        if classes < 2 or codes.min() < 0 or codes.max() >= classes:
            raise ParameterError(f"codes lie from {codes.min()} to {codes.max()}: use 0 to classes - 1, two at least")
        if penalties is not None and not (penalties > 0).all():
            raise ParameterError("penalties must be above 0; without a penalty there may be no minimum")
        self._x, self._folds, self._count, self._classes = x, folds, count, classes
        # Two classes have one score, and two of half its size: the penalty of the one is half that of the two.
        self._columns, self._half = (1, 0.5) if classes == 2 else (classes, 1.0)
        self._right = np.eye(classes)[codes][:, -self._columns :]
        counted = np.ones(n) if weights is None else weights
        self._share = np.stack(
            [np.where(folds != k, counted, 0.0) / max(1.0, float(counted[folds != k].sum())) for k in range(count + 1)],
            axis=1,
        )
        own = np.ones((count + 1, size)) if penalties is None else penalties
        self._turned = _Turned(x, own) if n < size and n <= _FEW else None
        self._products: _Shared | _Turned = self._turned or _Shared(x)
        self._penalties = np.ones((count + 1, n)) if self._turned else own

    def fit(self, strengths: Floats, *, start: Paths | None = None) -> Paths:
        """Fit all folds with each strength.

        Args:
            strengths: > 0, (S,).
            start: where to begin: its last strength is used for all. None: equal scores.
        Raises:
            ParameterError: a strength is not above 0.
        """
        if not (np.asarray(strengths) > 0).all():
            raise ParameterError("strengths must be above 0; without a penalty there may be no minimum")
        parts = self._count + 1
        blocks = [(k, j) for j in range(len(strengths)) for k in range(parts)]
        penalty = np.stack([self._half * strengths[j] * self._penalties[k] for k, j in blocks], axis=1)  # (P, B)
        weight = np.zeros((len(penalty), len(blocks), self._columns))
        bias = np.zeros((len(blocks), self._columns))
        if start is not None:
            for k in range(parts):
                fit = start.fits[-1] if k == self._count else start.without[-1][k]
                w, b = fit
                if self._columns == 1:
                    w, b = w[:, 1:] - w[:, :1], b[1:] - b[:1]
                own = slice(k, None, parts)
                weight[:, own] = (self._turned.turn(k, w) if self._turned else w)[:, None]
                bias[own] = b
        share = np.tile(self._share, (1, len(strengths)))
        _Newton(self._products, self._right, share, penalty).run(weight, bias)
        if self._turned:
            weight = self._turned.features(weight)
        fits = [_linear(weight[:, b], bias[b]) for b in range(len(blocks))]
        held_out = np.empty((len(strengths), len(self._folds), self._classes))
        for (k, j), fit in zip(blocks, fits, strict=True):
            if k < self._count:
                held_out[j, self._folds == k] = fit(self._x[self._folds == k])
        rows = [fits[i : i + parts] for i in range(0, len(fits), parts)]
        return Paths(held_out, tuple(row[-1] for row in rows), tuple(tuple(row[:-1]) for row in rows))


def _linear(weight: Floats, bias: Floats) -> Linear:
    if weight.shape[1] == 1:
        return Linear(np.concatenate([-weight, weight], axis=1) / 2, np.concatenate([-bias, bias]) / 2)
    return Linear(weight - weight.mean(axis=1, keepdims=True), bias - bias.mean())


class _Shared:
    """Products of all blocks with the same features."""

    def __init__(self, x: Floats | Singles) -> None:
        self._x = np.ascontiguousarray(x, np.float32)
        self._transposed = np.ascontiguousarray(self._x.T)

    def forth(self, weight: Floats) -> Floats:
        """Return scores (n, B, C) of weights (P, B, C)."""
        flat = weight.reshape(len(weight), -1).astype(np.float32)
        return np.asarray((self._x @ flat).reshape(-1, *weight.shape[1:]).astype(np.float64))

    def back(self, rows: Floats) -> Floats:
        """Return sums over rows (n, B, C) times features, (P, B, C)."""
        flat = rows.reshape(len(rows), -1).astype(np.float32)
        return np.asarray((self._transposed @ flat).reshape(-1, *rows.shape[1:]).astype(np.float64))

    def squares(self, share: Floats) -> Floats:
        """Return sums over rows of squared features times shares (n, B), (P, B)."""
        return np.asarray((self._transposed**2) @ share.astype(np.float32), np.float64)


class _Turned:
    """Products of each fold's blocks with its own features: n directions, in which all penalties are 1."""

    def __init__(self, x: Floats | Singles, penalties: Floats) -> None:
        found, ways = [], []
        for penalty in penalties:
            scaled = np.asarray(x / np.sqrt(penalty), np.float32)
            values, vectors = np.linalg.eigh((scaled @ scaled.T).astype(np.float64))
            # Smaller ones are the rounding of float32.
            real = values > 1e-6 * max(float(values[-1]), 1e-300)
            length = np.where(real, np.sqrt(np.where(real, values, 1.0)), 0.0)
            found.append((vectors * length).astype(np.float32))
            ways.append(scaled.T @ (vectors * np.where(real, 1 / np.where(real, length, 1.0), 0.0)).astype(np.float32))
        self._x, self._ways, self._sizes = np.stack(found), ways, np.sqrt(penalties)

    def turn(self, fold: int, weight: Floats) -> Floats:
        """Return weights (P, C) of features as weights of directions."""
        return np.asarray(self._ways[fold].T @ (self._sizes[fold][:, None] * weight).astype(np.float32), np.float64)

    def features(self, weight: Floats) -> Floats:
        """Return weights (n, B, C) of directions as weights of features."""
        parts = self._parted(weight)
        found = [way @ part / size[:, None] for way, part, size in zip(self._ways, parts, self._sizes, strict=True)]
        return self._joined(np.stack(found))

    def forth(self, weight: Floats) -> Floats:
        """See _Shared."""
        return self._joined(self._x @ self._parted(weight))

    def back(self, rows: Floats) -> Floats:
        """See _Shared."""
        return self._joined(self._x.transpose(0, 2, 1) @ self._parted(rows))

    def squares(self, share: Floats) -> Floats:
        """See _Shared."""
        return self._joined((self._x**2).transpose(0, 2, 1) @ self._parted(share[:, :, None]))[:, :, 0]

    def _parted(self, values: Floats) -> Singles:
        """Return (n, B, C) by fold, (folds, n, strengths C). Block j * folds + k has the features of fold k."""
        parts = values.reshape(len(values), -1, len(self._x), values.shape[2]).transpose(2, 0, 1, 3)
        self._columns = values.shape[2]
        return np.ascontiguousarray(parts, np.float32).reshape(len(self._x), len(values), -1)

    def _joined(self, parts: Floats | Singles) -> Floats:
        found = parts.reshape(len(self._x), parts.shape[1], -1, self._columns).transpose(1, 2, 0, 3)
        return np.ascontiguousarray(found, np.float64).reshape(parts.shape[1], -1, self._columns)


class _Newton:
    """Move B regressions at once by Newton's method. Conjugate gradients solve each step.

    Arrays of weights are (P, B, C), biases (B, C), scores and probabilities (n, B, C).
    """

    def __init__(self, products: _Shared | _Turned, right: Floats, share: Floats, penalty: Floats) -> None:
        self._products, self._right = products, right[:, None, :]
        self._share, self._penalty = share[:, :, None], penalty[:, :, None]
        self._squares = products.squares(share)  # (P, B)

    def run(self, weight: Floats, bias: Floats) -> None:
        """Move weights and biases to the minimum, in place."""
        scores = self._forth(weight, bias)
        loss, chance = self._loss(scores, weight)
        first: Floats | None = None
        for _ in range(_MOST_STEPS):
            slope, slope_bias = self._back(self._share * (chance - self._right))
            slope += self._penalty * weight
            norm = np.sqrt((slope**2).sum(axis=(0, 2)) + (slope_bias**2).sum(axis=1))
            first = norm if first is None else np.maximum(first, norm)
            open_ = norm > _ENOUGH * np.maximum(first, 1e-12)
            if not open_.any():
                break
            step, step_bias, along = self._step(chance, slope, slope_bias, norm, open_)
            descent = (slope * step).sum(axis=(0, 2)) + (slope_bias * step_bias).sum(axis=1)
            length = open_.astype(float)
            for _ in range(20):
                part = length[None, :, None]
                tried = self._loss(scores + part * along, weight + part * step)
                worse = tried[0] > loss + 1e-4 * length * descent + 1e-6 * np.abs(loss)
                if not worse.any():
                    break
                length = np.where(worse, length / 2, length)
            else:
                length = np.where(worse, 0.0, length)
                part = length[None, :, None]
                tried = self._loss(scores + part * along, weight + part * step)
            weight += part * step
            bias += length[:, None] * step_bias
            scores = scores + part * along
            loss, chance = tried
            if not (length * open_).any():
                break

    def _step(
        self, chance: Floats, slope: Floats, slope_bias: Floats, norm: Floats, open_: Bools
    ) -> tuple[Floats, Floats, Floats]:
        """Return steps that solve Newton's equations roughly, and how they move the scores."""
        spread = (chance * (1 - chance) * self._share).sum(axis=0)  # (B, C)
        diagonal = self._squares[:, :, None] * spread + self._penalty
        diagonal_bias = spread + 1e-9
        step, step_bias = np.zeros_like(slope), np.zeros_like(slope_bias)
        along = np.zeros(chance.shape)
        rest, rest_bias = -slope, -slope_bias
        scaled, scaled_bias = rest / diagonal, rest_bias / diagonal_bias
        way, way_bias = scaled, scaled_bias
        product = _dot(rest, scaled, rest_bias, scaled_bias)
        enough = np.minimum(0.1, np.sqrt(norm)) * norm
        for _ in range(_MOST_PRODUCTS):
            moved = self._forth(way, way_bias)
            curved, curved_bias = self._back(self._share * self._curve(chance, moved))
            curved += self._penalty * way
            curvature = _dot(way, curved, way_bias, curved_bias)
            length = np.where(open_ & (curvature > 1e-300), product / np.maximum(curvature, 1e-300), 0.0)
            part, flat = length[None, :, None], length[:, None]
            step, step_bias, along = step + part * way, step_bias + flat * way_bias, along + part * moved
            rest, rest_bias = rest - part * curved, rest_bias - flat * curved_bias
            open_ = open_ & (np.sqrt(_dot(rest, rest, rest_bias, rest_bias)) > enough)
            if not open_.any():
                break
            scaled, scaled_bias = rest / diagonal, rest_bias / diagonal_bias
            before, product = product, _dot(rest, scaled, rest_bias, scaled_bias)
            ratio = np.where(before > 0, product / np.where(before > 0, before, 1.0), 0.0)
            way, way_bias = scaled + ratio[None, :, None] * way, scaled_bias + ratio[:, None] * way_bias
        return step, step_bias, along

    def _curve(self, chance: Floats, moved: Floats) -> Floats:
        if chance.shape[2] == 1:
            return np.asarray(chance * (1 - chance) * moved)
        along = chance * moved
        return np.asarray(along - chance * along.sum(axis=2, keepdims=True))

    def _loss(self, scores: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Return the losses, (B,), and probabilities."""
        if scores.shape[2] == 1:
            losses = (np.logaddexp(0.0, scores) - self._right * scores)[:, :, 0]
            chance = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        else:
            scores = scores - scores.max(axis=2, keepdims=True)
            logs = scores - np.log(np.exp(scores).sum(axis=2, keepdims=True))
            losses, chance = -(self._right * logs).sum(axis=2), np.exp(logs)
        total = (self._share[:, :, 0] * losses).sum(axis=0)
        return total + 0.5 * (self._penalty * weight**2).sum(axis=(0, 2)), chance

    def _forth(self, weight: Floats, bias: Floats) -> Floats:
        return self._products.forth(weight) + bias

    def _back(self, rows: Floats) -> tuple[Floats, Floats]:
        return self._products.back(rows), rows.sum(axis=0)


def _dot(a: Floats, b: Floats, a_bias: Floats, b_bias: Floats) -> Floats:
    return np.asarray((a * b).sum(axis=(0, 2)) + (a_bias * b_bias).sum(axis=1))
