"""Ensembles in torch, and their training."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from models.recordings import config_for, quiet, write_recordings
from rich.console import Console
from tolerances import LAW

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.ensemble import join, split
from streamrde.inference.steppers import make_stepper
from streamrde.models import NeuralRDE, TorchStepper, export_onnx, to_bundle, train
from streamrde.models.report.write import report
from streamrde.models.training.config import as_train_config
from streamrde.models.training.members import member_config
from streamrde.models.training.run import fit
from streamrde.models.training.streams import read_parts

FIELDS = {
    "mlp": {"field": sr.MLP(width=6, layers=2), "solver": "midpoint", "first_stage": "previous", "decay": 0.2},
    "auto": {"field": sr.MLP(width=6, layers=1), "substeps": "auto", "tolerance": 1e-2, "solver": "euler"},
    "log_ncde": {"field": sr.LogNCDE(width=6, activation="silu")},
    "linear": {"field": sr.Linear(block=2), "solver": "euler"},
}


@pytest.fixture(params=FIELDS)
def model(request) -> NeuralRDE:
    torch.manual_seed(0)
    model = NeuralRDE(3, 2, 12, 2, members=3, dtype=torch.float64, **FIELDS[request.param])
    with torch.no_grad():
        for parameter in model.field.parameters():
            parameter.mul_(0.5)
    return model


def inputs(model: NeuralRDE, streams: int = 3, windows: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x0 = torch.randn((streams, 3), generator=generator, dtype=torch.float64)
    logsigs = torch.randn((streams, windows, model.header.logsig_channels), generator=generator, dtype=torch.float64)
    logsigs[..., 0].abs_()
    return x0, logsigs * 0.5


@pytest.mark.slow
@pytest.mark.parametrize("precontract", [True, False])
def test_the_states_and_outputs_are_the_members(model, precontract) -> None:
    x0, logsigs = inputs(model)
    with torch.no_grad():
        states, outputs = model.hidden_states(x0, logsigs, precontract=precontract), model(x0, logsigs)
        apart = [NeuralRDE.from_bundle(part) for part in split(to_bundle(model))]
        own = torch.cat([member.hidden_states(x0, logsigs, precontract=precontract) for member in apart], dim=-1)
        added = sum(member(x0, logsigs) for member in apart)
    torch.testing.assert_close(states, own, rtol=LAW, atol=LAW)
    torch.testing.assert_close(outputs, added, rtol=LAW, atol=LAW)


@pytest.mark.slow
def test_the_serving_step_is_the_one_in_torch(model, tmp_path) -> None:
    bundle = to_bundle(model)
    again = NeuralRDE.from_bundle(bundle)
    assert to_bundle(again).fingerprint == bundle.fingerprint
    z = np.random.default_rng(0).normal(size=(5, 12))
    logsigs, previous = (logsig.numpy() for logsig in inputs(model, 5, 2)[1].unbind(1))
    serving, by_torch = make_stepper(bundle), TorchStepper(model)
    steps = zip(
        serving.step_with_error(z, logsigs, previous), by_torch.step_with_error(z, logsigs, previous), strict=True
    )
    for ours, theirs in steps:
        np.testing.assert_allclose(ours, theirs, rtol=LAW, atol=LAW)
    if isinstance(bundle.header.field, sr.MLP) and bundle.header.substeps != "auto":
        pytest.importorskip("onnxscript")
        from streamrde.inference import OnnxStepper

        export_onnx(model, tmp_path / "step.onnx")
        by_onnx = OnnxStepper(bundle, tmp_path / "step.onnx")
        np.testing.assert_allclose(
            serving.step(z, logsigs, previous), by_onnx.step(z, logsigs, previous), rtol=LAW, atol=LAW
        )


def test_gradients_reach_every_member(model) -> None:
    x0, logsigs = inputs(model)
    model(x0, logsigs).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_a_module_of_ones_own_has_no_members() -> None:
    with pytest.raises(ParameterError, match="members=2"):
        NeuralRDE(3, 2, 4, 1, field=torch.nn.Linear(4, 12), members=2)
    with pytest.raises(ParameterError, match="members=3 does not divide hidden=4"):
        NeuralRDE(3, 2, 4, 1, members=3)


@pytest.fixture
def tables(tmp_path):
    training = {"epochs": 3, "members": 3, "averaging": 0.8}
    augment, split = {"noise": 0.1}, {"validation": [], "test": [3]}
    return config_for(
        write_recordings(tmp_path, streams=12, length=30), training=training, augment=augment, split=split
    )


def quietly(tables, *settings: str, resume: bool = False, file: io.StringIO | None = None) -> tuple[Bundle, str]:
    file = file or io.StringIO()
    bundle = train(tables, settings=settings, resume=resume, console=Console(file=file, width=200))
    return bundle, file.getvalue()


def alone(tables, member: int) -> Bundle:
    """What training a member by itself gives."""
    config = member_config(as_train_config(tables), member)
    return quietly(msgspec.to_builtins(config))[0]


@pytest.mark.slow
def test_an_ensemble_is_its_members_trained_by_themselves(tables) -> None:
    bundle, shown = quietly(tables)
    assert "member 2 of 3, epoch 3/3" in shown
    assert bundle.header.training["epochs"] == "3, 3, 3 of 3"
    assert bundle.header.training["members"] == "3"
    members = [alone(tables, member) for member in range(3)]
    assert len({member.fingerprint for member in members}) == 3
    joined = join(members)
    for name, tensor in bundle.tensors.items():
        # The range is measured of the whole, whose initial layer is one product.
        np.testing.assert_allclose(tensor, joined.tensors[name], rtol=0, atol=1e-6 if name.startswith("range") else 0)
    one, _ = quietly(tables, "training.members=1")
    assert one.fingerprint == members[0].fingerprint


def test_ensembles_with_neighbouring_seeds_have_no_member_in_common(tables) -> None:
    configs = [as_train_config(tables, [f"training.seed={seed}"]) for seed in range(3)]
    seeds = [member_config(config, member).training.seed for config in configs for member in range(3)]
    assert len(set(seeds)) == 9


class Interrupted(io.StringIO):
    """Ctrl-C when a text is shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def write(self, text: str) -> int:
        if self.text and self.text in text:
            self.text = ""
            raise KeyboardInterrupt
        return super().write(text)


