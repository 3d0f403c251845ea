"""The command `fit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from streamrde.cli.options import Json, split
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError


def fit(
    data: Annotated[str, typer.Argument(help="Recorded files: a file, a folder or a glob.")],
    target: Annotated[str, typer.Option("--target", help="Column to predict, one value per stream.")],
    task: Annotated[
        Literal["auto", "classification", "regression"], typer.Option(help="What is learned: classes, or numbers.")
    ] = "auto",
    stream: Annotated[str | None, typer.Option(help="Column of the stream's name.")] = None,
    time: Annotated[str | None, typer.Option(help="Column of the time.")] = None,
    time_unit: Annotated[str, typer.Option(help="Unit of times that are numbers.")] = "s",
    channels: Annotated[str, typer.Option(help="Columns of the channels, comma-separated.")] = "",
    drop: Annotated[str, typer.Option(help="Columns that are no channels, comma-separated.")] = "",
    group: Annotated[str | None, typer.Option(help="Column of what is kept together, such as a person.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random features.")] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="The model's file. It must not exist.")] = Path(
        "model.safetensors"
    ),
    json: Json = False,
) -> None:
    """Fit a model to recorded streams in seconds, without torch.

    Example: `streamrde fit recordings.parquet --target label`
    """
    from streamrde.disk import prepare_file
    from streamrde.fitting.entry import fit as fit_files

    if out.exists():
        raise ConfigError(f"--out {out}: the file exists; remove it or give another path")
    prepare_file(out, "--out")
    report = fit_files(
        data, target, task=task, stream=stream, time=time, time_unit=time_unit, channels=split(channels),
        drop=split(drop), group=group, seed=seed, out=out, say=(lambda text: None) if json else print,
    )  # fmt: skip
    if json:
        print_json(report.measures)
        return
    found = report.measures
    kind = "accuracy" if "accuracy" in found else "rmse"
    plain = found["majority_accuracy" if kind == "accuracy" else "mean_rmse"]
    print(f"on streams left out in turn: {kind} {found[kind]:.4g}; the plainest answer has {plain:.4g}")
    if found[kind] <= plain if kind == "accuracy" else found[kind] >= plain:
        print("warning: the model is no better than the plainest answer")
    where = " ".join(
        f"--{option} {value!r}"
        for option, value, usual in (
            ("stream", report.roles.stream, "stream_id"),
            ("time", report.roles.time, "t"),
            ("time-unit", time_unit, "s"),
        )
        if value != usual
    )
    print(f"wrote {out}; next: streamrde score {data} --model {out} --out predictions.parquet {where}".rstrip())
