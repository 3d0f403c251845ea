"""Save a running training on disk, and resume it as if it had never stopped."""

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
from streamrde.toml import dotted

FORMAT = 2
"""1: the decay was stored per second. 2: in a time of its own."""
_KEY = "streamrde-checkpoint"
# Keys that may differ between a run and its continuation: paths, and what training ignores.
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
    rest: dict[str, Any]
    """Everything else, as JSON values."""


class Checkpoint:
    """A file with the state of a run after an epoch: safetensors with a JSON header.

    Args:
        path: the file, which is replaced atomically.
        seconds: least time between two writes. They happen at the ends of epochs.
        identity: properties of the run that must be the same in a run that resumes it.
    """

    def __init__(self, path: str | os.PathLike[str], *, seconds: float, identity: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.seconds = seconds
        self._identity = dict(identity)

    def write(self, state: State) -> None:
        """Replace the last state by this one."""
        header = {"format": FORMAT, "identity": self._identity, "state": state.rest}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
        replace_file(self.path, safetensors.torch.save(tensors, metadata={_KEY: json.dumps(header)}))

    def read(self) -> State | None:
        """Return the last state, or None if there is no file.

        Raises:
            StateError: the file is damaged, has another format, or belongs to another configuration or other data.
        """
        if not self.path.exists():
            return None
        try:
            with safetensors.safe_open(self.path, framework="pt") as file:
                header = json.loads((file.metadata() or {})[_KEY])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is not a mapping)
        except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
            raise StateError(f"{self.path} is not a training's checkpoint: {error}; remove it to start over") from None
        if header["format"] != FORMAT:
            raise StateError(
                f"{self.path} has format {header['format']}, and this version reads {FORMAT}: resume with the version "
                "that wrote it, or remove it to start over"
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
                f"{self.path} belongs to another run: {'; '.join(differences)}. Set these back, or start over "
                "without --resume"
            )


def identity_of(config: TrainConfig, examples: Mapping[str, Sequence[Example]]) -> dict[str, Any]:
    """Return the configuration's keys that determine the model, dotted, and a digest of each part's windows."""
    keys = dotted(msgspec.to_builtins(config))
    keys = {key: value for key, value in keys.items() if not (key in _FREE or key.split(".")[0] in _FREE)}
    for part, members in examples.items():
        digest = hashlib.blake2b(digest_size=16)
        for example in members:
            digest.update(example.stream.encode())
            for array in (example.x0, example.ends, example.logsigs, example.target):
                digest.update(str(array.shape).encode())
                digest.update(np.ascontiguousarray(array).tobytes())
        keys[f"digest of the {part} streams"] = digest.hexdigest()
    return keys
