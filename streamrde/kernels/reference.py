"""NumPy kernels: the specification, the oracle, and what runs everywhere.

Every function works on any number of rows at once and uses elementwise operations only, so a row's result has the
same bits whatever rows stand beside it. That is what makes push, push_many and Fleet agree exactly.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamrde.arrays import Floats, Indices, Ints

# Rows are folded in blocks of about this many float64 (1 MiB), so that a block's signatures stay in a core's cache.
_BLOCK = 1 << 17


def signature_channels(channels: int, depth: int) -> int:
    """Return the size of a signature without level 0: ``C + C^2 + ... + C^depth``."""
    return sum(channels**k for k in range(1, depth + 1))


@lru_cache(maxsize=256)
def level_slices(channels: int, depth: int) -> tuple[slice, ...]:
    """Return the slices of levels 1 to depth in a signature's row. Entry k - 1 is level k."""
    stops = [signature_channels(channels, k) for k in range(depth + 1)]
    return tuple(slice(a, b) for a, b in pairwise(stops))


def multiply_exp(signatures: Floats, increments: Floats, depth: int) -> None:
    """Append a straight piece to each path, in place: ``S <- S (x) exp(dx)``, truncated at `depth`.

    Level k of the product is ``sum_j S_j (x) dx^(k-j) / (k-j)!``, evaluated by Horner's scheme
    ``((dx/k + S_1) (x) dx/(k-1) + S_2) (x) ... (x) dx + S_k``.

    Args:
        signatures: (rows, C + ... + C^depth), changed in place.
        increments: (rows, C).
    Reference: Kidger & Lyons 2021 (Signatory), section 5.1.
    """
    levels = level_slices(increments.shape[1], depth)
    fractions = [increments * (1.0 / k) for k in range(1, depth + 1)]
    # From the top down: level k reads only lower levels, which still have their old values.
    for k in range(depth, 0, -1):
        product = fractions[k - 1]
        for j in range(1, k):
            left = product + signatures[:, levels[j - 1]]
            product = _outer(left, fractions[k - j - 1])
        signatures[:, levels[k - 1]] += product


