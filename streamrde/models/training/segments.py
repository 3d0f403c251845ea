"""Cut excerpts of recordings into streams, by a rule or from a list. Their samples are views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.connectors.files.formats import Kind
from streamrde.connectors.files.record_batches import read_batches, schema_of
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.files.sample_file import SampleFile
from streamrde.errors import DataError
from streamrde.fitting.inputs import DataConfig, SegmentsConfig
from streamrde.fitting.recordings import Recording
from streamrde.fitting.targets import Target, as_target, texts

Say = Callable[[str], None]

# A time is a start if it is so near, in steps between samples: 0.3 must be 3 * 0.1.
_NEAR = 1e-6


class Listed(NamedTuple):
    """Excerpts as a file lists them."""

    streams: list[str]
    start: Floats
    end: Floats
    target: Target | None
    """One of each per excerpt, (M, outputs); None where the file has none."""
    keys: dict[str, list[str]]
    """Columns that are asked for beside these and that the file has, by name."""


def read_listed(data: DataConfig, config: SegmentsConfig, *, keys: Sequence[str] = ()) -> Listed:
    """Read the file of listed excerpts.

    Raises:
        DataError: it cannot be read, lacks a column, has only some of the targets, or an excerpt that ends before it
            starts.
    """
    own = (config.stream, config.start, config.end)
    recordings = find_recordings(config.file, csv=data.csv)
    has = schema_of(recordings[0]).names
    found = [name for name in data.targets if name in has]
    if found and len(found) < len(data.targets):
        lacks = next(name for name in data.targets if name not in has)
        raise DataError(
            f"{config.file}: has the target '{found[0]}' and not '{lacks}'; all targets must be there, or none",
            path=config.file,
            column=lacks,
        )
    extra = list(dict.fromkeys([*found, *(key for key in keys if key in has)]))
    wanted = list(dict.fromkeys([*own, *extra]))
    form = data.time_form()
    kinds: dict[str, Kind] = dict.fromkeys(own[1:], "text" if form.reads_text else "time")
    kinds[config.stream] = "name"
    parts: list[tuple[list[str], Floats, Floats]] = []
    batches: list[pa.RecordBatch] = []
    for recording in recordings:
        file = SampleFile(recording.path, recording.csv)
        for first, batch in read_batches(recording, wanted, kinds=kinds):
            file.rows = first
            streams = file.streams(batch, config.stream).to_pylist()
            times = [file.times(batch, name, form) for name in own[1:]]
            if not (times[1] > times[0]).all():
                raise file.error(config.end, "the excerpt ends before it starts; correct it", times[1] <= times[0])
            parts.append((streams, times[0], times[1]))
            batches.append(batch.select(extra))
    columns = {name: pa.chunked_array([batch.column(name) for batch in batches]) for name in extra}
    target = None
    if found:
        target = as_target(
            [columns[name] for name in found], found, config.file, classify=data.task == "classification"
        )
    values = {}
    for key in set(keys) & columns.keys():
        codes, names = texts(columns[key])
        values[key] = [names[code] if code >= 0 else "" for code in codes]
    streams = [name for part in parts for name in part[0]]
    start, end = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
    return Listed(streams, start, end, target, values)


def cut_listed(
    recordings: Sequence[Recording],
    listed: Listed,
    *,
    group: str = "",
    given: str = "",
    ahead: float = 0.0,
    say: Say,
    where: str,
) -> list[Recording]:
    """Return the listed excerpts, by recording and start. Those with fewer than two samples are left out and counted.

    Args:
        group, given: columns of the list, where it has them; see `read_recordings`.
        ahead: see `excerpt`.

    Raises:
        DataError: an excerpt is of a recording that is not there, or is listed twice.
    """
    by_name = {recording.stream: recording for recording in recordings}
    segments: dict[str, Recording] = {}
    order = sorted(range(len(listed.streams)), key=lambda i: (listed.streams[i], listed.start[i]))
    for i in order:
        name = listed.streams[i]
        if name not in by_name:
            raise DataError(f"{where}: row {i} is of recording '{name}', which is not in data.files", path=where)
        segment = excerpt(by_name[name], float(listed.start[i]), float(listed.end[i]), ahead=ahead)
        if segment.stream in segments:
            raise DataError(f"{where}: '{segment.stream}' is listed twice; drop row {i}", path=where)
        if listed.target is not None:
            segment = replace(segment, target=replace(listed.target, values=listed.target.values[i : i + 1]))
        segment = replace(
            segment,
            group=listed.keys[group][i] if group in listed.keys else segment.group,
            given=listed.keys[given][i] if given in listed.keys else segment.given,
        )
        segments[segment.stream] = segment
    kept = [segment for segment in segments.values() if len(segment.t) > 1]
    say(f"{len(segments):,} listed segments of {len({listed.streams[i] for i in order}):,} recordings")
    if len(kept) < len(segments):
        say(f"{len(segments) - len(kept):,} of them have fewer than two samples and are left out")
    return kept


def cut_by_rule(
    recordings: Sequence[Recording], config: SegmentsConfig, *, ahead: float = 0.0, say: Say
) -> list[Recording]:
    """Return whole excerpts of equal length at equal distances, by recording and start. `ahead` is as for `excerpt`."""
    seconds = config.seconds or 0.0
    every = config.every or seconds
    segments: list[Recording] = []
    empty = short = unused = 0
    for recording in recordings:
        t = recording.t
        step = float(np.median(np.diff(t))) if len(t) > 1 else 0.0
        count = int(np.floor((t[-1] - t[0] + step * (1 + _NEAR) - seconds) / every)) + 1
        starts = t[0] + every * np.arange(max(count, 0))
        cut = [excerpt(recording, start, start + seconds, near=_NEAR * step, ahead=ahead) for start in starts.tolist()]
        kept = [segment for segment in cut if len(segment.t) > 1]
        segments += kept
        empty += len(cut) - len(kept)
        short += not cut
        last = starts[-1] + seconds if len(cut) else t[0]
        unused += len(t) - int(np.searchsorted(t, last - _NEAR * step))
    say(
        f"{len(segments):,} segments of {seconds:g} s every {every:g} s from {len(recordings):,} recordings; "
        f"{unused:,} samples at their ends are in none"
    )
    if short:
        say(f"{short:,} recordings are shorter than a segment")
    if empty:
        say(f"{empty:,} segments have fewer than two samples and are left out")
    return segments


def excerpt(recording: Recording, start: float, end: float, *, near: float = 0.0, ahead: float = 0.0) -> Recording:
    """Return the samples with start <= t < end as a stream, with its targets and those of `ahead` seconds more.

    Times within `near` of start and end count as these.
    """
    own = slice(*np.searchsorted(recording.t, [start - near, end - near]))
    name = f"{recording.stream}@{np.format_float_positional(np.round(start, 9), trim='-')}"
    t = recording.t[own]
    target = recording.target.between(t[0], t[-1] + ahead) if len(t) else recording.target
    return replace(recording, stream=name, t=t, x=recording.x[own], target=target)
