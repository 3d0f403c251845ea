"""Serving a step that was exported to ONNX: onnxruntime in the place of torch."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from streamrde.arrays import Floats, Reals
from streamrde.errors import BundleError, MissingExtraError, ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.header import Header
from streamrde.inference.steppers.bundle import BundleStepper

FINGERPRINT = "streamrde.model"
"""Key of the bundle's fingerprint in a graph's metadata."""


def has_module_ends(header: Header) -> bool:
    """Return True if a graph of the model needs its initial layer or readout, which is not in the model file."""
    return not (header.initial.stored and header.readout.stored)


class OnnxStepper(BundleStepper):
    """Step states with a graph that `streamrde.models.export_onnx` wrote.

    For models with a torch module as field, initial layer or readout, where torch is not wanted:
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
        if bundle.header.field.in_rows:
            raise ParameterError(
                f"field '{bundle.header.field.tag}' needs no OnnxStepper: a Predictor steps it without torch; "
                "elsewhere run its graph with onnxruntime itself"
            )
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
        header = bundle.header
        self._carries, self._ends = header.first_stage == "previous", has_module_ends(header)
        # A graph wants all of its inputs, also those that an output does not depend on.
        self._nothing: dict[str, Reals] = {
            "z": np.zeros((1, header.hidden), self.dtype),
            "logsig": np.zeros((1, header.logsig_channels)),
        }
        if self._carries:
            self._nothing["previous"] = self._nothing["logsig"]
        if self._ends:
            self._nothing |= {"x0": np.zeros((1, header.path_channels), self.dtype), "state": self._nothing["z"]}

    def initial(self, x0: Floats) -> Reals:
        """See streamrde.inference.steppers.Stepper."""
        if self.header.initial.stored:
            return super().initial(x0)
        return self._end("z0", "x0", self.scaled_x0(x0), self.header.hidden)

    def readout(self, z: Reals) -> Reals:
        """See streamrde.inference.steppers.bundle.BundleStepper."""
        if self.header.readout.stored:
            return super().readout(z)
        return self._end("readout", "state", np.ascontiguousarray(z), self.header.outputs)

    def _end(self, output: str, name: str, rows: Reals, size: int) -> Reals:
        if not len(rows):
            return np.empty((0, size), self.dtype)
        return np.asarray(self._run([output], self._nothing | {name: rows})[0])

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("an onnxruntime session lives in one process")

    def step(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> Reals:
        """See streamrde.inference.steppers.Stepper."""
        if not len(z):
            return z.copy()
        inputs = self._nothing | {"z": np.ascontiguousarray(z), "logsig": np.ascontiguousarray(logsigs)}
        if self._carries:
            inputs["previous"] = np.ascontiguousarray(logsigs if previous is None else previous)
        return np.asarray(self._run(["z_next"], inputs)[0])

    def step_with_error(self, z: Reals, logsigs: Floats, previous: Floats | None = None) -> tuple[Reals, Floats]:
        """Raise ParameterError: the graph has one step."""
        raise ParameterError("step_error: an ONNX graph cannot halve its step; ask a TorchStepper")
