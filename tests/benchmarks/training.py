"""Print the epoch time of training beside the same model trained through torchcde, and beside our own eager path.

usage: python tests/benchmarks/training.py [--rounds 15] [--threads 1 2] [--only SIZE ...] [--json]

Each side begins every epoch with the same weights, sees the same batches in the same order, and takes the same AdamW
steps on a squared error after every window, float32. Both have the log-signatures beforehand (their time is printed
once); torchcde integrates `LinearInterpolation` of their cumulative sum by cdeint with the model's solver, one step per
window, without the adjoint. Loss and gradients of the first batch must agree to 1e-4, and the epoch's losses to 1e-3,
before anything is timed. Sides run in turn; a factor is a median (and quartiles) within a round.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torchcde
from rich.console import Console

import streamrde as sr
from streamrde import bench
from streamrde.models import NeuralRDE


class Size(NamedTuple):
    """A model, and what it is trained on."""

    channels: int
    depth: int
    hidden: int
    width: int
    layers: int
    solver: str
    windows: int
    batch: int
    batches: int


SIZES = {
    "H=64, width 128, B=30, K=50, batch 64, rk4": Size(4, 3, 64, 128, 1, "rk4", 50, 64, 2),
    "the same with 2 hidden layers": Size(4, 3, 64, 128, 2, "rk4", 50, 64, 2),
    "BIDMC: H=64, width 64, B=14, K=32, batch 128, midpoint": Size(3, 3, 64, 64, 1, "midpoint", 32, 128, 4),
    "small: H=32, width 64, B=140, K=40, batch 12, rk4": Size(7, 3, 32, 64, 1, "rk4", 40, 12, 12),
}
SAMPLES = 20  # per window, of the paths whose log-signatures are timed


def states_of_streamrde(model: NeuralRDE, x0: torch.Tensor, logsigs: torch.Tensor) -> torch.Tensor:
    return model.hidden_states(x0, logsigs)[:, 1:]


def states_of_eager_torch(model: NeuralRDE, x0: torch.Tensor, logsigs: torch.Tensor) -> torch.Tensor:
    z, states = model.initial(x0.float()), []
    for own in logsigs.float().unbind(1):
        z = model.step(z, own, None, own[:, :1])
        states.append(z)
    return torch.stack(states, dim=1)


def states_of_torchcde(model: NeuralRDE, x0: torch.Tensor, logsigs: torch.Tensor) -> torch.Tensor:
    """Of cumulative sums of log-signatures; perturb: each window's first stage sees that window, the textbook step."""
    control = torchcde.LinearInterpolation(logsigs)
    field, shape = model.field, (-1, model.header.hidden, logsigs.shape[2])

    class Field(torch.nn.Module):
        def forward(self, t: Any, z: torch.Tensor) -> torch.Tensor:
            return field.last(field.features(z)).reshape(shape)

    z = torchcde.cdeint(
        control,
        Field(),
        model.initial(x0),
        control.grid_points,
        adjoint=False,
        method=model.header.solver,
        options={"step_size": 1.0, "perturb": True},
    )
    return z[:, 1:]


class Trained(NamedTuple):
    """What an epoch leaves."""

    losses: list[float]
    gradients: list[torch.Tensor]  # of the first batch


def epoch(states: Callable[..., torch.Tensor], model: NeuralRDE, batches: list[tuple[torch.Tensor, ...]]) -> Trained:
    """Train a copy of `model` for one epoch."""
    model = copy.deepcopy(model)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    gradients: list[torch.Tensor] = []
    for x0, logsigs, target in batches:
        loss = ((model.readout(states(model, x0, logsigs)) - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        if not losses:
            gradients = [parameter.grad.clone() for parameter in model.parameters()]
        losses.append(loss.item())
        optimiser.step()
    return Trained(losses, gradients)


def case(name: str, size: Size, threads: int) -> bench.Case:
    """Every side's epoch, after a check that they are the same."""
    torch.manual_seed(0)
    field = sr.MLP(width=size.width, layers=size.layers, activation="tanh")
    model = NeuralRDE(size.channels, size.depth, size.hidden, 1, field=field, solver=size.solver)
    features, generator = model.header.logsig_channels, np.random.default_rng(0)
    ours, theirs = [], []
    for _ in range(size.batches):
        # Of norm 1, so that the states stay tame and rounding cannot grow; float64 is what training's batches are.
        logsigs = torch.tensor(generator.normal(size=(size.batch, size.windows, features)) / features**0.5)
        x0 = torch.tensor(generator.normal(size=(size.batch, size.channels)))
        target = torch.tensor(generator.normal(size=(size.batch, size.windows, 1)), dtype=torch.float32)
        rows = torch.cat([torch.zeros_like(logsigs[:, :1]), logsigs], dim=1).cumsum(dim=1)
        ours.append((x0, logsigs, target))
        theirs.append((x0.float(), rows.float(), target))
    sides = {
        "streamrde": lambda: epoch(states_of_streamrde, model, ours),
        "torchcde": lambda: epoch(states_of_torchcde, model, theirs),
        "streamrde, eager torch": lambda: epoch(states_of_eager_torch, model, ours),
    }
    check(name, {side: run() for side, run in sides.items()})
    return bench.Case("training", f"{name}; {threads} thread{'s' * (threads > 1)}", "epoch", 1, sides)


def check(name: str, trained: dict[str, Trained]) -> None:
    """Stop unless all sides have the same losses and gradients."""
    own, *others = trained.values()
    for other in others:
        np.testing.assert_allclose(own.losses[0], other.losses[0], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(own.losses, other.losses, rtol=1e-3, err_msg=name)
        for a, b in zip(own.gradients, other.gradients, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * float(b.abs().max()), err_msg=name)


def seconds_for_logsignatures(size: Size) -> float:
    """Of an epoch's paths, `SAMPLES` samples a window, once and for all epochs."""
    count = size.windows * SAMPLES + 1
    t = np.arange(count) / SAMPLES
    x = np.random.default_rng(0).normal(size=(count, size.channels)).cumsum(axis=0)
    began = time.perf_counter()
    for _ in range(size.batch * size.batches):
        sr.logsig_windows(t, x, size.depth, sr.Every(1.0))
    return time.perf_counter() - began


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", default=[""], help="sizes whose names begin so")
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    sizes = {name: size for name, size in SIZES.items() if name.startswith(tuple(arguments.only))}
    machine = bench.machine() | {"torch": torch.__version__, "torchcde": torchcde.__version__}
    figures = []
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        cases = (case(name, size, threads) for name, size in sizes.items())
        figures += bench.measure(cases, rounds=arguments.rounds, on_case=lambda name: print(name, file=sys.stderr))
    once = {name: seconds_for_logsignatures(size) for name, size in sizes.items()}
    if arguments.json:
        document = {"machine": machine, "figures": [f._asdict() for f in figures], "logsignatures_seconds": once}
        print(json.dumps(document, indent=2))
        return
    console = Console(width=120)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    console.print(bench.table(figures))
    for name, value in once.items():
        console.print(f"log-signatures of an epoch, once: {value * 1e3:.3g} ms ({name})", highlight=False)


if __name__ == "__main__":
    main()
