"""Print what the log-ODE step and a push cost beside torchcde, torch, AOTInductor and onnxruntime.

usage: python tests/benchmarks/steps.py [ROUNDS]

H = 64, MLP 64 -> 128 -> 64 * 30, B = 30, rk4, float32, one thread. Engines run in turn; ratios are within a round. The
floors are the time of one pass over the weights (one stream), and of as many multiply-adds in one product (many).
"""

from __future__ import annotations

import sys

from rich.console import Console

from streamrde import bench
from streamrde.bench.steps import pushes, steps


def cases():
    yield pushes()
    yield from steps(compile=True)


if __name__ == "__main__":
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    console = Console(width=100)
    console.print(", ".join(f"{name} {value}" for name, value in bench.machine().items()), highlight=False)
    console.print(bench.table(bench.measure(cases(), rounds=rounds, on_case=lambda name: print(name, file=sys.stderr))))
