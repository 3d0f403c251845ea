"""Time to read payloads of several shapes, beside msgspec, which parses the same bytes into Python objects.

    python tests/benchmarks/payload_shapes.py --rounds 40

Both are timed in turns in one process. A row is a shape: microseconds per payload, and the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec

from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.columns import ColumnKeys
from streamrde.connectors.ends import Message

CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")
MANY = 50


def values() -> dict[str, float]:
    """Numbers of all channels."""
    return {name: random.random() for name in CHANNELS}


def below(path: str) -> tuple[str, ...]:
    """Paths of the channels in an object."""
    return tuple(f"{path}.{name}" for name in CHANNELS)


def shapes() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Payloads with their keys of columns."""
    random.seed(1)
    places = tuple(f"acc[{i}]" for i in range(len(CHANNELS)))
    moments = [float(i) for i in range(MANY)]
    entries = [{"id": n, "v": random.random(), "q": True, "t": t} for t in moments[: MANY // 6] for n in CHANNELS]
    vectors = [{"t": t, "acc": [random.random() for _ in CHANNELS]} for t in moments]
    columns = {"t": moments} | {name: [random.random() for _ in moments] for name in CHANNELS}
    long = {"records": "values", "name": "id", "value": "v"}
    return {
        "flat, one": ({"t": 1.5} | values(), {}),
        "flat, list of 50": ([{"t": t} | values() for t in moments], {}),
        "nested, one": ({"ts": 1709640000000, "values": values()}, {"time": "ts", "channels": below("values")}),
        "nested, list of 50": ([{"t": t, "values": values()} for t in moments], {"channels": below("values")}),
        "50 records below a path": ({"data": {"r": [{"t": t} | values() for t in moments]}}, {"records": "data.r"}),
        "50 records with vectors": ({"r": vectors}, {"records": "r", "channels": places}),
        "columns of 50 below a path": ({"d": columns}, {"time": "d.t", "channels": below("d")}),
        "long, 48 entries": ({"values": entries}, long),
        "numbers in text, one": ({"t": 1.5} | {name: str(value) for name, value in values().items()}, {}),
        "stream in the payload, one": ({"t": 1.5, "device": "w1"} | values(), {"stream": "device"}),
    }


def seconds(task: Callable[[], object], times: int) -> float:
    """Processor seconds of one call, over several."""
    began = time.process_time()
    for _ in range(times):
        task()
    return (time.process_time() - began) / times


def main() -> None:
    """Print a row for each shape."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds
    print(f"Python {platform.python_version()}, msgspec {msgspec.__version__}, {platform.machine()}, {rounds} rounds")
    print(f"{'shape':<28}{'codec, us':>12}{'msgspec, us':>14}{'ratio':>8}")
    for name, (payload, keys) in shapes().items():
        codec, data = JsonCodec(ColumnKeys(**keys).columns_for(CHANNELS)), msgspec.json.encode(payload)
        message = Message(b"s/w1", data, 0.0)
        times = max(20, int(0.002 / seconds(lambda: codec.read(message), 20)))  # noqa: B023
        pairs = [
            (seconds(lambda: codec.read(message), times), seconds(lambda: msgspec.json.decode(data), times))  # noqa: B023
            for _ in range(rounds)
        ]
        ours, theirs = (1e6 * statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:<28}{ours:>12.2f}{theirs:>14.2f}{statistics.median(a / b for a, b in pairs):>8.1f}")


if __name__ == "__main__":
    main()
