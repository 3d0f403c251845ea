"""Keep windows of streams on disk, so that the next run over the same data reads them instead of computing them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

import streamrde
from streamrde.connectors.columns import SharedKeys
from streamrde.connectors.files.recordings import find_recordings
from streamrde.disk import replace_file
from streamrde.fitting.recordings import Recording
from streamrde.models.training.config import TrainConfig
from streamrde.windowing.partition import Partition
from streamrde.windowing.policies import built_in
from streamrde.windowing.recorded import Windowed

# Of an entry; another one makes every older entry stale.
_FORMAT = 2
_SUFFIX = ".windows.safetensors"
_LARGEST = 8 << 30
"""Bytes that the entries of a folder may have together; beyond that those go that were not used for longest."""
_PER_WINDOW = ("start", "end", "logsigs", "sampled")
_NAMES = ("stream", "count", "first", *_PER_WINDOW)


def cached_windows(
    streams: Sequence[Recording],
    config: TrainConfig,
    partition: Partition,
    *,
    compute: Callable[[], list[Windowed]],
) -> list[Windowed]:
    """Return what `compute` returns for these streams, from the folder `data.cache` if an earlier run has stored it.

    An entry is found by a digest of all it depends on: the data files' paths, sizes and times of modification; the keys
    of the configuration that decide samples and windows; the streams' names and lengths; the values before a channel is
    observed; and the version of this package. Whatever changes, another entry is looked for, and an old one never
    found again. One that is cut or damaged (it has checksums) is computed again. Entries are written under a temporary
    name and renamed.

    Args:
        streams: as they are recorded, not augmented.
        partition: how they become windows.
    """
    if not config.data.cache or not built_in(partition.windows) or not streams:
        return compute()
    folder = Path(config.data.cache)
    path = folder / f"{_digest(streams, config, partition)}{_SUFFIX}"
    found = _read(path)
    if found is None:
        found = compute()
        _write(path, found)
        _make_room(folder, keep=path)
    return found


def _digest(streams: Sequence[Recording], config: TrainConfig, partition: Partition) -> str:
    data = config.data
    files = [data.files] if isinstance(data.files, str) else [*data.files]
    listed = [data.segments.file] if data.segments is not None and data.segments.file else []
    stats = [(str(r.path.resolve()), r.path.stat()) for r in find_recordings([*files, *listed])]
    decisive: dict[str, Any] = {
        "format": _FORMAT,
        "version": streamrde.__version__,
        "files": [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats],
        "data": (data.channels, data.stream, data.time, data.time_form(), data.filters, data.segments),
        "columns": {name: getattr(data, name) for name in SharedKeys.__struct_fields__},
        "order": config.order,
        "unusable": (data.restarts, data.faults, data.on_error),
        "partition": partition._asdict() | {"fills": tuple(map(float, partition.fills))},
        "logsignatures": config.training.logsignatures,
    }
    digest = hashlib.sha256(msgspec.json.encode(decisive, order="deterministic"))
    for stream in streams:
        digest.update(f"{stream.stream}\0{len(stream.t)}\0".encode())
        digest.update(np.array([stream.t[0], stream.t[-1]]).tobytes() if len(stream.t) else b"")
    return digest.hexdigest()


def _write(path: Path, windows: Sequence[Windowed]) -> None:
    if not windows:
        return
    arrays = {
        "stream": np.array([own.stream for own in windows], np.int64),
        "count": np.array([len(own.end) for own in windows], np.int64),
        "first": np.stack([own.first for own in windows]),
        **{name: np.concatenate([getattr(own, name) for own in windows]) for name in _PER_WINDOW},
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    sums = {name: str(zlib.crc32(array.tobytes())) for name, array in arrays.items()}
    replace_file(path, safetensors.numpy.save(arrays, metadata=sums))


def _read(path: Path) -> list[Windowed] | None:
    """Read the windows of an entry, or return None if there is no whole one."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            sums: Mapping[str, str] = file.metadata() or {}
            arrays: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError):
        return None
    if sorted(arrays) != sorted(_NAMES) or any(str(zlib.crc32(a.tobytes())) != sums.get(n) for n, a in arrays.items()):
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was used
    stops = np.cumsum(arrays["count"]).tolist()
    return [
        Windowed(stream, first, *(arrays[name][stop - count : stop] for name in _PER_WINDOW))
        for stream, first, stop, count in zip(
            arrays["stream"].tolist(), arrays["first"], stops, arrays["count"].tolist(), strict=True
        )
    ]


def _make_room(folder: Path, *, keep: Path) -> None:
    entries = []
    for path in folder.glob(f"*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # another run may remove it meanwhile
            stat = path.stat()
            entries.append((stat.st_mtime_ns, stat.st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries):
        if total <= _LARGEST:
            return
        if path != keep:
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
