"""The state of a stream: what a token changes in it, and the features that are read from it.

    weights | pools

weights: for each half-life the sum of the weights of the windows so far, the first one their number. pools: for each
pool in turn its sums of weighted values, or its largest or last values. A stream without any window has zeros.

The order of all additions is fixed, in float32 for ``h = W s - b`` and in float64 for the sums, without fused
multiply-adds: the compiled twin has the same bits on every instruction set, whatever else is in a call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from streamrde import kernels
from streamrde.arrays import Bools, Floats, Indices
from streamrde.errors import ParameterError, ShapeError
from streamrde.features.drawing import Drawn, Singles, standardised
from streamrde.features.spec import RIVALS, FeatureSpec
from streamrde.kernels.layout import check_numbers
from streamrde.windowing.tokens import Places

_CHUNK = 256
"""Windows whose random features are computed at once: those of 2,400 directions fill 2.4 MB."""


_LANES = 16
"""Partial sums of a readout: its terms i, i + 16, i + 32, ... are added in turn."""

_KINDS = {"share": 0, "mean": 1, "max": 2, "last": 3, "best": 4}
check_numbers("PoolKind", _KINDS)
_ALONE, _RISING = -1, -2
"""Numbers in the place of a half-life's: for one value that is not divided, and for weights 1, 2, ..., whose sum
follows from the number of windows."""


class Readout(NamedTuple):
    """A linear function of the features, in float64."""

    weight: Floats
    """(outputs, P)"""
    bias: Floats
    """(outputs,)"""


class Pooling(ABC):
    """Random features of tokens, pooled. See `make_pooling`.

    Attributes:
        size: P, the number of features.
        state_size: numbers of a stream's state.
    """

    def __init__(self, spec: FeatureSpec, places: Places, drawn: Drawn) -> None:
        spec.check(places)
        self.spec, self.places, self.drawn = spec, places, drawn
        self.size, self.state_size = spec.size(places), spec.state_size(places)
        self.slices = spec.slices(places)
        self._rates = np.array([0.5 ** (1.0 / life) if life else 1.0 for life in spec.lives])
        self._lives = [
            _RISING if pool.rising else spec.lives.index(pool.half_life) if pool.averages else _ALONE
            for pool in spec.pools
        ]
        for name, wanted, found in (
            ("shift", [(places.size,)], [drawn.shift]),
            ("scale", [(places.size,)], [drawn.scale]),
            ("weights", [(b.directions, b.width(places)) for b in spec.blocks], drawn.weights),
            ("biases", [(b.directions,) for b in spec.blocks], drawn.biases),
        ):
            shapes = [array.shape for array in found]
            if shapes != wanted:
                raise ShapeError(
                    f"{name} have shapes {shapes}, and the spec asks for {wanted}: draw them with this spec"
                )

    @abstractmethod
    def advance(
        self, rows: Floats, slots: Indices, tokens: Floats, readout: Readout | None = None
    ) -> tuple[Bools, Floats | None]:
        """Take tokens in order, each into the state of its stream, in place.

        Args:
            rows: states, (streams, state_size); a view of wider rows of float64 will do.
            slots: row of each token's stream, (n,).
            tokens: raw, (n, T). NaN: not observed.
            readout: is applied after each token. None: it is not.
        Returns:
            for each token, whether a log-signature or end value in it was not finite, (n,). Such entries count as their
            mean in training, and infinite ones as the largest there may be. With a readout, its outputs after each
            token, (n, outputs).
        """

    @abstractmethod
    def read(self, rows: Floats, slots: Indices, readout: Readout) -> Floats:
        """Return the outputs of a readout in the present states of streams, (n, outputs).

        Equals ``features(rows[slots]) @ weight.T + bias`` but for rounding: each pool is summed before it is divided.
        """

    @abstractmethod
    def pool(self, tokens: Floats, stops: Indices, at: Indices | None = None) -> Floats:
        """Return the features of whole streams, as `pool_streams` does."""

    def features(self, states: Floats) -> Floats:
        """Return the features of streams in states (n, state_size), (n, P). A stream without windows has zeros."""
        found = np.array(states[:, len(self.spec.lives) :], order="C")
        for pool, life, own in zip(self.spec.pools, self._lives, self.slices, strict=True):
            if life != _ALONE:
                weight = _weights(states, life)[:, None]
                known = np.where(weight > 0, weight, 1.0)
                found[:, own] = _stretch(found[:, own], known, weight > 0) if pool.stretched else found[:, own] / known
        return found


def _weights(states: Floats, life: int) -> Floats:
    """Return the sum of a pool's weights in each state, (n,)."""
    count = states[:, 0]
    return count * (count + 1.0) * 0.5 if life == _RISING else states[:, life]


