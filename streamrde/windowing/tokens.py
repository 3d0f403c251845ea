"""Describe a token: what a model is given of the path whenever a base window closes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate, pairwise
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from streamrde.errors import ParameterError
from streamrde.floats import as_size
from streamrde.signature.words import logsignature_channels

MOST_WINDOWS = 4096
"""Most base windows of a scale. A stream's row holds as many signatures."""

SUMMARIES = ("count", "first", "last", "mean", "min", "max", "spread", "slope", "since")
"""Names of a channel's summaries, in their order in a token. See `Token.summaries`."""

MOST_BANDS = 256
"""Most frequency bands of a token, and most time constants of its pulses."""

LEVELS = 16
"""Quantiles of the pulses per second in a token. 8 to 32 tell heart rates about as well."""


class Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The last `windows` base windows, joined to one path. Every base window ends one.

    The signature over a scale is the product of those of its base windows (Chen's identity), ``S(a, c) = S(a, b) (x)
    S(b, c)``. Before so many windows have passed since the path began, a scale is what there is.
    """

    windows: Annotated[int, msgspec.Meta(ge=1, le=MOST_WINDOWS)]
    depth: Annotated[int, msgspec.Meta(ge=0, le=12)] = 0
    """Depth of the scale's log-signature, at most the model's. 0: the model's."""


Scales: TypeAlias = tuple[Scale, ...]


def as_scales(scales: Iterable[int | tuple[int, int] | Scale]) -> Scales:
    """Return scales from numbers of windows, pairs (windows, depth), or scales.

    Raises:
        ParameterError: an entry is none of these.
    """
    return tuple(own if isinstance(own, Scale) else _as_scale(i, own) for i, own in enumerate(scales))


def _as_scale(place: int, scale: int | tuple[int, int]) -> Scale:
    numbers = tuple(scale) if isinstance(scale, tuple | list) else (scale,)
    if not 1 <= len(numbers) <= 2:
        raise ParameterError(f"scales[{place}]={scale!r}: give a number of windows, or a pair (windows, depth)")
    return Scale(*(as_size(f"scales[{place}]", number, least=0) for number in numbers))  # `Token.check` has the bounds


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Frequency bands in which each channel's oscillations are followed.

    A band of frequency f is a resonator driven by the channel's increments, ``z <- e^((2 pi i f - g) dt) z + dx`` with
    ``g = 2 pi f damping``. It answers to frequencies within about f damping of its own. Samples may come irregularly.
    """

    low: Annotated[float, msgspec.Meta(gt=0)]
    """Lowest frequency, Hz."""
    high: Annotated[float, msgspec.Meta(gt=0)]
    """Highest frequency, Hz. A quarter of the sampling rate is the most that samples tell of."""
    count: Annotated[int, msgspec.Meta(ge=2, le=MOST_BANDS)]
    """Number of frequencies, equally far apart in octaves."""
    damping: Annotated[float, msgspec.Meta(ge=0.001, le=10)] = 0.25
    """Decay of a resonator, as a share of its angular frequency. 0.25 suits three bands per octave."""
    half_life: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    """Seconds after which an oscillation counts half. 0: all since the state began count the same."""

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Return the frequencies, Hz, (count,), ascending."""
        return tuple(self.low * (self.high / self.low) ** (k / (self.count - 1)) for k in range(self.count))

    def check(self) -> None:
        """Raise ParameterError if there are no such bands."""
        for name in ("low", "high", "damping"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(f"bands.{name}={getattr(self, name)}: use a finite number above 0")
        if not self.low < self.high <= 1e6 * self.low:
            raise ParameterError(
                f"bands.low={self.low} and bands.high={self.high}: high must be above low, at most 10^6 times as high"
            )
        if not 2 <= self.count <= MOST_BANDS or 1.001 ** (self.count - 1) > self.high / self.low:
            raise ParameterError(f"bands.count={self.count}: use 2 to {MOST_BANDS}, each 0.1 % above the one before")
        if not 0 <= self.half_life <= 1e12:
            raise ParameterError(f"bands.half_life={self.half_life}: use seconds, or 0 to keep all")


class Pulses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time constants with which the pulses of each channel's activity are counted.

    The activity ``a(t) = integral e^(-(t - s) / tau) |dx_s|`` begins a pulse where it rises above 0.7 of its recent
    peak, and ends it below 0.5. It shows what repeats within about 5 to 20 tau. Samples may come irregularly.
    """

    shortest: Annotated[float, msgspec.Meta(gt=0)]
    """Shortest time constant, seconds. Two steps between samples are the least that samples tell of."""
    longest: Annotated[float, msgspec.Meta(gt=0)]
    """Longest time constant, seconds."""
    count: Annotated[int, msgspec.Meta(ge=2, le=MOST_BANDS)]
    """Number of time constants, equally far apart in octaves."""
    half_life: Annotated[float, msgspec.Meta(ge=0, le=1e12)] = 0.0
    """Seconds after which a pulse counts half. 0: all since the state began count the same."""

    @property
    def constants(self) -> tuple[float, ...]:
        """Return the time constants, seconds, (count,), ascending."""
        return tuple(
            self.shortest * (self.longest / self.shortest) ** (k / (self.count - 1)) for k in range(self.count)
        )

    def check(self) -> None:
        """Raise ParameterError if there are no such pulses."""
        for name in ("shortest", "longest"):
            if not 0 < getattr(self, name) < math.inf:
                raise ParameterError(f"pulses.{name}={getattr(self, name)}: use a finite number of seconds above 0")
        if not self.shortest < self.longest <= 1e6 * self.shortest:
            raise ParameterError(
                f"pulses.shortest={self.shortest} and pulses.longest={self.longest}: longest must be above shortest, "
                "at most 10^6 times as long"
            )
        if not 2 <= self.count <= MOST_BANDS:
            raise ParameterError(f"pulses.count={self.count}: use 2 to {MOST_BANDS}")
        if not 0 <= self.half_life <= 1e12:
            raise ParameterError(f"pulses.half_life={self.half_life}: use seconds, or 0 to keep all")


class Places(NamedTuple):
    """Places of a token's parts."""

    scales: tuple[slice, ...]
    """Each scale's log-signature."""
    ends: slice
    summaries: slice
    rates: slice
    """Oscillations per second in each band, channel by channel."""
    shares: slice
    """Shares of each band in the amplitude."""
    pulses: slice
    """Quantiles of the pulses per second."""

    @property
    def size(self) -> int:
        """Return the number of entries of a token."""
        return int(self.pulses.stop)


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe what drives a model after each base window: log-signatures of all scales, then the parts below in turn.

    The token of a plain Neural RDE is the log-signature of the window that closed.
    """

    scales: Scales = (Scale(1),)
    ends: bool = False
    """Add the values of the path where the window ends, without time, (C - 1,)."""
    summaries: bool = False
    """Add summaries of each data channel's observations since the state began, (channels x len(SUMMARIES),), channel by
    channel: their number; the first, last, mean, least and largest value; the standard deviation; the slope per second
    of the least-squares line; and the seconds since the last one. NaN for a channel that was not observed, except its
    count, which is 0."""
    bands: Bands | None = None
    """Add each data channel's oscillations since the state began, (channels x count,) twice, channel by channel: their
    number per second in each band, then each band's share of the amplitude, ``sqrt(E_k / sum_j E_j)`` with E the mean
    of |z|^2 over time. Both are independent of the channel's scale and offset. NaN for a channel that was observed less
    than twice, and shares of one that never moved."""
    pulses: Pulses | None = None
    """Add quantiles of how often activity peaked since the state began, (LEVELS,): pulses per second of all data
    channels, time constants and directions (variation, rises, falls) in ascending order, of n numbers those at the
    places ``(2 j + 1) n / (2 LEVELS)`` rounded down, j = 0, 1, ... Independent of scales and offsets. A channel that
    was observed less than twice is left out. NaN: there is no other."""

    @property
    def plain(self) -> bool:
        """Return True for the log-signature of the window alone."""
        return self == Token()

    def depths(self, depth: int) -> tuple[int, ...]:
        """Return the depth of each scale for a model of this depth."""
        return tuple(scale.depth or depth for scale in self.scales)

    def window_depth(self, depth: int) -> int:
        """Return the depth of the window's own log-signature if a token begins with it, else 0."""
        return self.depths(depth)[0] if self.scales[0].windows == 1 else 0

    def places(self, channels: int, values: int, data: int, depth: int) -> Places:
        """Return where a token has its parts.

        Args:
            channels: number of channels of the path.
            values: number of those without time.
            data: number of data channels of a sample.
            depth: the model's depth.
        """
        scales = [logsignature_channels(channels, own) for own in self.depths(depth)]
        waves = data * self.bands.count if self.bands else 0
        levels = LEVELS if self.pulses else 0
        sizes = (*scales, self.ends * values, self.summaries * data * len(SUMMARIES), waves, waves, levels)
        *parts, ends, summaries, rates, shares, pulses = (slice(a, b) for a, b in pairwise((0, *accumulate(sizes))))
        return Places(tuple(parts), ends, summaries, rates, shares, pulses)

    @property
    def observes(self) -> bool:
        """Return True if it matters which channels a sample observed."""
        return self.summaries or self.bands is not None or self.pulses is not None

    def check(self, depth: int) -> None:
        """Raise ParameterError if a scale is not defined for a model of this depth."""
        if not self.scales:
            raise ParameterError("scales is empty: give at least one, such as 1 for the window itself")
        for i, scale in enumerate(self.scales):
            if not 1 <= scale.windows <= MOST_WINDOWS:
                raise ParameterError(f"scales[{i}]={scale.windows}: use 1 to {MOST_WINDOWS} base windows")
            if scale.depth > depth:
                raise ParameterError(
                    f"scales[{i}] has depth {scale.depth} and the model depth {depth}: a scale cannot be deeper"
                )
        if len({(scale.windows, scale.depth or depth) for scale in self.scales}) < len(self.scales):
            raise ParameterError(f"scales {[s.windows for s in self.scales]} has one twice: name each scale once")
        for part in (self.bands, self.pulses):
            if part is not None:
                part.check()
