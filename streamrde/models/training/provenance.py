"""Describe how a model was trained, for its card."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from streamrde.connectors.files.places import shown
from streamrde.fitting.inputs import SplitConfig
from streamrde.models.training.config import OutputConfig, SweepConfig, TrainConfig
from streamrde.models.training.splits import Split


def provenance(config: TrainConfig, parts: Split, *, epochs: Sequence[int]) -> dict[str, str]:
    """Return the entries of `Header.training`.

    Args:
        config: the run's configuration.
        parts: the streams of each part.
        epochs: number of each member's best epoch.
    """
    files = config.data.files
    members = {name: streams for name, streams in parts._asdict().items() if streams}
    counts = ", ".join(f"{len(streams):,} for {_PURPOSES[name]}" for name, streams in members.items())
    return {
        "data": ", ".join(map(shown, [files] if isinstance(files, str) else files)),
        "target": ", ".join(config.data.targets),
        "streams": counts,
        "split": _split(config.split),
        "epochs": f"{', '.join(map(str, epochs))} of {config.training.epochs}",
        **({"members": str(len(epochs))} if len(epochs) > 1 else {}),
        "seed": str(config.training.seed),
        "configuration": f"sha256 {digest(config)}",
    }


def digest(config: TrainConfig) -> str:
    """Return the SHA-256 of a configuration without its outputs, its cache and its sweep, hexadecimal."""
    data = msgspec.structs.replace(config.data, cache="")
    decisive = msgspec.structs.replace(config, data=data, output=OutputConfig(), sweep=SweepConfig())
    return hashlib.sha256(msgspec.json.encode(decisive, order="deterministic")).hexdigest()


_PURPOSES = {"train": "training", "validation": "validation", "test": "testing"}


def _split(config: SplitConfig) -> str:
    if config.by == "time":
        words = ["by time", f"validation: {config.validation}", f"test: {config.test}"]
        return "; ".join([*words, *([f"embargo: {config.embargo:g} s"] if config.embargo else [])])
    words = [f"by {config.undivided or ('stream' if config.by == 'stream' else 'recording')}"]
    if config.by == "stream" and config.undivided:
        words = [f"by stream, whatever its {config.undivided}"]
    if config.column not in ("", config.undivided):
        words.append(f"listed by {config.column}")
    for name in ("validation", "test"):
        value = getattr(config, name)
        text = (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)
        if config.folds and name == "test":
            text = f"fold {config.fold} of {config.folds}"
        words.append(f"{name}: {text}")
    if config.folds or not (isinstance(config.validation, tuple) and isinstance(config.test, tuple)):
        words.append(f"seed: {config.seed}")
    return "; ".join(words)
