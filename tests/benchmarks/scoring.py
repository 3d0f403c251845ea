"""How fast recorded files are scored, beside torchcde and beside pyarrow's reading of the same columns.

    python tests/benchmarks/scoring.py watch                        the package's recordings, one core
    python tests/benchmarks/scoring.py files FILES --channels a,b   any files: rows/s, memory, 1 and 2 jobs
    python tests/benchmarks/scoring.py folder --gigabytes 10        the same of a folder that is made up, then removed

Every figure is the median of rounds in which all sides run in turn; the spread is that of the rounds. Peak memory is
the resident memory of the command and its workers, sampled.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet

import streamrde as sr
from streamrde.connectors.files.recordings import find_recordings
from streamrde.demo.watch_data import FOLDER, MODEL

CHANNELS = ("ax", "ay", "az", "wx", "wy", "wz")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["watch", "files", "folder"])
    parser.add_argument("files", nargs="*")
    parser.add_argument("--channels", default=",".join(CHANNELS))
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--streams", type=int, default=0, help="watch: streams for torchcde; 0 = all")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, NumPy {np.__version__}, pyarrow {pa.__version__}")
    with tempfile.TemporaryDirectory(prefix="scoring-") as folder:
        scratch = pathlib.Path(folder)
        if arguments.what == "watch":
            watch(scratch, arguments.rounds, arguments.streams)
            return
        channels = tuple(arguments.channels.split(","))
        files = arguments.files
        if arguments.what == "folder":
            files = [str(make_folder(scratch / "recordings", arguments.gigabytes, channels))]
        throughput(files, channels, scratch, arguments.rounds)


def watch(scratch: pathlib.Path, rounds: int, streams: int) -> None:
    """The smart-watch recordings on one core: the demo's model against torchcde, a small one against pyarrow."""
    import torch

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    files = str(FOLDER / "subject-*.parquet")
    bundle = sr.load(MODEL)
    model = scratch / "rk4.safetensors"
    bundle = sr.Bundle(msgspec.structs.replace(bundle.header, solver="rk4"), bundle.tensors)
    bundle.save(model)
    small = scratch / "small.safetensors"
    small_bundle(CHANNELS).save(small)

    one = str(scratch / "all.parquet")
    pa.parquet.write_table(pa.concat_tables([pa.parquet.read_table(r.path) for r in find_recordings(files)]), one)

    sides = {
        "pyarrow reads the columns of ten files": lambda: read_columns(files, CHANNELS),
        "pyarrow reads the columns of one file": lambda: read_columns(one, CHANNELS),
        "demo's model, ten files": lambda: scored(files, model, scratch / "a.parquet"),
        "small model, windows of 200, ten files": lambda: scored(files, small, scratch / "b.parquet"),
        "small model, windows of 200, one file": lambda: scored(one, small, scratch / "c.parquet"),
    }
    times, processor, last = in_turn(sides, rounds)
    show(times)
    print("processor time, which others on the machine disturb less:")
    show(processor)
    reading, reading_one, ours, of_small, of_small_one = times.values()
    cpu_reading, cpu_reading_one, cpu_ours, cpu_of_small, cpu_of_small_one = processor.values()
    for name in list(sides)[2:]:
        phases = last[name]
        total = sum(phases.values())
        print(f"  {name}: " + ", ".join(f"{phase} {seconds / total:.0%}" for phase, seconds in phases.items()))
    print("small model, times what pyarrow needs to read the columns (target: at most 3):")
    print(f"  ten files {ratio(of_small, reading)}, one file {ratio(of_small_one, reading_one)}")
    print("  in processor time:")
    print(f"  ten files {ratio(cpu_of_small, cpu_reading)}, one file {ratio(cpu_of_small_one, cpu_reading_one)}")

    began, cpu_began = time.perf_counter(), time.process_time()
    outputs, by_us, share = with_torchcde(files, bundle, streams)
    seconds, cpu_seconds = (time.perf_counter() - began) / share, (time.process_time() - cpu_began) / share
    print(f"torchcde.logsig_windows + cdeint(rk4, no_grad): {seconds:.2f} s for all streams, measured on {share:.0%}")
    print(f"  log-signatures by streamrde where torchcde's raised: {by_us} streams")
    print(
        f"  takes {seconds / statistics.median(ours):.0f} times as long (target: 50, better 100), "
        f"and {cpu_seconds / statistics.median(cpu_ours):.0f} times the processor time"
    )
    table = pa.parquet.read_table(scratch / "a.parquet")
    value = np.array(table["value"].combine_chunks().flatten()).reshape(table.num_rows, -1)
    rows = {key: i for i, key in enumerate(zip(table["stream"].to_pylist(), table["window"].to_pylist(), strict=True))}
    worst = max(
        np.abs(value[[rows[stream, k] for k in range(len(chances))]] - chances).max()
        for stream, chances in outputs.items()
    )
    print(f"  largest difference between the two in a class's probability: {worst:.1e}")


