"""Predict after a window that closed alone, as live windows of one stream do, without arrays over many windows."""

from __future__ import annotations

import math

from streamrde.arrays import Floats, Structured
from streamrde.inference.header import Header
from streamrde.inference.predictions import FLAGS, Prediction
from streamrde.inference.states import States
from streamrde.kernels.outcome import Outcome


class LoneWindow:
    """Make the prediction after one window. It has the bits of `StreamTable.pushed`.

    Args:
        states: the model's, for which `States.steps_alone` is true.
        header: the model's, without several heads.
    """

    def __init__(self, states: States, header: Header) -> None:
        self._step, self._names = states.step_alone, header.output_names
        self._classes, self._binary = header.parts[0].classes, header.parts[0].is_binary

    @staticmethod
    def suits(states: States, header: Header) -> bool:
        """Return True if the model and its options leave a window to itself."""
        return states.steps_alone and header.emit == "every" and not header.heads

    @staticmethod
    def is_one(outcome: Outcome) -> bool:
        """Return True if a push closed one window and nothing else happened."""
        return len(outcome.windows) == 1 and not (len(outcome.episodes) or len(outcome.unused) or len(outcome.cuts))

    def predict(self, name: str, rows: Floats, windows: Structured, logsigs: Floats) -> Prediction | None:
        """Step the stream in row 0 and return its prediction.

        If the state leaves where it should be, None is returned and nothing has changed.
        """
        stepped = self._step(rows, logsigs)
        if stepped is None:
            return None
        outputs, flag = stepped
        ((_, window, _, _, t_start, t_end, _, _),) = windows.tolist()
        label = None
        if self._classes:
            values = outputs[0].tolist()
            if math.isfinite(sum(values)):
                best = values[0] > 0.5 if self._binary else values.index(max(values))
                label = self._classes[best]
        return Prediction(name, window, t_start, t_end, outputs[0], self._names, label, FLAGS[flag])
