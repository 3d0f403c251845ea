"""Run a batch of streams through the model: all windows at once, or part by part with the state carried over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Batch


class Part(NamedTuple):
    """Consecutive windows of a batch, of the streams that last so long."""

    y: Tensor
    """Readouts, (n, k, outputs): logits, or scaled values."""
    rows: Tensor | slice
    """Places of the streams in the batch, (n,)."""
    begin: int
    """Number of the first window."""
    end: int
    """Number of the last window plus one."""

    def select(self, batched: Tensor) -> Tensor:
        """Select the part, (n, k, ...), of a tensor of the batch, (N, K, ...)."""
        return batched[self.rows, self.begin : self.end]


class _Carried(NamedTuple):
    """The streams' state at the end of a part, which the next part continues."""

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
    token_mask: Tensor | None = None,
) -> Iterator[Part]:
    """Yield the outputs of a batch in parts of `windows` windows. Gradients reach back to the start of a part.

    A part starts from the detached state after the part before: truncated back-propagation (Williams & Peng 1990). If
    the weights change between parts, so do the states from there on. A stream that has ended is left out of later
    parts.

    Args:
        model: the model. Each part uses its weights of that moment.
        lengths: lengths of the streams, in windows.
        windows: windows in a part. 0: all of them.
        weight: weights of windows in the loss, (N, K, ...). A part without any is computed without gradients and not
            yielded. None: yield every part.
        mask, token_mask: as for `NeuralRDE.hidden_states`, (N, width) and (N, B).
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
            masked, token_masked = (None if own is None else own[rows] for own in (mask, token_mask))
            states = model.hidden_states(
                batch.x0[rows],
                logsigs,
                mask=masked,
                token_mask=token_masked,
                start=start,
                before=before,
                through=False,
            )
            after = states[:, 1:]
            y = model.read(model.pooled(after, total=total, count=begin)) if wanted else None
        if end < longest:
            stay = counts[left] > end
            sums = after.detach().sum(dim=1) + (0 if total is None else total)
            carried = _Carried(states[stay, -1].detach(), logsigs[stay, -1], sums[stay])
            left = left[stay]
        if y is not None:
            yield Part(y, rows, begin, end)
