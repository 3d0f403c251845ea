"""Stacks that were trained elsewhere give the same outputs here."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
import torch
from bundles import make_recording
from torch import nn

import streamrde as sr
from streamrde.errors import ParameterError
from streamrde.models import from_slices, from_stack, to_bundle

WIDTH, BLOCKS, DEPTH = 8, 2, 2
PARTS = {
    "input": "embed",
    "before": "layers.{}.norm1",
    "recurrence": "layers.{}.inner",
    "between": "layers.{}.norm2",
    "up": "layers.{}.up",
    "down": "layers.{}.down",
    "last": "norm",
    "readout": "head",
}


class LRU(nn.Module):
    """As in the minimal code of its authors."""

    def __init__(self) -> None:
        super().__init__()
        modes = 5
        self.nu_log, self.theta_log, self.gamma_log = (nn.Parameter(torch.randn(modes) * 0.5 - 1) for _ in range(3))
        self.B_re, self.B_im = (nn.Parameter(torch.randn(modes, WIDTH)) for _ in range(2))
        self.C_re, self.C_im = (nn.Parameter(torch.randn(WIDTH, modes)) for _ in range(2))
        self.D = nn.Parameter(torch.randn(WIDTH))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        factor = torch.exp(torch.complex(-self.nu_log.exp(), self.theta_log.exp()))
        b = torch.complex(self.B_re, self.B_im) * self.gamma_log.exp()[:, None]
        x, outputs = torch.zeros(len(u), len(factor), dtype=factor.dtype), []
        for own in u.unbind(1):
            x = factor * x + own.to(b.dtype) @ b.T
            outputs.append((x @ torch.complex(self.C_re, self.C_im).T).real + self.D * own)
        return torch.stack(outputs, dim=1)


class S5(nn.Module):
    """As in s5-pytorch: one direction, zero-order hold. Half of the modes turn backwards, and one does not turn."""

    def __init__(self) -> None:
        super().__init__()
        turns = torch.tensor([-3.0, -0.5, 0.0, 0.5, 3.0])
        self.Lambda = nn.Parameter(torch.complex(-torch.rand(5) - 0.1, turns))
        self.B = nn.Parameter(torch.randn(5, WIDTH, 2))
        self.C = nn.Parameter(torch.randn(WIDTH, 5, dtype=torch.complex64))
        self.D, self.log_step = nn.Parameter(torch.randn(WIDTH)), nn.Parameter(torch.randn(5) - 1)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        factor = torch.exp(self.Lambda * self.log_step.exp())
        b = (1 / self.Lambda * (factor - 1))[:, None] * torch.view_as_complex(self.B)
        x, outputs = torch.zeros(len(u), 5, dtype=factor.dtype), []
        for own in u.unbind(1):
            x = factor * x + own.to(b.dtype) @ b.T
            outputs.append((x @ self.C.T).real + self.D * own)
        return torch.stack(outputs, dim=1)


class S4D(nn.Module):
    """As in state-spaces' minimal code: a convolution with the kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Module()
        self.kernel.log_dt = nn.Parameter(torch.randn(WIDTH) * 0.5 - 2)
        self.kernel.C = nn.Parameter(torch.randn(WIDTH, 3, 2))
        self.kernel.log_A_real = nn.Parameter(torch.log(0.5 * torch.ones(WIDTH, 3)))
        self.kernel.A_imag = nn.Parameter(torch.pi * torch.arange(3).repeat(WIDTH, 1))
        self.D = nn.Parameter(torch.randn(WIDTH))

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        length = u.shape[1]
        dt, a = self.kernel.log_dt.exp(), torch.complex(-self.kernel.log_A_real.exp(), self.kernel.A_imag)
        scaled = a * dt[:, None]
        c = torch.view_as_complex(self.kernel.C) * (torch.exp(scaled) - 1) / a
        taps = 2 * torch.einsum("hn,hnl->hl", c, torch.exp(scaled[..., None] * torch.arange(length))).real
        y = [sum(taps[:, j] * u[:, k - j] for j in range(k + 1)) + self.D * u[:, k] for k in range(length)]
        return torch.stack(y, dim=1)


