"""Export a model's step as an ONNX graph, which onnxruntime runs without torch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from streamrde.disk import replace_file
from streamrde.inference.bundle import Bundle
from streamrde.inference.steppers.onnx import FINGERPRINT
from streamrde.models.reservoir_graph import reservoir_graph

if TYPE_CHECKING:
    from streamrde.models.neural_rde import NeuralRDE


def export_onnx(model: NeuralRDE | Bundle, path: str | os.PathLike[str]) -> None:
    """Write the step of a model to `path`: inputs z and logsig, outputs z_next and output.

    Shapes are z (n, hidden), logsig (n, B), the window's log-signature or token in float64 and unscaled, z_next
    (n, hidden), and output (n, outputs), which are probabilities or targets. n is free. A model with
    ``first_stage="previous"`` has a third input, previous, (n, B).
    If the initial layer or the readout is a module, the graph has it too: inputs x0, (m, C), scaled, and state,
    (k, hidden); outputs z0, (m, hidden), and readout, (k, outputs), before softmax and scaling. The graph carries the
    bundle's fingerprint, which `OnnxStepper` compares.

    The export of a reservoir needs no torch. Its z is float64 and begins with zeros. Tokens come from
    `streamrde.logsig_windows` with `scales`, or from ``Features(bundle, of="tokens")``. Outputs agree with the
    Predictor's to single precision.

    Args:
        model: a NeuralRDE, or a bundle whose parts are all in its file.
        path: the graph, often step.onnx.
    Raises:
        ParameterError: the step depends on its data (``substeps="auto"``), ONNX has no matrix exponential, or a module
            of the model has no graph for any number of rows.
        MissingExtraError: onnx or onnxscript, or for a Neural RDE torch, is not installed.
    """
    if isinstance(model, Bundle) and model.header.field.in_rows:
        graph = reservoir_graph(model)
        entry = graph.metadata_props.add()
        entry.key, entry.value = FINGERPRINT, model.fingerprint
        replace_file(path, graph.SerializeToString())
        return
    from streamrde.models.neural_rde import NeuralRDE
    from streamrde.models.onnx_export import export_step

    export_step(NeuralRDE.from_bundle(model) if isinstance(model, Bundle) else model, path)
