"""A trained model on disk: safetensors with a JSON header. Reading one needs numpy only: no torch, no pickle."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.numpy

from streamrde.adapting.bands import Calibration
from streamrde.adapting.scale import calibrate_ratios
from streamrde.adapting.split import alarm_of, calibrate
from streamrde.arrays import Floats, Indices, Reals
from streamrde.disk import replace_file
from streamrde.errors import BundleError, ParameterError
from streamrde.inference.header import FORMAT, Header, header_differences
from streamrde.inference.novelty import TrainingWindows, novelty_fault
from streamrde.windowing.policies import POLICIES, WindowPolicy

_READABLE = (1, 2, 3, 4, 5, 6)
_KEY = "streamrde"
# A header is a few kB and a model some MB; a file that claims more is not one of ours.
_MAX_HEADER = 16 << 20
_MAX_FILE = 4 << 30


# Scales multiply float64 log-signatures before these are rounded to the model's dtype, hence their own.
_SCALES = frozenset({"x0.shift", "x0.scale", "logsig.scale", "token.shift", "output.shift", "output.scale"})
_FLOAT64 = _SCALES | {"range.low", "range.high"}
# Tensors of novelty and calibration are no part of the fingerprint, and may be added or removed.
_NOVELTY = "novelty."
_CALIBRATION = "calibration."


def _is_float64(name: str) -> bool:
    return name in _FLOAT64 or name.startswith((_NOVELTY, _CALIBRATION))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A trained model: header and tensors, checked against each other.

    A stream's path is ``(t - t0, x)``. The initial state is ``z0 = initial.weight ((x0 - x0.shift) * x0.scale) +
    initial.bias``; a window's log-signature enters the field as ``l * logsig.scale``, and a token that is more than
    that as ``clip((l - token.shift) * logsig.scale)`` (see inference.token_scaling); an output leaves as
    ``activation(readout.weight z + readout.bias)``, for regression times `output.scale` plus `output.shift`, for
    classification through softmax, or through the sigmoid where there is one output. Both ends have more layers where
    the header says so. Where it says so, the state decays by the rates `decay` per second, and was between `range.low`
    and `range.high` in training, and the tensors `novelty.*` say how its windows were distributed (see
    inference.novelty).

    Raises:
        BundleError: a tensor is missing, superfluous, or has another shape or dtype than the header asks for.
    """

    header: Header
    tensors: Mapping[str, Reals] = field(repr=False)

    def __post_init__(self) -> None:
        try:
            self.header.check()
        except ParameterError as error:
            raise BundleError(f"header: {error}") from None
        shapes = self.header.shapes()
        for name in sorted(shapes.keys() | self.tensors.keys()):
            if name not in self.tensors:
                raise BundleError(f"tensor '{name}' is missing; the header asks for shape {shapes[name]}")
            if name not in shapes:
                raise BundleError(f"tensor '{name}' is not part of a model with this header")
            tensor = self.tensors[name]
            dtype = "float64" if _is_float64(name) or name in self.header.field.float64 else self.header.dtype
            if tensor.shape != shapes[name] or tensor.dtype != dtype:
                raise BundleError(
                    f"tensor '{name}' is {tensor.dtype} {tensor.shape}; the header asks for {dtype} {shapes[name]}"
                )
            if not np.isfinite(tensor).all():
                raise BundleError(f"tensor '{name}' has a value that is not finite: the training diverged; train again")
        if self.header.decay and (self.tensors["decay"] < 0).any():
            raise BundleError("tensor 'decay' has a negative rate: the state would grow without end; make it 0")
        for name in (name for name in shapes if name.startswith(_CALIBRATION)):
            if (np.diff(self.tensors[name], axis=-1) < 0).any():
                raise BundleError(f"tensor '{name}' has a row that does not ascend: fit the model again")
        if self.header.novelty is not None and (fault := novelty_fault(self.tensors)):
            raise BundleError(f"{fault}: it was not written by streamrde; add the novelty again")

    @cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of tensors and header fields that determine predictions, hexadecimal.

        The p-values of windows have a fingerprint of their own: `novelty_fingerprint`.
        """
        header = msgspec.structs.replace(
            self.header,
            format=FORMAT,
            target_at="",
            novelty=None,
            statistics=None,
            learned=None,
            calibration=None,
            metrics={},
            versions={},
            training={},
        )
        header = msgspec.structs.replace(header, description="", notes="")
        # A field at its default is left out, so that a later format's new fields do not change an old model's.
        decisive = {
            f.name: value for f in msgspec.structs.fields(header) if (value := getattr(header, f.name)) != f.default
        }
        digest = hashlib.sha256(msgspec.json.encode(decisive, order="deterministic"))
        self._add(digest, [name for name in self.tensors if not name.startswith((_NOVELTY, _CALIBRATION))])
        return digest.hexdigest()

    @cached_property
    def novelty_fingerprint(self) -> str:
        """Return the SHA-256 of what determines the windows' p-values, hexadecimal, or "" if the model has none."""
        if self.header.novelty is None:
            return ""
        digest = hashlib.sha256(msgspec.json.encode(self.header.novelty, order="deterministic"))
        self._add(digest, [name for name in self.tensors if name.startswith(_NOVELTY)])
        return digest.hexdigest()

    @cached_property
    def state_fingerprint(self) -> str:
        """Return the SHA-256 of what says the meaning of a state that was not learned, hexadecimal, or "" if it was."""
        header = self.header
        if not header.field.in_rows:
            return ""
        digest = hashlib.sha256(msgspec.json.encode([header.field.state_part(), header.clip], order="deterministic"))
        self._add(digest, header.field.state_tensors(header))
        return digest.hexdigest()

    def _add(self, digest: Any, names: Sequence[str]) -> None:
        for name in sorted(names):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.tensors[name]).tobytes())

    def with_novelty(self, training: TrainingWindows, tensors: Mapping[str, Floats]) -> Bundle:
        """Return the same model with this distribution of the training windows."""
        own = {name: tensor for name, tensor in self.tensors.items() if not name.startswith(_NOVELTY)}
        return Bundle(msgspec.structs.replace(self.header, novelty=training), own | dict(tensors))

    def with_calibration(
        self, scores: Sequence[Floats], streams: Indices, *, sequences: Indices | None = None, lag: int = 1
    ) -> Bundle:
        """Return the same model with the scores of held-out streams, which intervals need.

        Args:
            scores: by the kinds of `adapting.bands.SETS`, (windows, units) each, NaN where unknown.
            streams: number of each window's stream, or of another part that is exchangeable with what will come. The
                windows of one are in order of time.
            sequences: numbers that divide the windows of `streams` further, into those in order of time. None: they are
                in order.
            lag: windows after which the label of one is known.
        """
        tables, counts = zip(*(calibrate(own, streams) for own in scores), strict=True)
        numeric = np.array([not unit.classes for unit in self.header.thresholds])
        usual, ratios = calibrate_ratios(
            np.where(numeric, scores[0], np.nan), streams, streams if sequences is None else sequences, lag=lag
        )
        known = Calibration(
            streams=tuple(counts[0].tolist()),
            scales=tuple(usual.tolist()),
            labels=int(np.isfinite(scores[0]).any(axis=1).sum()),
            alarm=alarm_of(tables[0], counts[0], scores[0], streams),
        )
        header = msgspec.structs.replace(self.header, calibration=known)
        added = {"calibration.scores": np.stack(tables), "calibration.ratios": ratios}
        return Bundle(header, {**self.tensors, **added})

    @property
    def parameters(self) -> int:
        """Return the number of trained parameters, without the scales."""
        return sum(tensor.size for name, tensor in self.tensors.items() if not _is_float64(name))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file under a temporary name beside `path`, sync it, and rename it."""
        data = safetensors.numpy.save(
            {name: np.ascontiguousarray(tensor) for name, tensor in self.tensors.items()},
            metadata={_KEY: msgspec.json.encode(self.header.written()).decode()},
        )
        replace_file(path, data)


def load(path: str | os.PathLike[str], *, policies: Sequence[type[WindowPolicy]] = ()) -> Bundle:
    """Read a model file written by `save`. Needs numpy only: no torch, no pickle.

    Args:
        policies: classes of window policies that are not built in; a file names its policy and cannot bring code.
    Raises:
        BundleError: the file is missing, cut, no streamrde model, of another format version, or its tensors do not fit.
    """
    try:
        size = Path(path).stat().st_size
        if size > _MAX_FILE:
            raise BundleError(f"{path}: {size} bytes, more than a model of this package may have ({_MAX_FILE})")
        data = Path(path).read_bytes()
    except OSError as error:
        raise BundleError(
            f"{path}: {error.strerror or error}; give the path of a model written by streamrde train"
        ) from None
    try:
        return _parse(data, policies)
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from None


def _parse(data: bytes, policies: Sequence[type[WindowPolicy]]) -> Bundle:
    try:
        tensors = safetensors.numpy.load(data)
        (size,) = struct.unpack_from("<Q", data)
        if size > _MAX_HEADER:
            raise BundleError(f"its header claims {size} bytes, more than any model of this package has")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__", {})
    except (safetensors.SafetensorError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"not a whole safetensors file ({error}); copy it again or train again") from None
    if _KEY not in metadata:
        raise BundleError(f"a safetensors file, but not a streamrde model: its metadata has no '{_KEY}' entry")
    try:
        start = msgspec.json.decode(metadata[_KEY], type=_Start)
        if start.format not in _READABLE:
            raise BundleError(
                f"format {start.format}, and this streamrde reads up to {FORMAT}: install the streamrde that wrote it"
            )
        known = {kind.__struct_config__.tag: kind for kind in policies}
        name = start.windows.get("policy")
        if name in known:
            fields = msgspec.json.decode(metadata[_KEY], type=dict[str, Any])
            windows = msgspec.convert(fields.pop("windows"), known[name])
            header = msgspec.structs.replace(msgspec.convert(fields, Header), windows=windows)
        elif name is None or name in POLICIES:
            header = msgspec.json.decode(metadata[_KEY], type=Header)
        else:
            raise BundleError(f"its windows are of policy {name!r}, which is not built in: load(..., policies=[...])")
    except msgspec.DecodeError as error:
        raise BundleError(f"header: {error}") from None
    return Bundle(msgspec.structs.replace(header, format=FORMAT), tensors)


def state_differences(old: Bundle, new: Bundle) -> list[str]:
    """List the differences that keep a model from continuing the streams of another."""
    found = header_differences(old.header, new.header)
    if old.header.field.in_rows or new.header.field.in_rows:
        # A state that was not learned means what its random features say.
        parts = [(own.header.field.state_part(), own.header.clip) for own in (old, new)]
        found += [f"{name} differs" for name, a, b in zip(("field", "clip"), *parts, strict=True) if a != b]
        names = sorted(new.header.field.state_tensors(new.header))
        found += [f"tensor '{name}' differs" for name in names if not _equal(old.tensors, new.tensors, name)]
    elif any(own.header.field.state_size is not None for own in (old, new)):
        found += ["field differs"] * (old.header.field.state_part() != new.header.field.state_part())
    return found


def _equal(old: Mapping[str, Reals], new: Mapping[str, Reals], name: str) -> bool:
    return name in old and np.array_equal(old[name], new[name])


class _Start(msgspec.Struct):
    format: int
    windows: dict[str, Any] = {}
