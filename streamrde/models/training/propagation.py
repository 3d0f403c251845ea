"""A batch of streams through the model: all windows at once, or part by part with the state carried over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Batch


class Part(NamedTuple):
    """Some consecutive windows of a batch, of the streams that last until then."""

    y: Tensor
    """Readouts, (n, k, outputs): logits, or scaled values."""
    rows: Tensor | slice
    """Which streams of the batch these are, (n,)."""
    begin: int
    """Number of the first window."""
    end: int
    """Number behind the last one."""

    def of(self, batched: Tensor) -> Tensor:
        """What of a tensor of the batch, (N, K, ...), belongs to the part, (n, k, ...)."""
        return batched[self.rows, self.begin : self.end]


class _Carried(NamedTuple):
    """What the windows to come depend on, of each stream that is left."""

    start: Tensor
    """States, (n, hidden), detached."""
    before: Tensor
    """Log-signatures of the windows before, (n, B)."""
    total: Tensor
    """Sums of the states so far, (n, hidden), detached."""


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
    counts = torch.as_tensor(lengths, device=batch.logsigs.device)
    left = torch.arange(len(counts), device=counts.device)
    carried: _Carried | None = None
    for begin in range(0, longest, windows):
        end = min(begin + windows, longest)
        rows: Tensor | slice = left if begin else slice(None)
        wanted = weight is None or bool((weight[rows, begin:end] != 0).any())
        start, before, total = carried or (None, None, None)
        with torch.set_grad_enabled(wanted and torch.is_grad_enabled()):
            logsigs = batch.logsigs[rows, begin:end]
            masked = None if mask is None else mask[rows]
            states = model.hidden_states(batch.x0[rows], logsigs, mask=masked, start=start, before=before)
            after = states[:, 1:]
            y = model.readout(model.pooled(after, total=total, count=begin)) if wanted else None
        if end < longest:
            stay = counts[left] > end
            sums = after.detach().sum(dim=1) + (0 if total is None else total)
            carried = _Carried(states[stay, -1].detach(), logsigs[stay, -1], sums[stay])
            left = left[stay]
        if y is not None:
            yield Part(y, rows, begin, end)