def fold(signatures: Floats, increments: Floats, starts: Indices, lengths: Indices, depth: int) -> None:
    """Append to path r the pieces ``increments[starts[r] : starts[r] + lengths[r]]``, in place.

    Args:
        signatures: (rows, C + ... + C^depth), changed in place.
        increments: (pieces, C), C-contiguous.
        starts, lengths: (rows,).
    """
    # Longest first: after j rounds the rows that still have pieces are a prefix, a view rather than a copy.
    order = np.argsort(-lengths, kind="stable")
    block = max(1, _BLOCK // max(1, signatures.shape[1]))
    for begin in range(0, len(order), block):
        rows = order[begin : begin + block]
        work, first = signatures[rows], starts[rows]
        ends = np.searchsorted(-lengths[rows], -np.arange(lengths[rows[0]]), side="left")
        for j, active in enumerate(ends):
            multiply_exp(work[:active], increments[first[:active] + j], depth)
        signatures[rows] = work


def chen(left: Floats, right: Floats, channels: int, depth: int) -> Floats:
    """Join the signatures of two consecutive paths by Chen's identity: ``S(a, c) = S(a, b) (x) S(b, c)``.

    Args:
        left, right: (rows, C + ... + C^depth).
    Returns:
        (rows, C + ... + C^depth).
    """
    levels = level_slices(channels, depth)
    joined = left + right
    for k in range(2, depth + 1):
        for j in range(1, k):
            joined[:, levels[k - 1]] += _outer(left[:, levels[j - 1]], right[:, levels[k - j - 1]])
    return joined


def tensor_log(signatures: Floats, channels: int, depth: int) -> Floats:
    """Return the tensor logarithm ``log(1 + X) = X - X^2/2 + X^3/3 - ...``, truncated at `depth`.

    Evaluated as ``X (x) P_1`` with ``P_n = 1/n - X (x) P_(n+1)`` and ``P_depth = 1/depth``.

    Args:
        signatures: (rows, C + ... + C^depth).
    Returns:
        the logarithm in the same layout.
    """
    levels = level_slices(channels, depth)
    x = [signatures[:, level] for level in levels]
    series: list[Floats] = []  # levels 1, 2, ... of P_n; its level 0 is 1/n
    for n in range(depth - 1, -1, -1):
        top = depth - n  # X (x) P_(n+1) is needed up to this level
        product = []
        for k in range(1, top + 1):
            level = x[k - 1] * (1.0 / (n + 1))
            for j in range(1, k):
                level = level + _outer(x[j - 1], series[k - j - 1])
            product.append(level)
        series = [-level for level in product] if n else product
    return np.concatenate(series, axis=1)


def log_words(signatures: Floats, channels: int, depth: int, places: Indices) -> Floats:
    """Return coefficients of the logarithms at some places of a row, (rows, places)."""
    return tensor_log(signatures, channels, depth)[:, places]


class Event(IntEnum):
    """Name what `observe` notices in a channel of a stream."""

    IMPLAUSIBLE = 0
    """A value that cannot be."""
    UNSEEN = 1
    """The channel did not come in so many rows, and never did before."""
    GONE = 2
    """It did before."""
    FAR = 3
    """So many of its values in a row were far from the usual ones."""
    SEEN_AGAIN = 4
    """It came, after UNSEEN or GONE."""
    NEAR_AGAIN = 5
    """A usual value came, after FAR."""


def observe(
    marks: NDArray[np.uint32],
    slots: Indices,
    x: Floats,
    bounds: Floats,
    sentinels: Floats,
    after: NDArray[np.uint32],
) -> Ints | None:
    """Look at rows of samples, in order of arrival, before they are taken. Rows without any value are passed over.

    Args:
        marks: of each stream, (slots, 2 + 3 channels), changed in place: its rows, 1 where all is as usual, and of each
            channel the rows since it came, the most that ever lay between (at least 1, and 0 where it never came), and
            its values in a row that were far from the usual ones.
        slots, x: (n,), (n, channels).
        bounds: low, high, near low, near high of each channel, (4, channels). A value outside of the first two is
            implausible, and one outside of the last two where it is a sentinel.
        sentinels: numbers that loggers write for "no value", (k,).
        after: rows until UNSEEN, until GONE (or ten times the most that lay between, if that is more), and values until
            FAR, (3, channels).
    Returns:
        row, channel and `Event` of what was noticed, (events, 3), or None.
    """
    events = []
    low, high, near_low, near_high = bounds
    most = np.iinfo(np.uint32).max - 1  # the largest number is a bound that is never reached
    for i, slot in enumerate(slots.tolist()):
        if np.isnan(x[i]).all():
            continue
        own = marks[slot].tolist()
        own[0] = min(own[0] + 1, most)
        for c, value in enumerate(x[i].tolist()):
            since, longest, outside = own[2 + 3 * c : 5 + 3 * c]
            bound = max(int(after[1, c]), 10 * longest) if longest else int(after[0, c])
            if math.isnan(value):
                since = min(since + 1, most)
                if since == bound:
                    events.append((i, c, Event.GONE if longest else Event.UNSEEN))
            else:
                if since and since >= bound:
                    events.append((i, c, Event.SEEN_AGAIN))
                longest, since = max(longest, since) if longest else 1, 0
                if near_low[c] <= value <= near_high[c]:
                    if outside and outside >= after[2, c]:
                        events.append((i, c, Event.NEAR_AGAIN))
                    outside = 0
                elif math.isfinite(value):
                    if value < low[c] or value > high[c] or value in sentinels:
                        events.append((i, c, Event.IMPLAUSIBLE))
                    else:
                        outside = min(outside + 1, most)
                        if outside == after[2, c]:
                            events.append((i, c, Event.FAR))
            own[2 + 3 * c : 5 + 3 * c] = since, longest, outside
        own[1] = int(not any(own[2::3]) and all(own[3::3]) and not any(own[4::3]))
        marks[slot] = own
    return np.array(events, dtype=np.int64) if events else None


def path_signatures(points: Floats, depth: int, places: Indices | None) -> tuple[bool, Floats]:
    """Return the signatures of whole paths, or their logarithms at some places, and True if all points are finite.

    Args:
        points: (paths, L, C), L >= 1, C-contiguous.
        places: (places,), or None for the signatures.
    Returns:
        (paths, C + ... + C^depth) or (paths, places); meaningless where a point is not finite.
    """
    paths, length, channels = points.shape
    signatures = np.zeros((paths, signature_channels(channels, depth)))
    if not np.isfinite(points).all():
        return False, signatures
    if paths and length > 1:
        increments = np.diff(points, axis=1).reshape(-1, channels)
        starts = np.arange(paths) * (length - 1)
        fold(signatures, increments, starts, np.full(paths, length - 1), depth)
    return True, signatures if places is None else log_words(signatures, channels, depth, places)


class Names:
    """Names of live streams and their slots. Free slots are reused.

    Names come and go as Arrow's strings: name i is the bytes offsets[i] to offsets[i + 1], UTF-8.
    """

    __slots__ = ("_free", "_names", "_slots")

    def __init__(self) -> None:
        self._slots: dict[bytes, int] = {}
        self._names: list[bytes] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._slots)

    def find(self, offsets: NDArray[np.int32], data: NDArray[np.uint8]) -> Indices:
        """Return the slots of names, or -1 for unknown ones."""
        return np.array([self._slots.get(name, -1) for name in _split(offsets, data)], dtype=np.intp)

    def add(self, offsets: NDArray[np.int32], data: NDArray[np.uint8]) -> tuple[Indices, Indices]:
        """Return the slots of names, and the new ones in order of their first row. New names take free slots."""
        slots, added = [], []
        for name in _split(offsets, data):
            slot = self._slots.get(name)
            if slot is None:
                slot = self._free.pop() if self._free else len(self._names)
                self._names[slot : slot + 1] = [name]
                self._slots[name] = slot
                added.append(slot)
            slots.append(slot)
        return np.array(slots, dtype=np.intp), np.array(added, dtype=np.intp)

    def names(self, slots: Indices) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """Return the names in live slots."""
        names = [self._names[slot] for slot in slots]
        return (
            np.cumsum([0, *map(len, names)], dtype=np.int32),
            np.frombuffer(b"".join(names), dtype=np.uint8),
        )

    def release(self, slots: Indices) -> None:
        """Make slots free."""
        for slot in dict.fromkeys(slots.tolist()):
            del self._slots[self._names[slot]]
            self._free.append(slot)

    def live(self) -> Indices:
        """Return the slots that have a name, in the order in which they got it."""
        return np.array(list(self._slots.values()), dtype=np.intp)


