"""Describe random features and their pools."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Indices
from streamrde.errors import ParameterError
from streamrde.windowing.tokens import Places

MOST_FEATURES = 1 << 22
"""Most features of a stream. A state has as many numbers of 8 bytes."""

RIVALS = 8
"""Neighbouring directions of a block of which one is the best in a window."""

Kind: TypeAlias = Literal["share", "mean", "max", "last", "best"]
Source: TypeAlias = Literal["random", "token", "logsigs", "ends", "summaries"]
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MOST_FEATURES)]
Waves: TypeAlias = Literal["rates", "shares", "pulses"]


class Block(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Random directions over some parts of a token."""

    directions: Annotated[int, msgspec.Meta(ge=1, le=MOST_FEATURES)]
    scales: Annotated[tuple[Size, ...], msgspec.Meta(max_length=64)] = ()
    """Numbers of the scales, from 0, whose log-signatures they see."""
    ends: bool = False
    """See the values of the path where the window ends."""
    summaries: bool = False
    """See the summaries of the channels."""
    nonzeros: Annotated[tuple[Size, ...], msgspec.Meta(min_length=1, max_length=64)] = (4, 12, 0)
    """The number of entries that a direction sees is drawn from these. 0: all."""
    low: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.05
    """Biases are quantiles of the training data's features, of shares drawn between `low` and `high`."""
    high: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.95

    number: Size | None = None
    """Number that the directions are drawn with. None: the block's own in its spec."""

    def parts(self, places: Places) -> list[slice]:
        """Return the parts of a token that the directions see."""
        seen = [places.scales[i] for i in self.scales]
        return seen + [places.ends] * self.ends + [places.summaries] * self.summaries

    def width(self, places: Places) -> int:
        """Return the number of entries that the directions see."""
        return sum(part.stop - part.start for part in self.parts(places))

    def entries(self, places: Places) -> Indices:
        """Return the places in a token that the directions see."""
        return np.concatenate([np.arange(part.start, part.stop) for part in self.parts(places)])


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One number per feature, kept over the stream's life.

    "share": of windows with h > 0, or with an entry above its mean in training. "mean": of max(h, 0), or of
    standardised entries of the token. "max": of h, or of the entries. "last": max(h, 0), or the entries, of the last
    window. "best": the share of windows in which h is the largest among `RIVALS` neighbouring directions.

    Reference: Dempster et al. 2023, "HYDRA: competing convolutional kernels" (best).
    """

    kind: Kind
    of: Source | Waves = "random"
    """Source of the values: the random features, or the token's entries, or some of these."""
    half_life: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    """Base windows after which a window counts half in a share or mean. 0: all windows count the same."""
    rising: bool = False
    """In a share or mean, window k counts k times, k = 1, 2, ...: when something happens then matters too."""
    stretched: bool = False
    """A share p becomes ``sqrt(p) - sqrt(1 - p)``, in float32: its error is then about the same wherever it lies."""
    blocks: tuple[Size, Size] | None = None
    """Random features of the blocks from the first number to before the second. None: of all blocks."""

    @property
    def averages(self) -> bool:
        """Return True for a weighted mean over windows."""
        return self.kind in ("share", "mean", "best")


SHARE_MEAN_MAX = (Pool("share"), Pool("mean"), Pool("max"), Pool("mean", "token"))


class FeatureSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Random features of a model's tokens, and how they are pooled.

    Directions come from ``numpy.random.Generator(PCG64([seed, number of the block]))``. Blocks count from 0.
    """

    blocks: Annotated[tuple[Block, ...], msgspec.Meta(max_length=256)] = ()
    pools: Annotated[tuple[Pool, ...], msgspec.Meta(min_length=1, max_length=256)] = SHARE_MEAN_MAX
    seed: Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)] = 0
    generator: Literal["PCG64"] = "PCG64"
    squash: Literal["none", "root"] = "none"
    """Function of standardised log-signatures, before they are clipped. "root": the signed square root, which brings
    products of increments back to the size of increments. End values and summaries stay as they are."""

    @property
    def directions(self) -> int:
        """Return F, the number of random features of a window."""
        return sum(block.directions for block in self.blocks)

    @property
    def lives(self) -> tuple[float, ...]:
        """Return the half-lives, each once, with 0 first: a state has a sum of weights for each."""
        return tuple(sorted({0.0} | {pool.half_life for pool in self.pools if pool.averages}))

    def source(self, pool: Pool, places: Places) -> slice:
        """Return the places of what a pool pools, in h (F,) or in the token."""
        first, stop = pool.blocks or (0, len(self.blocks))
        before = [sum(block.directions for block in self.blocks[:number]) for number in (first, stop)]
        return {
            "random": slice(*before),
            "token": slice(0, places.size),
            "logsigs": slice(0, places.scales[-1].stop),
            "ends": places.ends,
            "summaries": places.summaries,
            "rates": places.rates,
            "shares": places.shares,
            "pulses": places.pulses,
        }[pool.of]

    def roots(self, places: Places) -> int:
        """Return the number of entries, from the token's first, whose signed square roots are taken."""
        return places.scales[-1].stop if self.squash == "root" else 0

    def slices(self, places: Places) -> tuple[slice, ...]:
        """Return each pool's places among the features."""
        sources = [self.source(pool, places) for pool in self.pools]
        stops = accumulate((source.stop - source.start for source in sources), initial=0)
        return tuple(slice(a, b) for a, b in pairwise(stops))

    def size(self, places: Places) -> int:
        """Return P, the number of features."""
        return int(self.slices(places)[-1].stop)

    def state_size(self, places: Places) -> int:
        """Return the number of columns of a stream's state: weights of the half-lives, then the pools."""
        return len(self.lives) + self.size(places)

    def check(self, places: Places) -> None:
        """Raise ParameterError if the features cannot be made of such tokens."""
        for i, block in enumerate(self.blocks):
            if any(scale >= len(places.scales) for scale in block.scales):
                raise ParameterError(
                    f"blocks[{i}].scales={list(block.scales)}: the tokens have {len(places.scales)} scales; "
                    f"use numbers below that"
                )
            if not block.width(places):
                raise ParameterError(
                    f"blocks[{i}] sees nothing: give it scales, or ends or summaries that the tokens have"
                )
            if not block.low <= block.high:
                raise ParameterError(f"blocks[{i}]: low={block.low} is above high={block.high}; swap them")
        for i, pool in enumerate(self.pools):
            if (pool.half_life or pool.rising) and not pool.averages:
                raise ParameterError(f"pools[{i}]: {pool.kind!r} has no weights; leave out half_life and rising")
            if pool.stretched and pool.kind not in ("share", "best"):
                raise ParameterError(f"pools[{i}]: {pool.kind!r} is no share; leave out stretched")
            if pool.of != "random" and (pool.kind == "best" or pool.blocks is not None):
                raise ParameterError(f"pools[{i}]: {pool.of!r} has no directions; use of='random', or another kind")
            if pool.blocks is not None and not 0 <= pool.blocks[0] < pool.blocks[1] <= len(self.blocks):
                raise ParameterError(
                    f"pools[{i}].blocks={list(pool.blocks)}: there are {len(self.blocks)} blocks; give the first and "
                    f"the one after the last"
                )
            if pool.half_life and pool.rising:
                raise ParameterError(f"pools[{i}]: weights cannot both rise and fall; use half_life or rising")
        if not self.size(places):
            raise ParameterError("pools keep nothing: add blocks, or a pool of the token")
        if self.size(places) > MOST_FEATURES:
            raise ParameterError(f"{self.size(places):,} features, and {MOST_FEATURES:,} are the most: use fewer")
