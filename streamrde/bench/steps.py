"""The cases of the model's step: one stream, many, and the push that closes no window."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from streamrde.bench import peers
from streamrde.bench.measuring import Case
from streamrde.inference.bundle import Bundle
from streamrde.inference.fields import MLP
from streamrde.inference.header import Channel, Header
from streamrde.inference.predictor import Predictor
from streamrde.inference.steppers import ArrayStepper, make_stepper
from streamrde.inference.steppers.onnx import OnnxStepper
from streamrde.signature import LogSignature
from streamrde.windowing.policies import Every

# The model of the published figures of the log-ODE step: B = 30, rk4, float32.
HIDDEN, WIDTH, CHANNELS, DEPTH = 64, 128, 4, 3
# Streams, and windows of each stream in one call.
SIZES = ((1, 32), (64, 8), (1024, 2))
_SAMPLES = 3200


def steps(*, compile: bool = False) -> Iterator[Case]:
    """Time the log-ODE step over some windows, per stream and window, at each batch size.

    torchcde gets all windows in one call, the others one at a time.

    Args:
        compile: measure torch.compile and AOTInductor too, which take a minute to build.
    """
    bundle = model()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for streams, windows in SIZES:
            z = rng.normal(size=(streams, HIDDEN)).astype(np.float32)
            logsigs = rng.normal(size=(windows, streams, bundle.header.logsig_channels)) * 0.3
            engines = {"streamrde": _in_turn(make_stepper(bundle), z, logsigs)}
            if streams <= 64:
                engines["streamrde in NumPy"] = _in_turn(ArrayStepper(bundle), z, logsigs)
            if peers.installed("torch"):
                engines |= _torch(bundle, z, logsigs, Path(folder), compile=compile)
                engines |= _floors(bundle, streams, windows)
            name = f"{streams:,} stream{'s' if streams > 1 else ''}"
            yield Case("step", name, "window", streams * windows, engines)


def _in_turn(stepper: Any, z: Any, logsigs: Any) -> Callable[[], object]:
    def run() -> object:
        moved = z
        for own in logsigs:
            moved = stepper.step(moved, own)
        return moved

    return run


def pushes() -> Case:
    """Push samples that close no window into a Predictor, beside the signature's update alone."""
    bundle = model(windows=Every(1e9))
    rng = np.random.default_rng(0)
    samples = [row.tolist() for row in rng.normal(size=(_SAMPLES, CHANNELS - 1)).cumsum(axis=0) * 0.1]
    points = [[0.01 * i, *row] for i, row in enumerate(samples)]
    times = [point[0] for point in points]

    predictor = Predictor(bundle)

    def ours() -> None:
        predictor.flush()  # restarts the stream
        push = predictor.push
        for t, x in zip(times, samples, strict=True):
            push(t, x)

    def alone() -> None:
        push = LogSignature(CHANNELS, DEPTH).push
        for point in points:
            push(point)

    engines: dict[str, Callable[[], object]] = {"streamrde Predictor.push": ours, "streamrde LogSignature.push": alone}
    return Case("push", f"C={CHANNELS}, N={DEPTH}, no window closes", "sample", _SAMPLES, engines)


def model(channels: int = CHANNELS, depth: int = DEPTH, *, hidden: int = HIDDEN, **changes: Any) -> Bundle:
    """Return a model with random weights, by default of the benchmark's sizes."""
    changes = {"field": MLP(width=WIDTH, layers=1, last_activation="tanh")} | changes
    names = tuple(Channel(name=f"x{i}") for i in range(1, channels))
    header = Header(channels=names, depth=depth, hidden=hidden, outputs=1, **changes)
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in header.shapes().items():
        own = rng.normal(size=shape) / shape[-1] ** 0.5 * (0.3 if name.startswith("field.1") else 1.0)
        scale = np.ones(shape) if name.endswith("scale") else np.zeros(shape)
        tensors[name] = scale if name.split(".")[0] in ("x0", "logsig", "output") else own.astype(np.float32)
    return Bundle(header, tensors)


