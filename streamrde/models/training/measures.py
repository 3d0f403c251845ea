"""What is measured of a trained model on streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Example, collate

Array = NDArray[np.float64]


@torch.no_grad()
def predict(model: NeuralRDE, examples: Sequence[Example], *, batch_size: int, device: torch.device) -> list[Array]:
    """Outputs of each example, (K, outputs) each."""
    outputs: list[Array] = []
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = collate(part, device)
        outputs += unpadded(model(batch.x0, batch.logsigs), part)
    return outputs


def unpadded(y: torch.Tensor, examples: Sequence[Example]) -> list[Array]:
    """Outputs of a batch, (N, K, outputs), as those of each of its examples, (K, outputs), float64."""
    arrays: Array = y.double().cpu().numpy()
    return [own[: len(example.logsigs)] for own, example in zip(arrays, examples, strict=True)]


@torch.no_grad()
def state_range(
    model: NeuralRDE, examples: Sequence[Example], *, batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Least and greatest value of each component of the state over all windows, (hidden,) each."""
    low, high = [], []
    for start in range(0, len(examples), batch_size):
        part = examples[start : start + batch_size]
        batch = collate(part, device)
        states = model.hidden_states(batch.x0, batch.logsigs).double()
        for own, example in zip(states, part, strict=True):
            real = own[: len(example.logsigs) + 1]
            low.append(real.amin(dim=0))
            high.append(real.amax(dim=0))
    return torch.stack(low).amin(dim=0), torch.stack(high).amax(dim=0)


def measure(
    examples: Sequence[Example], outputs: Sequence[Array], *, seconds: Sequence[float] = ()
) -> dict[str, float]:
    """Accuracy (classification) or errors in the targets' units (regression).

    Classification: over all windows, at each stream's end, and by the last window that closed within so many `seconds`
    (of the streams that last that long). Regression: root mean square and mean absolute error over all windows that
    have a target; with several targets, each counts the same.
    """
    if not examples:
        return {}
    result = {"streams": float(len(examples)), "windows": float(sum(len(y) for y in outputs))}
    if examples[0].target.ndim == 1:
        right = [y.argmax(axis=1) == example.target for example, y in zip(examples, outputs, strict=True)]
        result["accuracy_windows"] = float(np.concatenate(right).mean())
        result["accuracy_end"] = float(np.mean([hits[-1] for hits in right]))
        for limit in seconds:
            # Half a window's rounding: an edge at 0.1 * 3 is an edge at 0.3.
            closed = [int((example.ends <= limit + 1e-9).sum()) for example in examples]
            seen = [
                hits[count - 1]
                for example, hits, count in zip(examples, right, closed, strict=True)
                if count and example.ends[-1] >= limit
            ]
            if seen:
                result[f"accuracy_{limit:g}s"] = float(np.mean(seen))
        return result
    errors = np.concatenate([y - example.target for example, y in zip(examples, outputs, strict=True)])
    errors = errors[:, np.isfinite(errors).any(axis=0)]
    if errors.size:
        result["rmse"] = float(np.sqrt(np.nanmean(errors**2, axis=0)).mean())
        result["mae"] = float(np.nanmean(np.abs(errors), axis=0).mean())
    return result