class MinGRU(nn.Module):
    """As in its paper, section 3.1."""

    def __init__(self) -> None:
        super().__init__()
        self.linear_z, self.linear_h = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        h, outputs = torch.zeros(len(u), WIDTH), []
        for own in u.unbind(1):
            z = torch.sigmoid(self.linear_z(own))
            h = (1 - z) * h + z * self.linear_h(own)
            outputs.append(h)
        return torch.stack(outputs, dim=1)


class Torch(nn.GRU):
    """Torch's own layers."""

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return super().forward(u)[0]


class TorchLSTM(nn.LSTM):
    def forward(self, u: torch.Tensor) -> torch.Tensor:
        return super().forward(u)[0]


RECURRENCES = {
    "lru": LRU,
    "s5": S5,
    "s4d": S4D,
    "min_gru": MinGRU,
    "gru": lambda: Torch(WIDTH, WIDTH, batch_first=True),
    "lstm": lambda: TorchLSTM(WIDTH, WIDTH, batch_first=True),
}


class Block(nn.Module):
    def __init__(self, layout: str, perceptron: str) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.inner = RECURRENCES[layout]()
        self.up = nn.Linear(WIDTH, 12 if perceptron == "gelu" else 24, bias=False)
        self.down = nn.Linear(12, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.inner(self.norm1(x))
        p = self.up(self.norm2(x))
        if self.perceptron == "gelu":
            return x + self.down(nn.functional.gelu(p))
        if self.perceptron == "glu":
            return x + self.down(nn.functional.glu(p))
        p, q = p.chunk(2, dim=-1)
        return x + self.down(nn.functional.silu(p) * q)


class Net(nn.Module):
    def __init__(self, layout: str, perceptron: str, *, last: bool) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(sr.logsignature_channels(3, DEPTH), WIDTH), nn.Linear(WIDTH, 2)
        self.layers = nn.ModuleList(Block(layout, perceptron) for _ in range(BLOCKS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6) if last else None
        with torch.no_grad():
            for name, weight in self.named_parameters():
                if "norm" in name:
                    weight.uniform_(0.5, 1.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(x if self.norm is None else self.norm(x))


def tokens_and_samples():
    t, x = make_recording(0, 60)
    path = np.column_stack([t - t[0], x])
    windows = sr.Every(0.5)
    edges, tokens = sr.logsig_windows(t - t[0], path, DEPTH, windows)
    whole = np.isclose(np.diff(edges), 0.5).sum()
    return windows, t, x, torch.tensor(tokens[:whole], dtype=torch.float32)


def check(imported, original, windows, t, x, tokens):
    predictions = sr.Predictor(to_bundle(imported.model)).push_many(t, x)
    with torch.no_grad():
        expected = original(tokens[None])[0].numpy()
        # Training goes on from here.
        again = imported.model(torch.zeros(1, 3), tokens[None].double())[0].numpy()
    assert len(predictions) == len(tokens) > 15
    found = np.array([p.value for p in predictions])
    assert np.ptp(expected) > 0.1
    # Undamped flows grow, and what rounding did with them.
    tolerance = 3 * tolerances.STEPPER32 * (1 + np.abs(expected).max())
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(again, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("layout", sorted(RECURRENCES))
@pytest.mark.parametrize(("perceptron", "last"), [("swiglu", True), ("glu", False), ("gelu", True)])
def test_a_stack_from_elsewhere_gives_its_outputs(layout, perceptron, last):
    torch.manual_seed(0)
    original = Net(layout, perceptron, last=last)
    windows, *samples, tokens = tokens_and_samples()
    parts = {part: name for part, name in PARTS.items() if last or part != "last"}
    imported = from_stack(
        original.state_dict(), parts, layout, channels=3, depth=DEPTH, windows=windows, perceptron=perceptron
    )
    assert bool(imported.differences) == (layout not in ("gru", "lstm"))
    check(imported, original, windows, *samples, tokens)


@pytest.mark.parametrize(("block", "bias"), [(1, True), (2, False), (4, True)])
@pytest.mark.parametrize("activation", ["gelu", "glu"])
def test_a_stack_of_torch_slices_gives_its_outputs(block, bias, activation):
    slices = pytest.importorskip("slices")
    torch.manual_seed(1)
    windows, *samples, tokens = tokens_and_samples()
    original = slices.StackedSLiCE(
        *(BLOCKS, tokens.shape[1], WIDTH, 2),
        bias=bias,
        tokens=False,
        block_size=block,
        init_std=0.1,
        scale=0.7,
        use_parallel=False,
        path_mode="increments",
        transition_mode="matrix_exp",
        ff_activation=activation,
    ).eval()
    imported = from_slices(original, channels=3, depth=DEPTH, windows=windows)
    assert imported.model.header.field.recurrence.block == block
    check(imported, original, windows, *samples, tokens)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"path_mode": "values"}, "path_mode='values': only 'increments'"),
        ({"transition_mode": "euler"}, "transition_mode='euler': only 'matrix_exp'"),
        ({"block_size": 8}, "block_size=8: blocks of at most 4"),
        ({"norm_type": "layernorm"}, "norm_type='layernorm'"),
        ({"ff_activation": "tanh"}, "ff_activation='tanh': only 'gelu' or 'glu'"),
        ({"norm_eps": 1e-5}, "eps=1e-05"),
        ({"second_norm": False}, r"layers\.0\.norm2\.weight is not in the state dict"),
        ({"tokens": True}, "tokens=True: only False"),
        ({"label_dim": (1, 2)}, r"linear\.weight is not in"),
    ],
)
def test_stacks_of_torch_slices_that_cannot_be_served_are_refused(option, message):
    slices = pytest.importorskip("slices")
    options = {
        "num_layers": 1,
        "data_dim": 6,
        "hidden_dim": 8,
        "label_dim": 2,
        "tokens": False,
        "use_parallel": False,
        "path_mode": "increments",
        "transition_mode": "matrix_exp",
    }
    with pytest.raises(ParameterError, match=message):
        from_slices(slices.StackedSLiCE(**options | option), channels=3, depth=DEPTH, windows=sr.Every(0.5))


