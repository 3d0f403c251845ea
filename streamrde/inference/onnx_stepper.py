"""Serving a step that was exported to ONNX: onnxruntime in the place of torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamrde.errors import BundleError, MissingExtraError, ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.stepper import Ends

Array = NDArray[np.floating]
Floats = NDArray[np.float64]

FINGERPRINT = "streamrde.model"
"""Key of the bundle's fingerprint in a graph's metadata."""


class OnnxStepper(Ends):
    """Steps states by a graph that `streamrde.models.export_onnx` wrote.

    For models whose field is a torch module, where torch is not wanted:
    ``Predictor(bundle, stepper=OnnxStepper(bundle, "step.onnx"))``. A stream's result may depend on its batch mates in
    the last place, as onnxruntime's products do.

    Args:
        bundle: the model, saved beside the graph.
        path: the graph.
        threads: of onnxruntime.
    Raises:
        BundleError: the file is no ONNX graph, or that of another model.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, bundle: Bundle, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        super().__init__(bundle)
        try:
            import onnxruntime
        except ModuleNotFoundError:
            raise MissingExtraError("serving an ONNX graph", "onnx") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise BundleError(f"{path}: not an ONNX graph that runs ({str(error)[:200]}); export it again") from None
        made_with = session.get_modelmeta().custom_metadata_map.get(FINGERPRINT)
        if made_with != bundle.fingerprint:
            models = f"{str(made_with)[:12]}, and this bundle is {bundle.fingerprint[:12]}"
            raise BundleError(f"{path}: its step is of the model {models}: export and save the same model")
        self._run: Any = session.run
        self._carries = bundle.header.first_stage == "previous"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an onnxruntime session lives in one process")

    def step(self, z: Array, logsigs: Floats, previous: Floats | None = None) -> Array:
        """See streamrde.inference.stepper.Stepper."""
        if not len(z):
            return z.copy()
        inputs = {"z": np.ascontiguousarray(z), "logsig": np.ascontiguousarray(logsigs)}
        if self._carries:
            inputs["previous"] = np.ascontiguousarray(logsigs if previous is None else previous)
        return np.asarray(self._run(["z_next"], inputs)[0])

    def step_with_error(self, z: Array, logsigs: Floats, previous: Floats | None = None) -> tuple[Array, Floats]:
        """Raise ParameterError: the graph has one step."""
        raise ParameterError("step_error: an ONNX graph cannot halve its step; ask a TorchStepper")
