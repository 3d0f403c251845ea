"""A training under way on disk, from which it goes on as if nobody had stopped it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor

from streamrde.disk import replace_file
from streamrde.errors import StateError
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import Example

FORMAT = 2
"""1: the decay was stored per second. 2: in a time of its own."""
_KEY = "streamrde-checkpoint"
# What may differ between a run and its continuation: where things are, not what they are, and what training ignores.
_FREE = (
    "output",
    "sweep",
    "training.checkpoint",
    "training.checkpoint_seconds",
    "data.cache",
    "data.files",
    "data.segments.file",
)


class State(NamedTuple):
    """Everything that the rest of a training depends on."""

    tensors: dict[str, Tensor]
    """Weights, averaged and best weights, the optimiser's moments, torch's random generators."""
    told: dict[str, Any]
    """The rest, as JSON has it."""


class Checkpoint:
    """A file with the state of a run after an epoch: safetensors with a JSON header.

    Args:
        path: the file; it is replaced whole or not at all.
        seconds: it is written at the end of an epoch where the last time is so long ago.
        identity: of the run: what must be the same for another to go on from it.
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._identity = dict(identity)

    def write(self, state: State) -> None:
        """Put a state in the place of the last one."""
        header = {"format": FORMAT, "identity": self._identity, "state": state.told}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        replace_file(self.path, safetensors.torch.save(tensors, metadata={_KEY: json.dumps(header)}))

    def read(self) -> State | None:
        """The state that was written last; None where there is no file.

        Raises:
            StateError: the file is damaged, of another format, or of a run with another configuration or other data.
        """
        if not self.path.exists():
            return None
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise StateError(f"{self.path} is no checkpoint of a training: {error}; remove it to begin anew") from None
        if header["format"] != FORMAT:
            raise StateError(
                f"{self.path} has format {header['format']}, and this version reads {FORMAT}: go on with the version "
                "that wrote it, or remove it to begin anew"
            )
        self._compare(header["identity"])
        return State(tensors, header["state"])

    def _compare(self, written: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self._identity))
        differences = [
            f"{key} was {json.dumps(written.get(key))} and is {json.dumps(now.get(key))}"
            for key in sorted(written.keys() | now.keys())
            if written.get(key) != now.get(key)
        ]
        if differences:
            raise StateError(
                f"{self.path} is of another run: {'; '.join(differences)}. Set these back to go on, or begin anew "
                "without --resume"
            )


def identity_of(config: TrainConfig, examples: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """The keys of a configuration that decide the model, dotted, and a digest of the windows of each part."""
    told = _flat(msgspec.to_builtins(config))
    told = {key: value for key, value in told.items() if not (key in _FREE or key.split(".")[0] in _FREE)}
    for part, members in examples.items():
        digest = hashlib.blake2b(digest_size=16)
        for example in members:
            digest.update(example.stream.encode())
            for array in (example.x0, example.ends, example.logsigs, example.target):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        told[f"digest of the {part} streams"] = digest.hexdigest()
    return told


def _flat(tables: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in tables.items():
        if isinstance(value, dict) and value:
            result |= _flat(value, f"{above}{key}.")
        else:
            result[f"{above}{key}"] = value
    return result
