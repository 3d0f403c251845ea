"""How a model was trained, in the words that its card shows."""

from __future__ import annotations

import hashlib

import msgspec

from streamrde.models.training.config import OutputConfig, SplitConfig, TrainConfig
from streamrde.models.training.recordings import Split


def provenance(config: TrainConfig, parts: Split, *, epoch: int) -> dict[str, str]:
    """What `Header.training` says.

    Args:
        config: of the run.
        parts: the streams of each part.
        epoch: number of the epoch whose weights the model has.
    """
    files = config.data.files
    counts = ", ".join(f"{len(streams)} for {_PURPOSES[name]}" for name, streams in parts._asdict().items() if streams)
    return {
        "data": files if isinstance(files, str) else ", ".join(files),
        "target": ", ".join(config.data.targets),
        "streams": counts,
        "split": _split(config.split),
        "epochs": f"{epoch} of {config.training.epochs}",
        "seed": str(config.training.seed),
        "configuration": f"sha256 {digest(config)}",
    }


def digest(config: TrainConfig) -> str:
    """SHA-256 of a configuration without its outputs, hexadecimal."""
    told = msgspec.structs.replace(config, output=OutputConfig())
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).hexdigest()


_PURPOSES = {"train": "training", "validation": "validation", "test": "testing"}


def _split(config: SplitConfig) -> str:
    """The fields of the split that say something, in words."""
    told = []
    for name in config.__struct_fields__:
        value = getattr(config, name)
        text = (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)
        drawn = any(isinstance(share, float) for share in (config.validation, config.test))
        if text and (name != "seed" or drawn):
            told.append(f"by {text}" if name == "column" else f"{name}: {text}")
    return "; ".join(told)