def test_state_dicts_that_do_not_fit_are_refused_by_name():
    state = Net("min_gru", "swiglu", last=True).state_dict()

    def refused(message, *, state=state, layout="min_gru", parts=PARTS, **options):
        with pytest.raises(ParameterError, match=message):
            from_stack(state, parts, layout, **{"channels": 3, "depth": DEPTH, "windows": sr.Every(0.5)} | options)

    refused("layout='mamba': use one of slice", layout="mamba")
    refused("layout 'lru' needs the tensor 'nu_log'", layout="lru")
    refused("'down' is missing or unknown", parts={k: v for k, v in PARTS.items() if k != "down"})
    refused("'extra' is missing or unknown", parts=PARTS | {"extra": "x"})
    refused(r"norm\.weight and 0 more tensors belong to no part", parts={k: v for k, v in PARTS.items() if k != "last"})
    refused("put {} where the number", parts=PARTS | {"up": "layers.0.up"})
    refused(r"no tensor's name begins with 'blocks\.0\.inner'", parts=PARTS | {"recurrence": "blocks.{}.inner"})
    refused(r"field\.input\.weight: the state dict gives \(8, 6\); expected \(8, 14\)", depth=3)
    refused(r"field\.blocks\.0\.up\.weight: .* expected \(12, 8\)", perceptron="gelu")
    refused(r"norm\.bias: a norm", state=state | {"norm.bias": torch.zeros(8)})


def test_poles_that_do_not_decay_are_refused():
    original = Net("s5", "swiglu", last=True)
    with torch.no_grad():
        original.layers[1].inner.Lambda[2] = 0.1j
    with pytest.raises(ParameterError, match="does not decay"):
        from_stack(original.state_dict(), PARTS, "s5", channels=3, depth=DEPTH, windows=sr.Every(0.5))
