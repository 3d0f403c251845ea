"""Smart-watch recordings in this package. watch/NOTICE names their source and licence."""

from __future__ import annotations

from pathlib import Path

from streamrde.connectors.columns import Columns
from streamrde.connectors.files.reading import read

FOLDER = Path(__file__).parent / "watch"
MODEL = FOLDER / "model.safetensors"
COLUMNS = Columns(channels=("ax", "ay", "az", "wx", "wy", "wz"))
# The model never saw these people: neither in training nor in validation nor in tuning.
HELD_OUT = (8, 9, 10)


def held_out_files() -> list[str]:
    """Return one Parquet file per person whom the model never saw."""
    return [str(FOLDER / f"subject-{subject:02d}.parquet") for subject in HELD_OUT]


def truth() -> dict[str, str]:
    """Return the exercise of each held-out stream."""
    labels: dict[str, str] = {}
    for samples in read(held_out_files(), COLUMNS, extra=("label",)):
        if samples.extra is not None:
            labels.update(zip(samples.streams.to_pylist(), samples.extra["label"].to_pylist(), strict=True))
    return labels