@pytest.mark.slow
@pytest.mark.parametrize(("at", "members"), [("member 2 of 3, epoch 2/3", 2), ("member 1 of 3, epoch 3/3", 1)])
def test_a_stopped_ensemble_has_the_members_so_far_and_goes_on(tables, tmp_path, at, members) -> None:
    checkpoint = [f"training.checkpoint={tmp_path / 'run.ckpt'}", "training.checkpoint_seconds=0"]
    bundle, shown = quietly(tables, *checkpoint, file=Interrupted(at))
    assert f"{members} of 3 members were trained, and make the model" in shown
    assert bundle.header.members == members
    resumed, shown = quietly(tables, *checkpoint, resume=True)
    assert f"resuming after epoch {2 if members == 2 else 3} from {tmp_path / 'run.ckpt'}" in shown or members == 2
    assert resumed.fingerprint == quietly(tables)[0].fingerprint


def test_a_report_shows_every_member(tables) -> None:
    config = as_train_config(tables)
    split = read_parts(config)
    torch.manual_seed(0)
    fitted = fit(config, split, console=quiet())
    assert [len(history.epochs) for history in fitted.histories] == [3, 3, 3]
    page = report(fitted, config=config, parts=split, seconds=1.0)
    assert "members of the ensemble" in page
    assert "The weights of epoch 3 of 3 (member 1), epoch 3 of 3 (member 2), epoch 3 of 3 (member 3) were kept" in page


def test_an_ensemble_is_served_as_it_was_measured(tables, tmp_path: Path) -> None:
    bundle, _ = quietly(tables, f"output.test={tmp_path / 'test.parquet'}")
    bundle.save(tmp_path / "model.safetensors")
    found = sr.score(
        tmp_path / "test.parquet", tmp_path / "model.safetensors", out=tmp_path / "out.parquet", truth=["turn"]
    ).evaluation
    for ours, theirs in (("log_loss_at_end", "test_log_loss_end"), ("log_loss", "test_log_loss_windows")):
        assert abs(found[ours] - bundle.header.metrics[theirs]) < 1e-5
