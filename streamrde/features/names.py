"""Name a token's entries, and the features that are made of them."""

from __future__ import annotations

from collections.abc import Sequence

from streamrde.features.spec import FeatureSpec, Pool
from streamrde.signature.words import lyndon_words
from streamrde.windowing.partition import Partition
from streamrde.windowing.tokens import LEVELS, SUMMARIES


def path_names(partition: Partition, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the path's channels: time, the data channels, and those that mark observations.

    Args:
        channels: names of the data channels.
    """
    missing = partition.missing
    counts = [f"count({name})" for name in channels] if missing.counts else []
    elapsed = [f"elapsed({name})" for name in channels] if missing.elapsed else []
    return ("t",) * partition.time + (*channels, *counts, *elapsed)


def token_names(partition: Partition, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of a token's entries.

    ``8:t.x`` is the coefficient of the word (t, x) over 8 base windows, ``end:x`` the path's end value, and
    ``slope:x`` a summary of the channel's observations. ``rate@0.5:x`` is the number of oscillations per second in the
    band at 0.5 Hz, and ``share@0.5:x`` the band's share of the amplitude. ``pulses@0.25`` is a quantile of the pulses
    per second.
    """
    path, names = path_names(partition, channels), []
    for scale, depth in zip(partition.token.scales, partition.token.depths(partition.depth), strict=True):
        words = lyndon_words(len(path), depth)
        names += [f"{scale.windows}:{'.'.join(path[letter] for letter in word)}" for word in words]
    if partition.token.ends:
        names += [f"end:{name}" for name in path[partition.time :]]
    if partition.token.summaries:
        names += [f"{summary}:{name}" for name in channels for summary in SUMMARIES]
    if (bands := partition.token.bands) is not None:
        waves = [f"@{f:.6g}:{name}" for name in channels for f in bands.frequencies]
        names += [f"rate{wave}" for wave in waves] + [f"share{wave}" for wave in waves]
    if partition.token.pulses is not None:
        names += [f"pulses@{(j + 0.5) / LEVELS:.3g}" for j in range(LEVELS)]
    return tuple(names)


def feature_names(spec: FeatureSpec, partition: Partition, channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features, (P,), each once: the pool, its half-life if it has one, and what is pooled.

    ``share(2/17)`` is the share of windows above 0 of direction 17 of block 2, ``mean~8(end:x)`` a mean that halves the
    weight of a window every 8 base windows, ``share^(2/17)`` a share in which later windows count more, and
    ``stretched_share(2/17)`` a stretched one.
    """
    entries, places = token_names(partition, channels), partition.places
    random = [f"{i}/{k}" for i, block in enumerate(spec.blocks) for k in range(block.directions)]
    return tuple(
        f"{_pool_name(pool)}({name})"
        for pool in spec.pools
        for name in (random if pool.of == "random" else entries)[spec.source(pool, places)]
    )


def _pool_name(pool: Pool) -> str:
    own = f"{'stretched_' * pool.stretched}{pool.kind}"
    return f"{own}~{pool.half_life:g}" if pool.half_life else f"{own}{'^' * pool.rising}"