def _torch(bundle: Bundle, z: Any, logsigs: Any, folder: Path, *, compile: bool) -> dict[str, Callable[[], object]]:
    """Time the step in torch: by torchcde, written by hand, and exported."""
    import torch

    from streamrde.models import NeuralRDE, export_onnx

    torch.set_num_threads(1)
    neural = NeuralRDE.from_bundle(bundle)
    state, own = torch.from_numpy(z), torch.from_numpy(logsigs.astype(np.float32))
    arguments = [(part, None, part[:, :1]) for part in own]
    engines: dict[str, Callable[[], object]] = {}

    def inference(step: Callable[..., Any]) -> Callable[[], object]:
        def run() -> object:
            moved = state
            with torch.inference_mode():
                for part in arguments:
                    moved = step(moved, *part)
            return moved

        return run

    if peers.installed("torchcde"):
        engines["torchcde rk4"] = _torchcde(neural, state, own.transpose(0, 1))
    engines["torch by hand, precontracted"] = inference(neural.step)
    if compile:
        engines["torch.compile, precontracted"] = inference(torch.compile(neural.step))
        ahead = _ahead_of_time(neural, state, own[0], folder)
        engines["AOTInductor, precontracted"] = inference(lambda z, part, _, seconds: ahead(z, part, seconds))
    if peers.installed("onnxruntime") and peers.installed("onnxscript"):
        path = folder / "step.onnx"
        if not path.exists():
            export_onnx(neural, path)
        engines["onnxruntime, precontracted"] = _in_turn(OnnxStepper(bundle, path), z, logsigs)
    return engines


def _torchcde(neural: Any, state: Any, logsigs: Any) -> Callable[[], object]:
    """Run cdeint over all windows. The field forms its whole matrix, as torchcde needs it."""
    import torch
    import torchcde

    hidden, features = state.shape[1], logsigs.shape[2]
    rows = torch.cat([torch.zeros_like(logsigs[:, :1]), logsigs], dim=1).cumsum(dim=1)
    control = torchcde.LinearInterpolation(rows)
    first, last = neural.field[0], neural.field[1]

    class Field(torch.nn.Module):
        def forward(self, t: Any, z: Any) -> Any:
            return last(torch.tanh(first(z))).reshape(-1, hidden, features)

    field, grid, options = Field(), control.grid_points, {"step_size": 1.0}

    def run() -> object:
        with torch.no_grad():
            return torchcde.cdeint(control, field, state, grid, adjoint=False, method="rk4", options=options)

    return run


def _ahead_of_time(neural: Any, state: Any, logsigs: Any, folder: Path) -> Callable[..., Any]:
    import torch

    class Step(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neural = neural

        def forward(self, z: Any, logsig: Any, seconds: Any) -> Any:
            return self.neural.step(z, logsig, None, seconds)

    with torch.no_grad():
        program = torch.export.export(Step(), (state, logsigs, logsigs[:, :1].contiguous()))
        package = torch._inductor.aoti_compile_and_package(program, package_path=str(folder / f"step{len(state)}.pt2"))
    return torch._inductor.aoti_load_package(package)


def _floors(bundle: Bundle, streams: int, windows: int) -> dict[str, Callable[[], object]]:
    """Time lower bounds of this machine: one pass over the weights, or the multiply-adds of all streams."""
    import torch

    torch.set_num_threads(1)
    weights = torch.ones(bundle.parameters)
    multiply_adds = HIDDEN * (WIDTH + 1) * bundle.header.logsig_channels + 4 * 2 * HIDDEN * WIDTH
    side = 512
    left, right = torch.ones(side, side), torch.ones(side, max(1, round(streams * multiply_adds / side**2)))
    if streams == 1:
        return {"floor: one pass over the weights": lambda: [torch.dot(weights, weights) for _ in range(windows)]}
    return {"floor: its multiply-adds in one product": lambda: [torch.mm(left, right) for _ in range(windows)]}
