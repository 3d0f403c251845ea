"""Other libraries that compute log-signatures, where they are installed.

Each computes the coefficients at the Lyndon words or an equally cheap set. Converting the result is not timed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np

Paths: TypeAlias = Any
"""Points, (..., L, C), float64."""
Compute: TypeAlias = Callable[[Paths], object]

PEERS = ("pysiglib", "iisignature", "sig_rust", "signatory", "roughpy", "torch", "torchcde", "onnxruntime")
"""Module of every known peer. Its distribution is named with dashes."""


def installed(module: str) -> bool:
    """Return True if a peer can be imported."""
    return importlib.util.find_spec(module) is not None


def versions() -> dict[str, str]:
    """Return the version of every installed peer."""
    return {name: importlib.metadata.version(name.replace("_", "-")) for name in PEERS if installed(name)}


def whole_paths(channels: int, depth: int) -> Iterator[tuple[str, Compute]]:
    """Yield functions that compute the log-signatures of one or many paths in one call."""
    if installed("pysiglib"):
        import pysiglib

        pysiglib.prepare_log_sig(channels, depth, method=1)
        yield "pysiglib method 1", lambda path: pysiglib.log_sig(path, depth, method=1)
    if installed("iisignature"):
        import iisignature

        prepared = iisignature.prepare(channels, depth, "C")
        yield "iisignature C", lambda path: iisignature.logsig(path, prepared, "C")
    if installed("sig_rust"):
        import sig_rust

        ready = sig_rust.prepare(channels, depth)
        yield "sig-rust", lambda path: sig_rust.logsig(path, ready)
    if installed("signatory"):
        import signatory
        import torch

        torch.set_num_threads(1)

        def compute(path: Paths) -> object:
            batched = torch.from_numpy(path.reshape(-1, *path.shape[-2:]))
            return signatory.logsignature(batched, depth, mode="words")

        yield "signatory words", compute


def streams(channels: int, depth: int, windows: list[list[Any]]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield functions that take the windows' samples one by one and read the log-signature after each window."""
    if installed("pysiglib"):
        import pysiglib

        pysiglib.prepare_log_sig(channels, depth, method=2)
        pysiglib.prepare_log_sig(channels, depth, method=3)
        length = len(windows[0])

        def log_sig_stream() -> None:
            stream = pysiglib.LogSigStream(dimension=channels, degree=depth)
            for i, window in enumerate(windows):
                for x in window:
                    stream.push(x)
                stream.sig(i * length, (i + 1) * length - 1)

        yield "pysiglib LogSigStream", log_sig_stream
    if installed("signatory"):
        import signatory
        import torch

        torch.set_num_threads(1)
        tensors = [[torch.from_numpy(x)[None, None] for x in window] for window in windows]

        def path_update() -> None:
            path = signatory.Path(torch.zeros(1, 2, channels, dtype=torch.float64), depth)
            for window in tensors:
                for x in window:
                    path.update(x)
                path.logsignature(path.size(1) - len(window), None)

        yield "signatory Path", path_update
    if installed("roughpy"):
        roughpy: Any = importlib.import_module("roughpy")  # its type annotations are incomplete

        context = roughpy.get_context(channels, depth, roughpy.DPReal)

        def fmexp() -> None:
            one = roughpy.FreeTensor(np.array([1.0]), ctx=context)
            before = np.zeros(channels)
            for window in windows:
                signature = one
                for x in window:
                    piece = np.zeros(channels + 1)
                    np.subtract(x, before, out=piece[1:])
                    before = x
                    signature = signature.fmexp(roughpy.FreeTensor(piece, ctx=context))
                context.tensor_to_lie(signature.log())

        yield "roughpy fmexp", fmexp
