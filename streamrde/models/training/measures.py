"""Measure a trained model on streams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from streamrde.arrays import Floats, Ints
from streamrde.inference.quality import classification_measures, regression_measures, softmax
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.training.examples import Example, in_turn


@torch.no_grad()
def predict(model: NeuralRDE, examples: Sequence[Example], *, batch_size: int, device: torch.device) -> list[Floats]:
    """Return the outputs for each example, (K, outputs) each."""
    outputs: list[Floats] = []
    for part, batch in in_turn(examples, size=batch_size, device=device):
        outputs += unpadded(model(batch.x0, batch.logsigs), part)
    return outputs


def unpadded(y: torch.Tensor, examples: Sequence[Example]) -> list[Floats]:
    """Split a batch's outputs, (N, K, outputs), into those of its examples, (K, outputs), float64."""
    arrays: Floats = y.double().cpu().numpy()
    return [own[: len(example.logsigs)] for own, example in zip(arrays, examples, strict=True)]


@torch.no_grad()
def state_range(
    model: NeuralRDE, examples: Sequence[Example], *, batch_size: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and greatest value of each component of the state over all windows, (hidden,) each."""
    low, high = [], []
    for part, batch in in_turn(examples, size=batch_size, device=device):
        states = model.hidden_states(batch.x0, batch.logsigs).double()
        for own, example in zip(states, part, strict=True):
            real = own[: len(example.logsigs) + 1]
            low.append(real.amin(dim=0))
            high.append(real.amax(dim=0))
    return torch.stack(low).amin(dim=0), torch.stack(high).amax(dim=0)


def measure(
    examples: Sequence[Example],
    outputs: Sequence[Floats],
    *,
    seconds: Sequence[float] = (),
    targets: Sequence[str] = (),
) -> dict[str, float]:
    """Compute the measures of `inference.quality` over all windows that have a target, and at the streams' ends.

    Classification: each measure's name ends in "_windows" or "_end". "accuracy_2s" is that of the last windows that
    closed within 2 of `seconds`, for streams that last that long. Regression: "rmse", "mae" and "r2" over all windows,
    "rmse_end", ... For several `targets` (their names) they are the mean over them, and each has its own, such as
    "rr_rmse". A stream's end is the last of its windows that has a target.
    """
    if not examples:
        return {}
    result = {"streams": float(len(examples)), "windows": float(sum(len(y) for y in outputs))}
    if examples[0].target.ndim == 1:
        return result | _class_measures(examples, outputs, seconds)
    return result | _number_measures(examples, outputs, targets)


def _class_measures(
    examples: Sequence[Example], outputs: Sequence[Floats], seconds: Sequence[float]
) -> dict[str, float]:
    known = [np.flatnonzero(example.target >= 0) for example in examples]
    pairs = list(zip(examples, outputs, known, strict=True))
    windows = _measure_classes([(e.target[own], y[own]) for e, y, own in pairs])
    ends = _measure_classes([(e.target[own[-1:]], y[own[-1:]]) for e, y, own in pairs])
    result = {f"{name}_windows": value for name, value in windows.items()}
    result |= {f"{name}_end": value for name, value in ends.items()}
    for limit in seconds:
        seen = []
        for example, y, _ in pairs:
            # Allow for rounding: an edge at 0.1 * 3 is an edge at 0.3.
            last = int((example.ends <= limit + 1e-9).sum()) - 1
            if last >= 0 and example.ends[-1] >= limit and example.target[last] >= 0:
                seen.append(y[last].argmax() == example.target[last])
        if seen:
            result[f"accuracy_{limit:g}s"] = float(np.mean(seen))
    return result


def _measure_classes(pairs: Sequence[tuple[Ints, Floats]]) -> dict[str, float]:
    true, logits = (np.concatenate(arrays) for arrays in zip(*pairs, strict=True))
    return classification_measures(true, softmax(logits))


def _number_measures(
    examples: Sequence[Example], outputs: Sequence[Floats], targets: Sequence[str]
) -> dict[str, float]:
    true, predicted = np.concatenate([example.target for example in examples]), np.concatenate(outputs)
    first = np.cumsum([0, *(len(y) for y in outputs[:-1])])
    each: dict[str, list[float]] = {}
    result: dict[str, float] = {}
    for j in range(true.shape[1]):
        ends = [
            start + own[-1]
            for start, own in zip(first, (np.flatnonzero(np.isfinite(e.target[:, j])) for e in examples), strict=True)
            if len(own)
        ]
        windows = regression_measures(true[:, j], predicted[:, j])
        windows |= {f"{name}_end": v for name, v in regression_measures(true[ends, j], predicted[ends, j]).items()}
        for name, value in windows.items():
            each.setdefault(name, []).append(value)
            if len(targets) > 1:
                result[f"{targets[j]}_{name}"] = value
    return {name: float(np.mean(values)) for name, values in each.items()} | result
