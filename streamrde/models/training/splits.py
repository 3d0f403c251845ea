"""Divide streams into training, validation and test, and find what these parts have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from streamrde.errors import ConfigError
from streamrde.fitting.inputs import SplitConfig
from streamrde.fitting.recordings import Recording
from streamrde.models.training.segments import Say, excerpt
from streamrde.nearest import did_you_mean, listed


class Split(NamedTuple):
    """Hold the streams of each part."""

    train: list[Recording]
    validation: list[Recording]
    test: list[Recording]


def split(streams: Sequence[Recording], config: SplitConfig, *, say: Say = lambda text: None) -> Split:
    """Divide streams into training, validation and test.

    Args:
        say: receives notes on streams that are left out between parts in time.
    Raises:
        ConfigError: a listed value matches no stream or is listed twice, there are fewer groups than folds, or no
            stream is left to train on.
    """
    if config.by == "time":
        parts = _by_time(streams, config, say)
    else:
        chosen = _listed(streams, config)
        drawn = _drawn([stream for stream in streams if stream.given not in chosen], config)
        parts = Split([], [], [])
        for stream in streams:
            name = chosen.get(stream.given) or drawn.get(_unit(stream, config), "train")
            getattr(parts, name).append(stream)
    if not parts.train:
        if len({stream.source for stream in streams}) == 1 and not config.listed:
            raise ConfigError(
                f"there is one recording, '{streams[0].source}', and the split leaves nothing of it to train on: "
                'divide it in time, [split] by = "time", or cut it into segments first, [data.segments] seconds = ... '
                'with [split] by = "stream"'
            )
        raise ConfigError(
            "split leaves no stream to train on: lower split.validation and split.test; where a share is to be drawn "
            'from streams of one group, set split.by = "stream" or split.group'
        )
    return parts


def leakage(parts: Split) -> dict[str, float]:
    """Count the streams of validation and test that have something in common with training, if any has.

    ``test_streams_shared_group``: their group (person, recording) has streams that train. ``test_streams_overlapping``:
    they have samples of a recording from a time that training streams have as well.
    """
    result: dict[str, float] = {}
    groups = {stream.group for stream in parts.train}
    sources = {stream.source for stream in parts.train}
    spans = _spans(parts.train)
    for name in ("validation", "test"):
        streams: list[Recording] = getattr(parts, name)
        shared = sum(stream.group in groups or stream.source in sources for stream in streams)
        overlapping = sum(_overlaps(stream, spans.get(stream.source)) for stream in streams)
        found = {"shared_group": shared, "overlapping": overlapping}
        result |= {f"{name}_streams_{what}": float(count) for what, count in found.items() if count}
    return result


def warnings_of(parts: Split, config: SplitConfig) -> list[str]:
    """Describe the findings of `leakage`. Parts in time share their recordings on purpose."""
    found, texts = leakage(parts), []
    for name in ("validation", "test"):
        streams: list[Recording] = getattr(parts, name)
        shared = int(found.get(f"{name}_streams_shared_group", 0))
        overlapping = int(found.get(f"{name}_streams_overlapping", 0))
        what = f"the same '{config.undivided}'" if config.undivided else "the same recording"
        text = f"{shared:,} of {len(streams):,} {name} streams are of {what} as training streams"
        if overlapping:
            text += f", and {overlapping:,} overlap with these in time"
        if overlapping or (shared and config.by != "time"):
            texts.append(f"{text}: what is measured there says little about new ones")
    return texts


def _unit(stream: Recording, config: SplitConfig) -> str:
    """Return the unit that is drawn as a whole."""
    return stream.group if config.by == "group" else stream.stream


def _listed(streams: Sequence[Recording], config: SplitConfig) -> dict[str, str]:
    """Return the part of each listed value."""
    found = {stream.given for stream in streams}
    parts: dict[str, str] = {}
    for name in ("validation", "test"):
        values = getattr(config, name)
        for value in map(str, values if isinstance(values, tuple) else ()):
            if value not in found:
                raise ConfigError(
                    f"split.{name}: no stream has '{value}' in column '{config.column}'{did_you_mean(value, found)}; "
                    f"it has {listed(sorted(found))}"
                )
            if parts.setdefault(value, name) != name:
                raise ConfigError(f"'{value}' is listed in split.validation and in split.test: leave it in one of them")
    return parts


def _drawn(streams: Sequence[Recording], config: SplitConfig) -> dict[str, str]:
    """Return the part of each drawn group or stream. The others train."""
    classes: dict[str, Counter[int]] = {}
    for stream in streams:
        counted = classes.setdefault(_unit(stream, config), Counter())
        if config.stratify and stream.target.classes:
            values = stream.target.values[:, 0]
            codes, counts = np.unique(values[np.isfinite(values)].astype(int), return_counts=True)
            counted.update(dict(zip(codes.tolist(), counts.tolist(), strict=True)))
    rng = np.random.default_rng(config.seed)
    units = [sorted(classes)[i] for i in rng.permutation(len(classes))]
    # Stable: a class's units stay in the order drawn.
    units.sort(key=lambda unit: max(classes[unit], key=lambda code: (classes[unit][code], -code), default=-1))
    total = len(units)
    parts: dict[str, str] = {}
    if config.folds:
        if total < config.folds:
            raise ConfigError(
                f"split.folds={config.folds}: there are only {total:,} "
                f"{'streams' if config.by == 'stream' else 'groups'}; use fewer folds"
            )
        parts = dict.fromkeys(units[config.fold :: config.folds], "test")
    for name in ("test", "validation"):
        share = getattr(config, name)
        if isinstance(share, tuple) or not share or (config.folds and name == "test"):
            continue
        free = [unit for unit in units if unit not in parts]
        count = min(max(1, round(share * total)), len(free))
        # Every so manieth, from a random one on: each class is taken as often as it occurs.
        steps = np.floor(np.arange(len(free) + 1) * count / max(1, len(free)) + rng.random())
        parts |= {unit: name for unit, taken in zip(free, np.diff(steps) > 0, strict=True) if taken}
    return parts


def _by_time(streams: Sequence[Recording], config: SplitConfig, say: Say) -> Split:
    """Divide every recording into parts: [begin, a), [a + embargo, b), [b + embargo, end]."""
    spans = {source: (min(first), max(last)) for source, (first, last) in _spans(streams).items()}
    whole = Counter(stream.source for stream in streams)
    shares = [0.0 if isinstance(share, tuple) else share for share in (config.validation, config.test)]
    parts, straddling = Split([], [], []), 0
    for stream in streams:
        begin, end = spans[stream.source]
        after = end + 1.0 + abs(end)  # the last sample belongs to the last part
        stops = [begin + (1 - sum(shares)) * (end - begin), begin + (1 - shares[1]) * (end - begin)]
        stops = [stops[0] if any(shares) else after, stops[1] if shares[1] else after, after]
        taken = False
        for part, start, stop, share in zip(parts, [begin, *stops], stops, [1.0, *shares], strict=False):
            start += config.embargo if start > begin else 0.0
            if not share:
                continue
            if whole[stream.source] == 1 and stream.stream == stream.source:
                piece = excerpt(stream, start, stop)
                if len(piece.t) > 1:
                    part.append(piece)
                taken = True
            elif stream.t[0] >= start and stream.t[-1] < stop:
                # What is known after the part's end is another part's.
                part.append(replace(stream, target=stream.target.between(start, stop)))
                taken = True
        straddling += not taken
    if straddling:
        say(f"{straddling:,} segments lie across the borders between parts in time and are left out")
    return parts


def _spans(streams: Sequence[Recording]) -> Mapping[str, tuple[list[float], list[float]]]:
    """Return first and last times of the streams of each recording, each ascending."""
    spans: dict[str, tuple[list[float], list[float]]] = {}
    for stream in streams:
        if len(stream.t):
            first, last = spans.setdefault(stream.source, ([], []))
            first.append(float(stream.t[0]))
            last.append(float(stream.t[-1]))
    return {source: (sorted(first), sorted(last)) for source, (first, last) in spans.items()}


def _overlaps(stream: Recording, span: tuple[list[float], list[float]] | None) -> bool:
    """Return True if any of the spans, first and last times, has a time in common with the stream."""
    if span is None or not len(stream.t):
        return False
    # Of those that begin before the stream ends, some end after it begins.
    return bool(np.searchsorted(span[0], stream.t[-1], side="right") > np.searchsorted(span[1], stream.t[0]))
