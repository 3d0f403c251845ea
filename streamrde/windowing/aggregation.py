"""Join the last m windows for several m at once, by products that are shared and delayed.

The product over the last m windows is ``W_m(k) = W_a(k - b) (x) W_b(k)`` with m = a + b: halves where m is even, and
m - 1 and 1 where it is odd. Each part keeps its products for as many windows as another part needs them.

    ordering    first in, first out; every window ends one range of each size; sizes are known beforehand
    operator    associative, with an identity; no inverse
    time        at most 2 log2 m products a window, in the worst case; one per scale where each is twice the one before
    space       m - 1 delayed products for the largest m, and the present one of each part
    drift       none: a product is made of its m windows alone
"""

from __future__ import annotations

from typing import NamedTuple

from streamrde.arrays import Floats
from streamrde.kernels import join, signature_channels
from streamrde.windowing.tokens import Scales


class Part(NamedTuple):
    """One size of range, and where its latest products stand."""

    windows: int
    earlier: int
    """Place among the parts of the range that comes first, and of the one that follows. -1 for a single window."""
    later: int
    delay: int
    """Windows of the one that follows."""
    depth: int
    size: int
    slots: int
    place: int

    def product(self, rings: Floats, number: int) -> Floats:
        """Return the product that ends with window `number`, a view."""
        begin = self.place + number % self.slots * self.size
        return rings[begin : begin + self.size]


def make_parts(scales: Scales, depths: tuple[int, ...], channels: int) -> tuple[Part, ...]:
    """Return the parts that scales of more than one window need, the smallest first."""
    needed: dict[int, int] = {}
    for scale, depth in zip(scales, depths, strict=True):
        if scale.windows > 1:
            needed[scale.windows] = max(depth, needed.get(scale.windows, 0))
    delays: dict[int, int] = {}
    for m in range(max(needed, default=0), 1, -1):
        if m in needed:
            earlier, later = _halves(m)
            delays[earlier] = max(later, delays.get(earlier, 0))
            for part in (earlier, later):
                needed[part] = max(needed[m], needed.get(part, 0))
    sizes = sorted(needed)
    parts: list[Part] = []
    place = 0
    for m in sizes:
        earlier, later = _halves(m) if m > 1 else (0, 0)
        size, slots = signature_channels(channels, needed[m]), 1 + delays.get(m, 0)
        at = (sizes.index(earlier), sizes.index(later)) if m > 1 else (-1, -1)
        parts.append(Part(m, *at, later, needed[m], size, slots, place))
        place += slots * size
    return tuple(parts)


def _halves(m: int) -> tuple[int, int]:
    return (m // 2, m // 2) if m % 2 == 0 else (m - 1, 1)


def add_window(rings: Floats, parts: tuple[Part, ...], signature: Floats, number: int, channels: int) -> None:
    """Take the signature of the path's window `number`, from 0, and make the products that end with it."""
    for part in parts:
        now = part.product(rings, number)
        if part.windows == 1:
            now[:] = signature[: part.size]
            continue
        now[:] = parts[part.later].product(rings, number)[: part.size]
        if number >= part.delay:  # else the range is all there is
            before = parts[part.earlier].product(rings, number - part.delay)[: part.size]
            now[:] = join(before[None], now[None].copy(), channels, part.depth)[0]
