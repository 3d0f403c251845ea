"""Trace the step of a Neural RDE as an ONNX graph, by torch."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from streamrde.disk import replace_file
from streamrde.errors import MissingExtraError, ParameterError
from streamrde.inference.steppers.onnx import FINGERPRINT, has_module_ends
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.saving import to_bundle


def export_step(model: NeuralRDE, path: str | os.PathLike[str]) -> None:
    """Write the step of a Neural RDE to `path`, as `export_onnx` says."""
    try:
        import onnx
        import onnxscript  # noqa: F401 (torch.onnx imports it too late for a good error)
    except ModuleNotFoundError:
        raise MissingExtraError("the export to ONNX", "onnx") from None
    if model.header.substeps == "auto":
        raise ParameterError("substeps='auto': an ONNX graph has a fixed number of steps; set it to a number")
    if obstacle := model.header.field.onnx_obstacle:
        raise ParameterError(f"field '{model.header.field.tag}': {obstacle}; serve the bundle as it is")
    bundle = to_bundle(model.eval())
    header, carries = model.header, model.header.first_stage == "previous"
    count = 3
    z = torch.zeros(count, header.hidden, dtype=model.dtype)
    logsigs = [torch.zeros(count, header.logsig_channels, dtype=torch.float64) for _ in range(1 + carries)]
    inputs: dict[str, Tensor] = dict(zip(("z", "logsig", "previous"), (z, *logsigs), strict=False))
    rows = dict.fromkeys(inputs, torch.export.Dim("n", min=1))
    outputs = ["z_next", "output"]
    if has_module_ends(header):
        # Use other counts than z's: the exporter takes equal dimensions for one.
        inputs |= {"x0": z.new_zeros(count + 1, header.path_channels), "state": z.new_zeros(count + 2, header.hidden)}
        rows |= {"x0": torch.export.Dim("m", min=1), "state": torch.export.Dim("k", min=1)}
        outputs += ["z0", "readout"]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # from torch itself
        target = Path(folder) / "step.onnx"
        try:
            torch.onnx.export(
                _Step(model),
                (),
                str(target),
                kwargs=inputs,
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes={name: {0: size} for name, size in rows.items()},
                dynamo=True,
                verbose=False,
                external_data=False,
            )
        except Exception as error:  # whatever the exporter or a module raises
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ParameterError(
                f"a module of this model has no graph ({lines[0][:120]}); serve it by a TorchStepper"
            ) from None
        graph = onnx.load(str(target))
    for given in graph.graph.input:
        if not given.type.tensor_type.shape.dim[0].dim_param:
            raise ParameterError(
                f"a module of this model has a graph for one number of rows only ({given.name}), as len(z) or a "
                "loop over rows make it; serve it by a TorchStepper"
            )
    entry = graph.metadata_props.add()
    entry.key, entry.value = FINGERPRINT, bundle.fingerprint
    replace_file(path, graph.SerializeToString())


class _Step(nn.Module):
    """The function that the graph computes."""

    def __init__(self, model: NeuralRDE) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        z: Tensor,
        logsig: Tensor,
        previous: Tensor | None = None,
        x0: Tensor | None = None,
        state: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        model = self.model
        own = model.scaled(logsig)
        before = None if previous is None else model.scaled(previous)
        moved = model.step(z, own, before, logsig[:, :1].to(z.dtype))
        y, parts, begin = model.outputs(moved), [], 0
        for head in model.header.parts:
            part = y[:, begin : begin + head.outputs]
            if head.task == "classification":
                part = part.sigmoid() if head.is_binary else part.softmax(dim=1)
            parts.append(part)
            begin += head.outputs
        ends = () if x0 is None or state is None else (model.initial(x0), model.readout(state))
        return moved, torch.cat(parts, dim=1), *ends
