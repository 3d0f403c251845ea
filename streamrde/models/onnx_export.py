"""A model's step as an ONNX graph, which onnxruntime runs without torch."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from streamrde.disk import replace_file
from streamrde.errors import MissingExtraError, ParameterError
from streamrde.inference.fields import Linear
from streamrde.inference.onnx_stepper import FINGERPRINT
from streamrde.models.neural_rde import NeuralRDE, to_bundle


def export_onnx(model: NeuralRDE, path: str | os.PathLike[str]) -> None:
    """Write the step of a model to `path`: inputs z and logsig, outputs z_next and output.

    z: (n, hidden); logsig: (n, B), unscaled, float64; z_next: (n, hidden); output: (n, outputs), probabilities or
    targets. n is free. A model with ``first_stage="previous"`` has a third input, previous, (n, B). The graph carries
    the bundle's fingerprint, which `OnnxStepper` compares.

    Raises:
        ParameterError: the step depends on its data (``substeps="auto"``), or ONNX has no matrix exponential.
        MissingExtraError: onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx imports it when it is too late to say so)
    except ModuleNotFoundError:
        raise MissingExtraError("the export to ONNX", "onnx") from None
    if model.header.substeps == "auto":
        raise ParameterError("substeps='auto': an ONNX graph has a fixed number of steps; set it to a number")
    if isinstance(model.header.field, Linear):
        raise ParameterError("field 'linear': ONNX has no matrix exponential; serve the bundle as it is")
    bundle = to_bundle(model.eval())
    header, carries = model.header, model.header.first_stage == "previous"
    count = 3
    z = torch.zeros(count, header.hidden, dtype=model.initial.weight.dtype)
    logsigs = [torch.zeros(count, header.logsig_channels, dtype=torch.float64) for _ in range(1 + carries)]
    names = ["z", "logsig", "previous"][: 2 + carries]
    batch = torch.export.Dim("n", min=1)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own making
        target = Path(folder) / "step.onnx"
        torch.onnx.export(
            _Step(model),
            (z, *logsigs),
            str(target),
            input_names=names,
            output_names=["z_next", "output"],
            dynamic_shapes=tuple({0: batch} for _ in names),
            dynamo=True,
            verbose=False,
            external_data=False,
        )
        graph = onnx.load(str(target))
    entry = graph.metadata_props.add()
    entry.key, entry.value = FINGERPRINT, bundle.fingerprint
    replace_file(path, graph.SerializeToString())


class _Step(nn.Module):
    """What the graph computes."""

    def __init__(self, model: NeuralRDE) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor, logsig: Tensor, previous: Tensor | None = None) -> tuple[Tensor, Tensor]:
        model = self.model
        own = (logsig * model.logsig_scale).to(z.dtype)
        before = None if previous is None else (previous * model.logsig_scale).to(z.dtype)
        moved = model.step(z, own, before, logsig[:, :1].to(z.dtype))
        y, parts, begin = model.outputs(moved), [], 0
        for head in model.header.parts:
            part = y[:, begin : begin + head.outputs]
            if head.task == "classification":
                part = part.sigmoid() if head.is_binary else part.softmax(dim=1)
            parts.append(part)
            begin += head.outputs
        return moved, torch.cat(parts, dim=1)
