"""Steps by torch and by onnxruntime against the array stepper, and through predictors."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tolerances
import torch
from bundles import make_bundle, make_recording
from torch import nn

import streamrde as sr
from streamrde.errors import BundleError, ParameterError
from streamrde.inference import OnnxStepper
from streamrde.inference.steppers import ArrayStepper
from streamrde.models import NeuralRDE, TorchStepper, export_onnx, save, to_bundle

pytestmark = pytest.mark.slow


class Field(nn.Module):
    """A field of no family: a gate times a linear map."""

    def __init__(self, hidden: int, features: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, hidden * features, dtype=dtype)
        self.value = nn.Linear(hidden, hidden * features, dtype=dtype)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.gate(z)) * torch.tanh(self.value(z)) * 0.3


def inputs(bundle, count=7):
    rng = np.random.default_rng(2)
    z = rng.normal(size=(count, bundle.header.hidden)).astype(bundle.header.dtype)
    logsigs, previous = rng.normal(size=(2, count, bundle.header.logsig_channels)) * 0.3
    logsigs[:, 0] = rng.uniform(0.2, 2.0, size=count)
    return z, logsigs, previous


@pytest.mark.parametrize("substeps", [1, 2, "auto"])
@pytest.mark.parametrize("first_stage", ["own", "previous"])
def test_torchs_step_is_the_array_steppers(first_stage, substeps):
    bundle = make_bundle(first_stage=first_stage, substeps=substeps, tolerance=1e-2, decay=True, dtype="float64")
    by_torch, by_arrays = TorchStepper(NeuralRDE.from_bundle(bundle), batch=3), ArrayStepper(bundle)
    z, logsigs, previous = inputs(bundle)
    for a, b in zip(
        by_torch.step_with_error(z, logsigs, previous), by_arrays.step_with_error(z, logsigs, previous), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerances.ORACLE)
    np.testing.assert_array_equal(
        by_torch.step(z, logsigs, previous), by_torch.step_with_error(z, logsigs, previous)[0]
    )
    assert by_torch.step(z[:0], logsigs[:0]).shape == (0, 8)


def test_a_predictor_serves_any_module_and_its_fleet_agrees():
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 8, 3, field=Field(8, 6), windows=sr.Every(1.0), decay=0.1)
    bundle, (t, x) = to_bundle(model), make_recording(3, 60)
    predictor = sr.Predictor(bundle, stepper=TorchStepper(model), step_error=True)
    served = predictor.push_many(t, x) + predictor.flush()
    _, logsigs = sr.logsig_windows(t, np.column_stack([t - t[0], x]), 2, sr.Every(1.0))
    with torch.no_grad():
        y = model(torch.tensor(np.append(0.0, x[0]))[None], torch.tensor(logsigs)[None])[0].numpy()
    np.testing.assert_allclose(y, [p.value for p in served], rtol=1e-5, atol=1e-5)
    assert all(p.step_error is not None and p.step_error < 0.1 for p in served)
    fleet = sr.Fleet(bundle, stepper=TorchStepper(model, batch=2))
    rows = fleet.push([n for n in "abcde" for _ in t], np.tile(t, 5), np.tile(x, (5, 1))).to_pylist()
    assert len(rows) == 5 * (len(served) - 1)
    for row in rows:
        np.testing.assert_allclose(row["value"], served[row["window"]].value, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("first_stage", ["own", "previous"])
def test_onnxruntime_runs_the_step_without_torch(tmp_path, first_stage):
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 8, 3, field=Field(8, 6), first_stage=first_stage, decay=0.1, task="classification")
    save(model, tmp_path / "model.safetensors")
    export_onnx(model, tmp_path / "step.onnx")
    bundle = sr.load(tmp_path / "model.safetensors")
    by_onnx, by_torch = OnnxStepper(bundle, tmp_path / "step.onnx"), TorchStepper(model)
    z, logsigs, previous = inputs(bundle)
    for count in (1, 7):
        arguments = [a[:count] for a in (z, logsigs, previous)]
        np.testing.assert_allclose(by_onnx.step(*arguments), by_torch.step(*arguments), rtol=1e-5, atol=1e-6)
    names = {"z": z, "logsig": logsigs} | ({"previous": previous} if first_stage == "previous" else {})
    moved, output = by_onnx._run(["z_next", "output"], names)
    np.testing.assert_allclose(output, by_onnx.output(moved), rtol=1e-5, atol=1e-6)
    with pytest.raises(ParameterError, match="cannot halve"):
        by_onnx.step_with_error(z, logsigs)
    with pytest.raises(BundleError, match="export and save the same model"):
        OnnxStepper(make_bundle(), tmp_path / "step.onnx")
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match="not an ONNX graph"):
        OnnxStepper(bundle, tmp_path / "broken.onnx")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np, streamrde as sr\n"
        "from streamrde.inference import OnnxStepper\n"
        f"bundle = sr.load({str(tmp_path / 'model.safetensors')!r})\n"
        f"p = sr.Predictor(bundle, stepper=OnnxStepper(bundle, {str(tmp_path / 'step.onnx')!r}))\n"
        "print(len(p.push_many(np.arange(5.0), np.ones((5, 2)))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "4"


def test_onnx_gives_one_logit_through_the_sigmoid(tmp_path):
    bundle = make_bundle(field=sr.MLP(width=6, layers=1), depth=2, outputs=1, labels=("a", "b"))
    export_onnx(NeuralRDE.from_bundle(bundle), tmp_path / "step.onnx")
    z, logsigs, _ = inputs(bundle)
    by_onnx = OnnxStepper(bundle, tmp_path / "step.onnx")
    moved, output = by_onnx._run(["z_next", "output"], {"z": z, "logsig": logsigs})
    np.testing.assert_allclose(output, by_onnx.output(moved), rtol=1e-5, atol=1e-6)
    assert ((output > 0) & (output < 1)).all()


@pytest.mark.parametrize("field", [sr.MLP(width=6, layers=1), sr.LogNCDE(width=6, layers=1)], ids=str)
def test_every_family_that_onnx_can_express_is_exported(tmp_path, field):
    bundle = make_bundle(field=field, depth=2, solver="midpoint")
    export_onnx(NeuralRDE.from_bundle(bundle), tmp_path / "step.onnx")
    z, logsigs, _ = inputs(bundle)
    np.testing.assert_allclose(
        OnnxStepper(bundle, tmp_path / "step.onnx").step(z, logsigs),
        ArrayStepper(bundle).step(z, logsigs),
        rtol=1e-5,
        atol=1e-5,
    )


def test_what_onnx_cannot_express_is_refused(tmp_path):
    for bundle, match in (
        (make_bundle(field=sr.Linear()), "matrix exponential"),
        (make_bundle(substeps="auto"), "fixed number of steps"),
    ):
        with pytest.raises(ParameterError, match=match):
            export_onnx(NeuralRDE.from_bundle(bundle), tmp_path / "step.onnx")
    with pytest.raises(ParameterError, match="at least 1"):
        TorchStepper(NeuralRDE.from_bundle(make_bundle()), batch=0)


def test_a_predictor_with_a_torch_stepper_can_be_pickled_and_copied() -> None:
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 8, 3, windows=sr.Every(1.0))
    t, x = make_recording(0, 60)
    stepper = TorchStepper(model)
    for copied in (lambda p: pickle.loads(pickle.dumps(p)), copy.deepcopy):
        predictor = sr.Predictor(stepper.bundle, stepper=stepper)
        predictor.push_many(t[:30], x[:30])
        twin = copied(predictor)
        ours, theirs = ([p.value.tolist() for p in each.push_many(t[30:], x[30:])] for each in (predictor, twin))
        assert ours == theirs
        assert ours


def test_a_predictor_with_an_onnx_graph_says_why_it_cannot_be_pickled(tmp_path) -> None:
    pytest.importorskip("onnxscript", reason="the export needs onnxscript")
    pytest.importorskip("onnxruntime", reason="the graph needs onnxruntime")
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 8, 3, windows=sr.Every(1.0))
    export_onnx(model, tmp_path / "step.onnx")
    bundle = to_bundle(model)
    predictor = sr.Predictor(bundle, stepper=OnnxStepper(bundle, tmp_path / "step.onnx"))
    with pytest.raises(TypeError, match=r"its stepper, a OnnxStepper, cannot .*one process.*snapshot\(\)"):
        pickle.dumps(predictor)
