"""Ask a model for its answers to recordings, as it is served."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde.arrays import Floats
from streamrde.fitting.recordings import Recording
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet


class Answers(NamedTuple):
    """Answers after the windows of one recording."""

    end: Floats
    """Time when each window ends, seconds, (K,)."""
    value: Floats
    """Probabilities or numbers, (K, outputs)."""


def answers_of(bundle: Bundle, recordings: Sequence[Recording]) -> list[Answers]:
    """Return a model's answers after all windows of each recording, the last of which its end closes."""
    fleet, found = Fleet(bundle, faults="drop", time_check="off"), []
    for i, recording in enumerate(recordings):
        name = str(i)
        pushed = fleet.push([name] * len(recording.t), recording.t, recording.x)
        rows = pa.Table.from_batches([pushed, fleet.flush([name])]).combine_chunks()
        value = np.concatenate([chunk.flatten().to_numpy() for chunk in rows.column("value").chunks] or [np.zeros(0)])
        end = rows.column("t_end").to_numpy()
        found.append(Answers(end, value.reshape(len(end), bundle.header.outputs).astype(np.float64)))
    return found