def _stretch(sums: Floats, weight: Floats, known: Bools) -> Floats:
    """Return ``sqrt(p) - sqrt(1 - p)`` of shares p in float32, 0 where there is none."""
    share = (sums * (1.0 / weight)).astype(np.float32)
    return np.where(known, np.sqrt(share) - np.sqrt(np.float32(1) - share), np.float32(0)).astype(np.float64)


class ReferencePooling(Pooling):
    """The specification in NumPy."""

    def __init__(self, spec: FeatureSpec, places: Places, drawn: Drawn) -> None:
        super().__init__(spec, places, drawn)
        self._entries = [block.entries(places) for block in spec.blocks]
        self._sources = [(pool.of == "random", spec.source(pool, places)) for pool in spec.pools]

    def advance(
        self, rows: Floats, slots: Indices, tokens: Floats, readout: Readout | None = None
    ) -> tuple[Bools, Floats | None]:
        """See Pooling."""
        outputs = None if readout is None else np.empty((len(slots), len(readout.bias)))
        for begin in range(0, len(slots), _CHUNK):
            own = slice(begin, begin + _CHUNK)
            scaled = self._scaled(tokens[own])
            for i, (slot, s, h) in enumerate(zip(slots[own].tolist(), scaled, self._random(scaled), strict=True)):
                self._take(rows[slot], s, h)
                if outputs is not None and readout is not None:
                    outputs[begin + i] = self._read(rows[slot], readout)
        unusual = ~np.isfinite(tokens)
        unusual[:, self.places.summaries.start :] = False
        return np.asarray(unusual.any(axis=1)), outputs

    def read(self, rows: Floats, slots: Indices, readout: Readout) -> Floats:
        """See Pooling."""
        return np.array([self._read(rows[slot], readout) for slot in slots.tolist()]).reshape(-1, len(readout.bias))

    def pool(self, tokens: Floats, stops: Indices, at: Indices | None = None) -> Floats:
        """See Pooling."""
        wanted = np.zeros(0, np.intp) if at is None else at
        found, place = np.empty((len(stops) if at is None else len(at), self.size)), 0
        state = np.zeros((1, self.state_size))
        for stream, (begin, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
            state[:] = 0.0
            if at is None:
                self.advance(state, np.zeros(stop - begin, np.intp), tokens[begin:stop])
                found[stream] = self.features(state)[0]
                continue
            while place < len(wanted) and wanted[place] < stop:
                after = int(wanted[place]) + 1
                self.advance(state, np.zeros(after - begin, np.intp), tokens[begin:after])
                found[place], begin, place = self.features(state)[0], after, place + 1
        return found

    def _scaled(self, tokens: Floats) -> Singles:
        drawn = self.drawn
        return standardised(tokens, drawn.shift, drawn.scale, drawn.clip, self.spec.roots(self.places))

    def _random(self, scaled: Singles) -> Singles:
        """Return h, (n, F): products are summed entry after entry, beginning with minus the bias."""
        found = np.empty((len(scaled), self.spec.directions), np.float32)
        begin = 0
        for entries, weight, bias in zip(self._entries, self.drawn.weights, self.drawn.biases, strict=True):
            h = found[:, begin : begin + len(bias)]
            begin += len(bias)
            h[:] = np.float32(0) - bias  # never -0, which zeros after it would turn into 0
            for entry, column in zip(entries, np.ascontiguousarray(weight.T), strict=True):
                h += scaled[:, entry, None] * column
        return found

    def _take(self, row: Floats, s: Singles, h: Singles) -> None:
        """Change a stream's state by one window."""
        lives = len(self._rates)
        first = row[0] == 0
        row[:lives] = row[:lives] * self._rates + 1.0
        for pool, life, own, (random, source) in zip(
            self.spec.pools, self._lives, self.slices, self._sources, strict=True
        ):
            state, value = row[own.start + lives : own.stop + lives], (h if random else s)[source].astype(np.float64)
            if pool.kind == "best":
                value = self._best(h)[source]
            elif pool.kind == "share":
                value = (value > 0).astype(np.float64)
            elif random and pool.kind != "max":
                value = np.maximum(value, 0.0)
            if pool.kind == "last" or (pool.kind == "max" and first):
                state[:] = value
            elif pool.kind == "max":
                np.maximum(state, value, out=state)
            elif pool.rising:
                state += value * row[0]
            else:
                state[:] = state * self._rates[life] + value

    def _best(self, h: Singles) -> Floats:
        """Return 1 for the largest of each `RIVALS` neighbouring directions of a block, and 0 for the others."""
        found, begin = np.zeros(len(h)), 0
        for block in self.spec.blocks:
            for first in range(begin, begin + block.directions, RIVALS):
                stop = min(first + RIVALS, begin + block.directions)
                found[first + int(h[first:stop].argmax())] = 1.0
            begin += block.directions
        return found

    def _read(self, row: Floats, readout: Readout) -> Floats:
        """Return the outputs of one stream's state, (outputs,)."""
        lives, total = len(self._rates), readout.bias.copy()
        for pool, life, own in zip(self.spec.pools, self._lives, self.slices, strict=True):
            values = row[own.start + lives : own.stop + lives]
            if pool.stretched:
                weight = _weights(row[None], life)[:, None]
                values = _stretch(values[None], weight if row[0] else np.ones((1, 1)), weight > 0)[0]
                life = _ALONE  # is divided already
            terms = readout.weight[:, own] * values
            terms = np.pad(terms, ((0, 0), (0, -terms.shape[1] % _LANES))).reshape(len(total), -1, _LANES)
            lanes = np.zeros((len(total), _LANES))
            for part in terms.transpose(1, 0, 2):
                lanes += part
            while lanes.shape[1] > 1:
                half = lanes.shape[1] // 2
                lanes = lanes[:, :half] + lanes[:, half:]
            total += lanes[:, 0] if life == _ALONE or not row[0] else lanes[:, 0] / _weights(row[None], life)
        return total


class CompiledPooling(Pooling):
    """The same in C++."""

    def __init__(self, spec: FeatureSpec, places: Places, drawn: Drawn) -> None:
        super().__init__(spec, places, drawn)
        assert kernels.Pooling is not None  # noqa: S101 (see `make_pooling`)
        sources = [spec.source(pool, places) for pool in spec.pools]
        self._native = kernels.Pooling(
            np.ascontiguousarray(drawn.shift),
            np.ascontiguousarray(drawn.scale),
            drawn.clip,
            places.summaries.start,
            spec.roots(places),
            [
                (block.entries(places), np.ascontiguousarray(weight), np.ascontiguousarray(bias))
                for block, weight, bias in zip(spec.blocks, drawn.weights, drawn.biases, strict=True)
            ],
            [
                (_KINDS[pool.kind], pool.of == "random", source.start, source.stop, life, pool.stretched)
                for pool, source, life in zip(spec.pools, sources, self._lives, strict=True)
            ],
            self._rates,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.spec, self.places, self.drawn)

    def advance(
        self, rows: Floats, slots: Indices, tokens: Floats, readout: Readout | None = None
    ) -> tuple[Bools, Floats | None]:
        """See Pooling."""
        return self._native.advance(rows, slots, np.ascontiguousarray(tokens), *(readout or (None, None)))

    def read(self, rows: Floats, slots: Indices, readout: Readout) -> Floats:
        """See Pooling."""
        return self._native.read(rows, slots, *readout)

    def pool(self, tokens: Floats, stops: Indices, at: Indices | None = None) -> Floats:
        """See Pooling."""
        return self._native.pool(tokens, stops, at)


def make_pooling(spec: FeatureSpec, places: Places, drawn: Drawn) -> Pooling:
    """Make random features of tokens.

    Args:
        spec: what is drawn and kept.
        places: where tokens have their parts, such as `Partition.places`.
        drawn: the random part, from `draw` or from a model.
    Raises:
        ParameterError, ShapeError: they do not fit each other.
    """
    return (ReferencePooling if kernels.Pooling is None else CompiledPooling)(spec, places, drawn)


def pool_streams(pooling: Pooling, tokens: Floats, stops: Indices, *, at: Indices | None = None) -> Floats:
    """Return the features of whole streams, or after chosen windows.

    Args:
        pooling: from `make_pooling`.
        tokens: of all streams, one stream after the other, raw, (K, T). NaN: not observed.
        stops: number of tokens up to each stream's end, (streams,): the last is K. A stream may have none.
        at: places of tokens, ascending, after which the features are wanted. None: after each stream's last.
    Returns:
        (streams, P), or with `at` (len(at), P), float64. A stream without tokens has zeros.
    Raises:
        ShapeError, ParameterError: the arrays do not fit each other.
    """
    tokens, stops = np.ascontiguousarray(tokens, np.float64), np.ascontiguousarray(stops, np.intp)
    if tokens.ndim != 2 or tokens.shape[1] != pooling.places.size:
        raise ShapeError(f"tokens have shape {tokens.shape}: give (K, {pooling.places.size})")
    if (np.diff(stops, prepend=0) < 0).any() or (stops[-1] if len(stops) else 0) != len(tokens):
        raise ParameterError(f"stops must ascend from 0 to {len(tokens)}, the number of tokens")
    if at is not None:
        at = np.ascontiguousarray(at, np.intp)
        if len(at) and (at[0] < 0 or at[-1] >= len(tokens) or (np.diff(at) <= 0).any()):
            raise ParameterError(f"at must ascend, each place once, within 0 and {len(tokens) - 1}")
    return pooling.pool(tokens, stops, at)
