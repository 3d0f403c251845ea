"""Training from recorded files: read, split, scale, fit with early stopping, measure, write."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from rich.console import Console

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.statistics import stream_statistics
from streamrde.models.choosing.run import choose_model
from streamrde.models.report.write import write_report
from streamrde.models.saving import to_bundle
from streamrde.models.training.baselines import baselines, majority
from streamrde.models.training.calibration import with_validation
from streamrde.models.training.config import ConfigSource, TrainConfig, given_tables, resolve_config
from streamrde.models.training.history import Fitted, Predicted
from streamrde.models.training.measures import measure, predict, state_range
from streamrde.models.training.members import fit_members
from streamrde.models.training.novelty import learn_windows
from streamrde.models.training.outputs import write_outputs
from streamrde.models.training.plain import plain_models
from streamrde.models.training.preflight import check_outputs
from streamrde.models.training.preparation import prepare_data, with_bridge, with_usual_window, without_window
from streamrde.models.training.progress import print_metrics
from streamrde.models.training.provenance import provenance
from streamrde.models.training.splits import Split, leakage
from streamrde.models.training.streams import read_parts
from streamrde.models.training.verdict import verdict


def train(
    config: ConfigSource,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> Bundle:
    """Train a model as a configuration says, and write it where `output.model` says.

    A configuration without [model] compares families of models, see `choosing.run.choose_model`.

    Ctrl-C ends the training, not the run: the best weights so far are measured, written and returned. With
    `training.checkpoint` it can be resumed, also after its process was killed.

    Args:
        config: a TrainConfig, its tables as a mapping, or the path of a TOML file.
        settings: keys of it that are set anew, as ``["training.epochs=5", "model.hidden=64"]``.
        resume: go on from `training.checkpoint`, where there is one: the same model comes out as if nobody had stopped.
        console: where progress and measures are shown; by default standard output.
    Raises:
        ConfigError: an unknown key, a wrong type, or a split that cannot be made.
        DataError: files that cannot be read, a missing column, a stream with two labels.
        ParameterError: a channel or target that never changes, or a training that diverged.
        StateError: the checkpoint is damaged, or of another configuration or other data.
    """
    tables, config = given_tables(config, settings), resolve_config(config, settings)
    console = console or Console()
    begin = time.perf_counter()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    if "model" not in tables:
        return choose_model(config, tables, resume=resume, say=say)
    if config.choice is not None:
        raise ConfigError("[choice] is for runs that compare families of models: leave it out, or leave out [model]")
    check_outputs(config)
    parts = read_parts(config, say=say)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        fitted = fit(config, parts, console=console, resume=resume)
    bundle, seconds = fitted.bundle, time.perf_counter() - begin
    write_outputs(
        config,
        bundle,
        parts,
        say,
        report=lambda path: write_report(path, fitted, config=config, parts=parts, seconds=seconds),
    )
    say(f"done: {fitted.verdict.line}")
    for alarm in fitted.verdict.alarms:
        say(f"warning: {alarm}")
    return bundle


def fit(config: TrainConfig, parts: Split, *, console: Console, resume: bool = False) -> Fitted:
    """Train on one part of the streams, stop by another, measure all."""
    config = with_bridge(config, parts, console)
    data = prepare_data(config, parts, console)
    config = with_usual_window(config, data.examples["train"])
    device = _device(config.training.device)
    model, histories = fit_members(config, parts, data, device=device, console=console, resume=resume)
    size = config.training.batch_size
    predicted = {
        part: Predicted(examples, predict(model, examples, batch_size=size, device=device))
        for part, examples in data.examples.items()
    }
    metrics = {
        "epochs": float(np.mean([history.best for history in histories])),
        "steps_skipped": float(sum(epoch.skipped for history in histories for epoch in history.epochs)),
    }
    metrics |= _metrics(config, parts, predicted)
    metrics |= baselines(config, parts, data.examples, fills=data.fills, classes=data.classes)
    if config.compare and data.target_at == "stream":
        metrics |= plain_models(config, parts, classes=data.classes)
    print_metrics(console, metrics)
    model.set_range(*state_range(model, data.examples["train"], batch_size=size, device=device))
    bundle = to_bundle(
        model,
        metrics=metrics,
        training=provenance(config, parts, epochs=[history.best for history in histories]),
        statistics=stream_statistics([r.t for r in parts.train], [r.x for r in parts.train], model.header.partition),
    )
    bundle = with_validation(bundle, predicted, unseen="validation_streams_shared_group" not in metrics)
    if config.novelty:
        bundle = learn_windows(bundle, parts, say=lambda text: console.print(text, highlight=False))
    judged = verdict(
        metrics,
        majority=majority(data.examples["train"], data.classes) if data.classes else "",
        targets=config.data.targets,
        weighted=config.training.class_weights != "equal" and not config.training.undo_weights,
    )
    return Fitted(bundle, histories, predicted, judged)


def _metrics(config: TrainConfig, parts: Split, predicted: dict[str, Predicted]) -> dict[str, float]:
    """Measure the predictions of each part."""
    metrics = {}
    for part, (examples, outputs) in predicted.items():
        targets = config.data.targets
        for name, value in measure(examples, outputs, seconds=config.output.seconds, targets=targets).items():
            metrics[f"{part}_{name}"] = value
        metrics[f"{part}_streams_too_short"] = float(without_window(getattr(parts, part), examples))
    return metrics | leakage(parts)


def _device(name: str) -> torch.device:
    """Return the torch device of that name, or the best one for "auto".

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"training.device='{name}': {str(error).splitlines()[0]}; use 'auto' or 'cpu'") from None
    return device
