"""Print what stacks cost and how they last: their step, an epoch of training, and a million tokens.

usage: python tests/benchmarks/stacks.py [step|training|endless ...] [--kinds rg_lru ...] [--rounds 15] [--tokens 10000]

The stack is that of BIDMC: width 64, three blocks, tokens of 86 numbers, float32, one thread. "step" times one token of
one stream and of 1,024, compiled, in torch (the same model's own step) and in onnxruntime, in turn; ratios are within a
round. "training" times an epoch of 64 streams of 32 tokens, four batches, beside the same stack in plain torch: with
the recurrence in a loop over time and everything else in one product, and token by token. Loss and gradients must agree
before anything is timed. "endless" trains a small stack to follow a leaky sum, and then steps and scans as many tokens
as asked for.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import msgspec
import numpy as np
import torch
from rich.console import Console

import streamrde as sr
from streamrde import bench
from streamrde.inference.ends import Blank
from streamrde.inference.fields import Stack
from streamrde.inference.header import Channel, Header
from streamrde.inference.stacks import RECURRENCES
from streamrde.inference.steppers import make_stepper
from streamrde.inference.steppers.onnx import OnnxStepper
from streamrde.models import NeuralRDE, export_onnx, to_bundle
from streamrde.models.scans import linear_scan
from streamrde.windowing.tokens import Scale, Token

TOKEN = Token(scales=tuple(Scale(m) for m in (1, 2, 3, 4, 5, 10)), ends=True)
STREAMS, TOKENS, BATCHES = 64, 32, 4


def make_model(kind: str, *, token: Token = TOKEN, **options: object) -> NeuralRDE:
    """A stack with random weights."""
    torch.manual_seed(0)
    field = Stack(**{"recurrence": RECURRENCES[kind]()} | options)
    header = Header(
        channels=(Channel(name="ppg"), Channel(name="ecg")),
        depth=3,
        hidden=field.state_size,
        outputs=1,
        field=field,
        initial=Blank(),
        token=token,
        windows=sr.Every(1.0),
    )
    return NeuralRDE.from_header(header)


def draw(model: NeuralRDE, *shape: int, seed: int = 0) -> np.ndarray:
    """Tokens of windows that last about one usual window."""
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(*shape, model.header.logsig_channels))
    tokens[..., 0] = rng.uniform(0.9, 1.1, size=shape)
    return tokens


def steps(kinds: list[str]) -> Iterator[bench.Case]:
    """One token, of one stream and of many."""
    for kind in kinds:
        model = make_model(kind)
        bundle = to_bundle(model)
        with tempfile.TemporaryDirectory() as folder:
            export_onnx(bundle, path := Path(folder) / "step.onnx")
            steppers = {"streamrde": make_stepper(bundle), "onnxruntime": OnnxStepper(bundle, path)}
            for streams, windows in ((1, 200), (1024, 1)):
                z = np.zeros((streams, bundle.header.hidden), np.float32)
                tokens = draw(model, windows, streams)
                engines = {name: _in_turn(stepper.step, z, tokens) for name, stepper in steppers.items()}
                own = torch.tensor(tokens, dtype=torch.float32)

                def step(z, token, model=model):
                    return model.step(z, token, None, token[:, :1])

                engines["torch, eager"] = torch.inference_mode()(_in_turn(step, torch.tensor(z), own))
                name = f"{kind}, {streams:,} stream{'s' * (streams > 1)}"
                yield bench.Case("step of a stack", name, "token", streams * windows, engines)


def _in_turn(step: Callable[..., object], z: object, tokens: object) -> Callable[[], object]:
    def run() -> object:
        moved = z
        for own in tokens:
            moved = step(moved, own)
        return moved

    return run


def looped_scan(a: torch.Tensor, b: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """`linear_scan` as one writes it in plain torch."""
    states, h = [], first
    for factor, added in zip(a.unbind(0), b.unbind(0), strict=True):
        h = factor * h + added
        states.append(h)
    return torch.stack(states)


def looped_matrix_scan(a: torch.Tensor, b: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """`matrix_scan` as one writes it in plain torch."""
    states, h = [], first
    for factor, added in zip(a.unbind(0), b.unbind(0), strict=True):
        h = (factor @ h[..., None])[..., 0] + added
        states.append(h)
    return torch.stack(states)


@contextlib.contextmanager
def plain_torch(kind: str) -> Iterator[None]:
    """Put loops over time, and torch's own exponential of matrices, in the place of streamrde's kernels and scans."""
    modules = {f"streamrde.models.stacks.{kind}", "streamrde.models.fields.stack"}
    replaced = {
        "linear_scan": looped_scan,
        "matrix_scan": looped_matrix_scan,
        "exponential": lambda matrices: torch.linalg.matrix_exp(matrices.contiguous()),
    }
    with contextlib.ExitStack() as stack:
        for name in ("is_compiled", "are_compiled"):
            stack.enter_context(mock.patch(f"streamrde.models.fields.stack.{name}", return_value=False))
        for module in modules:
            for name, other in replaced.items():
                if hasattr(sys.modules[module], name):
                    stack.enter_context(mock.patch(f"{module}.{name}", other))
        yield


def states_at_once(model: NeuralRDE, tokens: torch.Tensor) -> torch.Tensor:
    return model.hidden_states(torch.zeros(len(tokens), model.header.path_channels), tokens)[:, 1:]


def states_token_by_token(model: NeuralRDE, tokens: torch.Tensor) -> torch.Tensor:
    z, states = torch.zeros(len(tokens), model.header.hidden), []
    for own in tokens.unbind(1):
        z = model.step(z, model.scaled(own), None, own[:, :1].float())
        states.append(z)
    return torch.stack(states, dim=1)


def trainings(kinds: list[str]) -> Iterator[bench.Case]:
    """An epoch of each side, after a check that they learn the same."""
    for kind in kinds:
        model = make_model(kind)
        batches = [torch.tensor(draw(model, STREAMS, TOKENS, seed=seed)) for seed in range(BATCHES)]
        targets = [torch.randn(STREAMS, TOKENS, 1) for _ in batches]

        def epoch(states, model=model, batches=batches, targets=targets):
            model = copy.deepcopy(model)
            optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)  # as streamrde's training has it
            losses, gradients = [], []
            for tokens, target in zip(batches, targets, strict=True):
                loss = (model.read(states(model, tokens)) - target).square().mean()
                optimiser.zero_grad()
                loss.backward()
                gradients = gradients or [weight.grad.clone() for weight in model.parameters()]
                losses.append(loss.item())
                optimiser.step()
            return losses, gradients

        def plain(states, kind=kind, epoch=epoch):
            with plain_torch(kind):
                return epoch(states)

        sides = {
            "streamrde": lambda epoch=epoch: epoch(states_at_once),
            "plain torch, recurrence in a loop": lambda plain=plain: plain(states_at_once),
            "plain torch, token by token": lambda plain=plain: plain(states_token_by_token),
        }
        (losses, gradients), *others = (run() for run in sides.values())
        for other_losses, other_gradients in others:
            np.testing.assert_allclose(losses, other_losses, rtol=1e-3, err_msg=kind)
            for a, b in zip(gradients, other_gradients, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=2e-3 * float(b.abs().max()), err_msg=kind)
        yield bench.Case("training of a stack", kind, "epoch", 1, sides)


def endless(kinds: list[str], count: int, console: Console) -> None:
    """Follow a leaky sum of increments for as many tokens, trained on streams of 200."""
    token = Token(scales=(Scale(1, depth=1),))
    part = min(count // 10, 10_000)
    console.print(
        f"{count:,} tokens: error (the target's deviation is 1), largest |state|; scan against step, relative"
    )
    for kind in kinds:
        model = train_on_sums(make_model(kind, token=token, width=16, blocks=2))
        stepper, tokens = make_stepper(to_bundle(model)), draw(model, count, seed=1)
        target = leaky_sum(torch.tensor(tokens[None, :, 1]))[0].numpy()
        z = np.zeros((1, model.header.hidden), np.float32)
        scanned, start = torch.zeros(1, model.header.hidden), 0
        counter = model.header.field.counter
        errors, sizes, apart = np.empty(count), np.empty(count), []
        for start in range(0, count, part):
            own = tokens[start : start + part]
            states = np.empty((len(own), model.header.hidden), np.float32)
            for k, token_k in enumerate(own):
                z = stepper.step(z, token_k[None])
                states[k] = z[0]
            with torch.inference_mode():
                all_states = model.hidden_states(torch.zeros(1, 3), torch.tensor(own[None]), start=scanned)[0, 1:]
            scanned = all_states[-1:].clone()
            apart.append(float((np.abs(all_states.numpy() - states) / (1 + np.abs(states))).max()))
            errors[start : start + part] = stepper.output(states)[:, 0] - target[start : start + part]
            sizes[start : start + part] = np.abs(np.delete(states, counter, axis=1)).max(axis=1)
        tenth = count // 10
        first, last = slice(200, tenth), slice(-tenth, None)
        ratio, low, high = error_ratio(errors[last], errors[first])
        console.print(
            f"{kind:8} first tenth {np.sqrt(np.mean(errors[first] ** 2)):.4f}, {sizes[first].max():.3g}; "
            f"last {np.sqrt(np.mean(errors[last] ** 2)):.4f}, {sizes[last].max():.3g}; "
            f"last / first {ratio:.3f} ({low:.3f} to {high:.3f}); "
            f"apart {max(apart[: len(apart) // 10]):.1e} and {max(apart[-len(apart) // 10 :]):.1e}",
            highlight=False,
        )


def error_ratio(errors: np.ndarray, others: np.ndarray, segment: int = 1000) -> tuple[float, float, float]:
    """Ratio of root mean squares, and its 95 % interval by bootstrap over segments.

    Errors next to each other are alike, as the states are: segments are longer than these remember.
    """
    rng = np.random.default_rng(0)
    parts = [np.array([own.mean() for own in np.array_split(e**2, len(e) // segment)]) for e in (errors, others)]
    drawn = [part[rng.integers(0, len(part), (2000, len(part)))].mean(axis=1) for part in parts]
    low, high = np.quantile(np.sqrt(drawn[0] / drawn[1]), [0.025, 0.975])
    return float(np.sqrt(parts[0].mean() / parts[1].mean())), float(low), float(high)


def leaky_sum(x: torch.Tensor) -> torch.Tensor:
    """Sum of increments that fades by a tenth per token, of deviation 1, (N, K)."""
    factor = torch.full_like(x, 0.9).T
    return linear_scan(factor, x.T * 0.19**0.5, torch.zeros_like(x[:, 0])).T


def train_on_sums(model: NeuralRDE, updates: int = 300) -> NeuralRDE:
    """Train on random streams of 200 tokens."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=updates)
    for seed in range(updates):
        tokens = torch.tensor(draw(model, 16, 200, seed=100 + seed))
        output = model.read(states_at_once(model, tokens))[..., 0]
        loss = (output - leaky_sum(tokens[..., 1]).float()).square()[:, 20:].mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return model.eval()


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["step", "training", "endless"], default=["step"])
    parser.add_argument("--kinds", nargs="+", choices=list(RECURRENCES), default=list(RECURRENCES))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true", help="print figures for scripts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=120)
    machine = bench.machine() | {"torch": torch.__version__}
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    for part, cases in (("step", steps), ("training", trainings)):
        if part in arguments.parts:
            figures = bench.measure(cases(arguments.kinds), rounds=arguments.rounds)
            console.print(msgspec.json.encode(figures).decode() if arguments.json else bench.table(figures))
    if "endless" in arguments.parts:
        endless(arguments.kinds, arguments.tokens, console)


if __name__ == "__main__":
    main()