class Accumulator:
    """The signature of a path that grows: what LogSignature is made of.

    Args:
        channels, depth: sizes.
        indices: places of the Lyndon words in a signature's row, (B,).
        brackets: whether `value` is to be had from `_value_in_brackets`.
    """

    __slots__ = ("_brackets", "_depth", "_indices", "_last", "_signature", "_started")

    def __init__(self, channels: int, depth: int, indices: Indices, brackets: bool) -> None:
        self._brackets = brackets
        self._depth = depth
        self._indices = indices
        self._started = False
        self._last = np.zeros((1, channels))
        self._signature = np.zeros((1, signature_channels(channels, depth)))

    def push(self, x: ArrayLike) -> None:
        """Fold one sample into the signature. The first sample only sets the base point."""
        self._push_checked(x)

    def push_many(self, X: ArrayLike) -> None:
        """Fold samples in order, (n, channels)."""
        self._push_many_checked(X)

    def _push_checked(self, x: ArrayLike) -> None:
        """Handle a sample that `push` cannot read directly. A subclass checks it."""
        self._take(np.asarray(x, dtype=np.float64)[None])

    def _push_many_checked(self, X: ArrayLike) -> None:
        """Handle samples that `push_many` cannot read directly. A subclass checks them."""
        self._take(np.asarray(X, dtype=np.float64))

    def _take(self, samples: Floats) -> None:
        """Fold samples, (n, channels), finite, C-contiguous."""
        if not len(samples):
            return
        points = np.concatenate([self._last, samples]) if self._started else samples
        if len(points) > 1:
            increments = np.diff(points, axis=0)
            fold(self._signature, increments, np.zeros(1, np.intp), np.array([len(increments)]), self._depth)
        self._last = samples[-1:].copy()
        self._started = True

    def value(self, out: Floats | None = None) -> Floats:
        """Return the log-signature since the last reset, (B,), float64. It is zero before the second sample.

        Args:
            out: where to write it, (B,), float64, C-contiguous; None: a new array.
        """
        return self._value_in_brackets(out) if self._brackets else self.words(out)

    def _value_in_brackets(self, out: Floats | None) -> Floats:
        """Return the value in brackets, which a subclass implements."""
        return self.words(out)

    def words(self, out: Floats | None = None) -> Floats:
        """Return coefficients of the logarithm at the indices, (B,), written to `out` if given."""
        log: Floats = log_words(self._signature, self._last.shape[1], self._depth, self._indices)[0]
        if out is None:
            return log
        out[:] = log
        return out

    def reset(self) -> None:
        """Forget the path so far but keep the last sample as the base point."""
        self._signature[:] = 0.0

    def state(self) -> tuple[bool, Floats]:
        """Return whether there was a sample, and the last sample followed by the signature."""
        return self._started, np.concatenate([self._last[0], self._signature[0]])

    def set_state(self, started: bool, state: Floats) -> None:
        """Go on from what `state` returned."""
        channels = self._last.shape[1]
        self._started = started
        self._last[0], self._signature[0] = state[:channels], state[channels:]


