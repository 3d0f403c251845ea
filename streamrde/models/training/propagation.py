"""A batch of streams through the model: all windows at once, or part by part with the state carried over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Batch


class Part(NamedTuple):
    """Some consecutive windows of a batch, of the streams that last until then."""

    y: Tensor
    """Outputs, (n, k, outputs)."""
    rows: Tensor | slice
    """Which streams of the batch these are, (n,)."""
    begin: int
    """Number of the first window."""
    end: int
    """Number behind the last one."""

    def of(self, batched: Tensor) -> Tensor:
        """What of a tensor of the batch, (N, K, ...), belongs to the part, (n, k, ...)."""
        return batched[self.rows, self.begin : self.end]


def propagate(
    model: NeuralRDE,
    batch: Batch,
    lengths: Sequence[int],
    *,
    windows: int = 0,
    weight: Tensor | None = None,
    mask: Tensor | None = None,
) -> Iterator[Part]:
    """The outputs of a batch in parts of so many `windows`; gradients reach back to the beginning of a part.

    A part goes on from the state after the one before, which is detached: truncated back-propagation (Williams & Peng
    1990). Where the weights change between parts, so do the states from there on, as they would live. A stream that has
    ended is left out of the parts to come.

    Args:
        model: in whatever state it is when a part is asked for.
        lengths: of the streams, in windows.
        windows: of a part; 0: all of them.
        weight: of windows in the loss, (N, K, ...); a part without any is passed through without gradients and is not
            yielded; None: every part is wanted.
        mask: as of `NeuralRDE.hidden_states`, (N, width).
    """
    longest = max(lengths)
    windows = windows or longest
    left = np.arange(len(lengths))
    start = before = total = None
    for begin in range(0, longest, windows):
        end = min(begin + windows, longest)
        staying = np.asarray(lengths)[left] > begin
        rows: Tensor | slice = slice(None)
        if begin:
            left = left[staying]
            stay = torch.as_tensor(staying, device=batch.logsigs.device)
            rows = torch.as_tensor(left, device=batch.logsigs.device)
            assert start is not None and before is not None and total is not None  # noqa: S101, PT018
            start, before, total = start[stay], before[stay], total[stay]
        wanted = weight is None or bool((weight[rows, begin:end] != 0).any())
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            logsigs = batch.logsigs[rows, begin:end]
            masked = None if mask is None else mask[rows]
            states = model.hidden_states(batch.x0[rows], logsigs, mask=masked, start=start, before=before)
            after = states[:, 1:]
            y = model.outputs(model.pooled(after, total=total, count=begin)) if wanted else None
        if end < longest:
            # Streams that end within the part carry states of padding, and are left out of the next.
            start, before = states[:, -1].detach(), logsigs[:, -1]
            total = after.detach().sum(dim=1) + (0 if total is None else total)
        if y is not None:
            yield Part(y, rows, begin, end)