def scored(files: str, model: pathlib.Path, out: pathlib.Path) -> dict[str, float]:
    """Score, and say where the time went: seconds by phase, which overlap."""
    from streamrde.inference.states import States

    step, stepping = States.step, [0.0]

    def timed(*arguments: object) -> object:
        began = time.perf_counter()
        try:
            return step(*arguments)
        finally:
            stepping[0] += time.perf_counter() - began

    States.step = timed
    try:
        summary = sr.score(files, model, out=out)
    finally:
        States.step = step
    reading, fleet, writing = (summary.phases[name] for name in ("reading", "fleet", "writing"))
    rest = max(0.0, summary.seconds - reading - fleet - writing)
    return {"reading": reading, "windows and signatures": fleet - stepping[0], "stepping": stepping[0],
            "writing": writing, "planning and the rest": rest}  # fmt: skip


def with_torchcde(files: str, bundle: sr.Bundle, streams: int) -> tuple[dict[str, np.ndarray], int, float]:
    """Probabilities of every window of streams, how often torchcde's log-signature failed, and the share of rows."""
    import torch
    import torchcde

    tensors = {name: torch.from_numpy(np.array(tensor)) for name, tensor in bundle.tensors.items()}
    header = bundle.header
    activations = {"relu": torch.relu, "tanh": torch.tanh}
    layers = header.field.layers

    class Field(torch.nn.Module):
        def forward(self, t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
            for i in range(layers + 1):
                z = torch.nn.functional.linear(z, tensors[f"field.{i}.weight"], tensors[f"field.{i}.bias"])
                if i < layers:
                    z = activations[header.field.last_activation if i == layers - 1 else header.field.activation](z)
            return z.view(*z.shape[:-1], header.hidden, -1) * tensors["logsig.scale"].float()

    table = pa.concat_tables([pa.parquet.read_table(r.path) for r in find_recordings(files)])
    names = np.array(table["stream_id"].to_pylist())
    edges = np.append(np.flatnonzero(np.append(True, names[1:] != names[:-1])), len(names))
    chosen = len(edges) - 1 if not streams else min(streams, len(edges) - 1)
    time_and_data = np.stack([table[name].to_numpy() for name in ("t", *CHANNELS)], axis=1)
    outputs: dict[str, np.ndarray] = {}
    by_us = 0
    with torch.no_grad():
        for a, b in itertools.pairwise(edges[: chosen + 1]):
            path = time_and_data[a:b].copy()
            path[:, 0] -= path[0, 0]
            t = torch.from_numpy(path[:, 0].copy())
            try:
                logsig = torchcde.logsig_windows(torch.from_numpy(path), header.depth, header.windows.seconds, t=t)
            except (RuntimeError, AssertionError, ValueError, ImportError):
                by_us += 1
                _, own = sr.logsig_windows(path[:, 0], path, header.depth, header.windows)
                logsig = torch.from_numpy(np.concatenate([np.zeros((1, own.shape[1])), own.cumsum(axis=0)]))
            spline = torchcde.LinearInterpolation(torchcde.linear_interpolation_coeffs(logsig.float()))
            x0 = (torch.from_numpy(path[0]) - tensors["x0.shift"]) * tensors["x0.scale"]
            z0 = torch.nn.functional.linear(x0.float(), tensors["initial.weight"], tensors["initial.bias"])
            z = torchcde.cdeint(
                spline, Field(), z0, spline.grid_points, adjoint=False, method="rk4",
                options={"step_size": 1.0, "perturb": True},
            )[1:]  # fmt: skip
            logits = torch.nn.functional.linear(z, tensors["readout.weight"], tensors["readout.bias"])
            outputs[names[a]] = torch.softmax(logits, dim=-1).numpy()
    return outputs, by_us, edges[chosen] / len(names)


def throughput(files: Sequence[str], channels: tuple[str, ...], scratch: pathlib.Path, rounds: int) -> None:
    """Rows per second and peak memory of the command with one job and with two."""
    model = scratch / "small.safetensors"
    small_bundle(channels).save(model)
    size = sum(recording.path.stat().st_size for recording in find_recordings(files))
    print(f"{len(find_recordings(files))} files, {size / 1e9:.2f} GB")
    seconds: dict[str, list[float]] = {"pyarrow reads the columns": [], "1 job": [], "2 jobs": []}
    for _ in range(rounds):
        began = time.perf_counter()
        read_columns(files, channels)
        seconds["pyarrow reads the columns"].append(time.perf_counter() - began)
        for jobs in (1, 2):
            summary, peak = command(files, model, scratch / f"{jobs}.parquet", jobs)
            seconds[f"{jobs} job" + "s" * (jobs > 1)].append(summary["seconds"])
            print(
                f"  {jobs} job{'s' * (jobs > 1)}: {summary['rows']:,} rows, {summary['rows_per_second']:,} rows/s, "
                f"peak memory {peak / 1e6:,.0f} MB, {summary['parts']} parts, {summary['phases']}"
            )
    show(seconds)
    print(f"1 job takes {ratio(seconds['1 job'], seconds['pyarrow reads the columns'])} times the reading by pyarrow")
    print(f"2 jobs are {ratio(seconds['1 job'], seconds['2 jobs'])} times as fast as 1 (target: 1.7)")
    same = (scratch / "1.parquet").read_bytes() == (scratch / "2.parquet").read_bytes()
    print(f"the outputs are {'the same, byte for byte' if same else 'NOT the same'}")


def command(files: Sequence[str], model: pathlib.Path, out: pathlib.Path, jobs: int) -> tuple[dict, int]:
    """The command's summary, and the peak of resident memory of it and its workers together, bytes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "streamrde", "score", *files, "-m", model, "-o", out, "--jobs", str(jobs), "--json"],
        stdout=subprocess.PIPE,
    )
    peak, done = 0, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, resident(process.pid))

    watcher = threading.Thread(target=sample)
    watcher.start()
    output, _ = process.communicate()
    done.set()
    watcher.join()
    if process.returncode:
        raise SystemExit(f"the command ended with status {process.returncode}")
    return json.loads(output), peak


def resident(parent: int) -> int:
    """Resident memory of a process and its children; pages that they share with each other count twice."""
    total = 0
    for status in pathlib.Path("/proc").glob("[0-9]*/status"):
        try:
            fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        except OSError:
            continue
        if parent in (int(fields["Pid"]), int(fields["PPid"])):
            total += int(fields.get("VmRSS", "0 kB").split()[0]) * 1024
    return total


def read_columns(files: str | Sequence[str], channels: tuple[str, ...]) -> None:
    """Decode the columns that a job needs, row group by row group, on one thread."""
    for recording in find_recordings(files):
        with pa.parquet.ParquetFile(recording.path) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group, columns=["stream_id", "t", *channels], use_threads=False)


def small_bundle(channels: tuple[str, ...]) -> sr.Bundle:
    """A small model with windows of 200 samples: depth 2, 16 hidden, one layer of 32; random weights."""
    header = sr.Header(
        channels=tuple(sr.Channel(name=name) for name in channels),
        depth=2,
        hidden=16,
        outputs=4,
        field=sr.MLP(width=32, layers=1),
        solver="midpoint",
        windows=sr.Count(200),
        task="classification",
    )
    rng = np.random.default_rng(0)
    tensors = {
        name: np.ones(shape) if "scale" in name else rng.normal(size=shape) / shape[-1] ** 0.5
        for name, shape in header.shapes().items()
    }
    wide = ("x0.shift", "x0.scale", "logsig.scale", "output.shift", "output.scale")
    tensors["logsig.scale"] *= 0.01
    return sr.Bundle(header, {n: t if n in wide else t.astype(np.float32) for n, t in tensors.items()})


def make_folder(folder: pathlib.Path, gigabytes: float, channels: tuple[str, ...]) -> pathlib.Path:
    """Random walks at 100 Hz, several streams per file one after the other, files of about 250 MB."""
    rows, streams = 7_500_000, 25
    bytes_per_row = 8 + 4 * len(channels)
    files = max(1, round(gigabytes * 1e9 / (rows * bytes_per_row)))
    folder.mkdir()
    rng = np.random.default_rng(0)
    each = rows // streams
    walks = {name: rng.normal(size=rows).astype(np.float32).cumsum() * np.float32(0.01) for name in channels}
    t = np.tile(np.arange(each) / 100.0, streams)
    for i in range(files):
        names = pa.DictionaryArray.from_arrays(
            np.repeat(np.arange(streams, dtype=np.int32), each), [f"{i:04d}-{j:02d}" for j in range(streams)]
        )
        table = pa.table({"stream_id": names, "t": t, **walks})
        pa.parquet.write_table(
            table, folder / f"{i:04d}.parquet", compression="none", use_dictionary=["stream_id"], row_group_size=1 << 20
        )
    return folder


def in_turn(
    sides: dict[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]], dict[str, object]]:
    """Seconds of every side in every round, by the clock and of the processor, and what each gave last.

    A round before these does not count.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    processor: dict[str, list[float]] = {name: [] for name in sides}
    last: dict[str, object] = {}
    for round_ in range(rounds + 1):
        for name, side in sides.items():
            began, cpu_began = time.perf_counter(), time.process_time()
            last[name] = side()
            if round_:
                times[name].append(time.perf_counter() - began)
                processor[name].append(time.process_time() - cpu_began)
    return times, processor, last


def ratio(a: Sequence[float], b: Sequence[float]) -> str:
    """Median of the rounds' ratios, and their range."""
    ratios = sorted(x / y for x, y in zip(a, b, strict=True))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def show(times: dict[str, list[float]]) -> None:
    """One line per side."""
    for name, seconds in times.items():
        print(f"{name}: {statistics.median(seconds):.3f} s ({min(seconds):.3f}-{max(seconds):.3f})")


if __name__ == "__main__":
    main()