def _outer(a: Floats, b: Floats) -> Floats:
    """Return ``a (x) b`` of one level each, the first letter running fastest."""
    return (b[:, :, None] * a[:, None, :]).reshape(len(a), a.shape[1] * b.shape[1])


def _split(offsets: NDArray[np.int32], data: NDArray[np.uint8]) -> list[bytes]:
    """Split bytes into strings at their offsets."""
    text = data.tobytes()
    return [text[a:b] for a, b in pairwise(offsets.tolist())]


def kalman(
    rows: Floats,
    slots: Indices,
    start: int,
    phi: Floats,
    residual: Floats,
    noise: Floats,
    keep: Floats,
    prior: Floats,
    clip: float,
    most: float,
) -> None:
    """Update linear readouts by one label each, in place: a Kalman filter with mean reversion (see adapting.readout).

    Args:
        rows: the table; from column `start` on a row holds theta, (outputs, features), and the lower triangle of each
            output's P, row by row, (outputs, features (features + 1) / 2).
        slots: rows, (n,). Labels of the same row are learned in order.
        phi: inputs, (n, outputs, features).
        residual: label less the prediction without theta, (n, outputs). An output with NaN is left as it is.
        noise, keep: R and a, (n, outputs).
        prior: P0, a diagonal, (outputs, features).
        clip: standard deviations at which an innovation is clipped.
        most: bound of a correction ``theta . phi``.
    """
    if len(np.unique(slots)) < len(slots):
        for i in range(len(slots)):
            one = slice(i, i + 1)
            kalman(rows, slots[one], start, phi[one], residual[one], noise[one], keep[one], prior, clip, most)
        return
    count, outputs, features = phi.shape
    size, known, low = outputs * features, ~np.isnan(residual), np.tril_indices(features)
    part = slice(start + size, start + size + outputs * len(low[0]))
    a, decay = keep[:, :, None], (keep * keep)[:, :, None]
    theta = rows[slots, start : start + size].reshape(phi.shape)
    before = rows[slots, part].reshape(count, outputs, -1)
    cov = np.zeros((*phi.shape, features))
    cov[:, :, low[0], low[1]] = before
    u = np.zeros(phi.shape)
    for i in range(features):
        weight = phi[:, :, i : i + 1]
        u[:, :, i] = _dot(cov[:, :, i, :i], phi[:, :, :i]) + cov[:, :, i, i] * weight[:, :, 0]
        u[:, :, :i] += cov[:, :, i, :i] * weight
    u = decay * u + (1.0 - decay) * prior * phi
    s = noise + np.maximum(_dot(phi, u), 0.0)
    bound = clip * np.sqrt(s)
    innovation = residual - keep * np.clip(_dot(theta, phi), -most, most)
    gain = u / s[:, :, None]
    rest = u - s[:, :, None] * gain
    new = theta * a + gain * np.minimum(np.maximum(innovation, -bound), bound)[:, :, None]
    # Joseph's form, multiplied out: P - K u' - (u - s K) K', quadratic in the gain.
    across = gain[:, :, low[0]] * u[:, :, low[1]] + rest[:, :, low[0]] * gain[:, :, low[1]]
    packed = before * decay - across
    diagonal = np.cumsum(np.arange(1, features + 1)) - 1
    packed[:, :, diagonal] += (1.0 - decay) * prior
    new = np.where(known[..., None], new, theta)
    packed = np.where(known[..., None], packed, before)
    rows[slots, start : start + size] = new.reshape(count, -1)
    rows[slots, part] = packed.reshape(count, -1)


def _dot(a: Floats, b: Floats) -> Floats:
    """Sum products over the last axis in eight lanes, which are then folded."""
    lanes = np.zeros((*a.shape[:-1], 8))
    for j in range(0, a.shape[-1], 8):
        part = a[..., j : j + 8] * b[..., j : j + 8]
        lanes[..., : part.shape[-1]] += part
    half = lanes[..., :4] + lanes[..., 4:]
    return np.asarray((half[..., 0] + half[..., 2]) + (half[..., 1] + half[..., 3]))
