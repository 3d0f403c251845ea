"""Training from recorded files: read, split, scale, fit with early stopping, measure, write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from rich.console import Console

from streamrde.arrays import Floats
from streamrde.disk import replace_file
from streamrde.errors import ConfigError, ParameterError, StreamRDEError
from streamrde.inference.bundle import Bundle
from streamrde.inference.ensemble import join
from streamrde.inference.fields import LogNCDE
from streamrde.inference.header import TargetAt
from streamrde.inference.statistics import bridge_of, stream_statistics
from streamrde.models.neural_rde import NeuralRDE, to_bundle
from streamrde.models.report.write import write_report
from streamrde.models.scaling import Scaling, along_words, fit_inputs, fit_targets, moments
from streamrde.models.training.baselines import baselines, majority
from streamrde.models.training.checkpoint import Checkpoint, identity_of
from streamrde.models.training.config import ConfigSource, TrainConfig, resolve_config
from streamrde.models.training.examples import Example, Examples, Variation, prepare
from streamrde.models.training.history import Fitted, History, Predicted
from streamrde.models.training.initialisation import carries_samples, carry_average, carry_sample, shrink_field
from streamrde.models.training.losses import Objective
from streamrde.models.training.measures import measure, predict, state_range
from streamrde.models.training.novelty import learn_windows
from streamrde.models.training.optimisation import optimise
from streamrde.models.training.preflight import check_classes, check_outputs, say_windows
from streamrde.models.training.progress import print_metrics
from streamrde.models.training.provenance import provenance
from streamrde.models.training.recordings import Recording
from streamrde.models.training.score_file import truth_columns, write_test
from streamrde.models.training.segments import Say
from streamrde.models.training.splits import Split, leakage
from streamrde.models.training.streams import read_parts
from streamrde.models.training.verdict import verdict
from streamrde.windowing.partition import BRIDGE


def train(
    config: ConfigSource,
    *,
    settings: Sequence[str] = (),
    resume: bool = False,
    console: Console | None = None,
) -> Bundle:
    """Train a model as a configuration says, and write it where `output.model` says.

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
    config = resolve_config(config, settings)
    console = console or Console()
    begin = time.perf_counter()

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    check_outputs(config)
    parts = read_parts(config, say=say)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        fitted = fit(config, parts, console=console, resume=resume)
    bundle, seconds = fitted.bundle, time.perf_counter() - begin
    _write(config, fitted, parts, seconds, say)
    say(f"done: {fitted.verdict.line}")
    for alarm in fitted.verdict.alarms:
        say(f"warning: {alarm}")
    return bundle


def _write(config: TrainConfig, fitted: Fitted, parts: Split, seconds: float, say: Say) -> None:
    """Write what was asked for. If one of the files fails, the others are written all the same."""
    bundle, output = fitted.bundle, config.output
    failed: list[str] = []

    def write(path: str, what: str, how: Callable[[], object]) -> None:
        if not path:
            return
        try:
            how()
        except (OSError, StreamRDEError) as error:
            failed.append(f"{what}: {error}")
        else:
            say(f"{what} written to {path}")

    write(output.model, "model", lambda: bundle.save(output.model))
    metrics = json.dumps(bundle.header.metrics, indent=2).encode() + b"\n"
    write(output.metrics, "metrics", lambda: replace_file(output.metrics, metrics))
    write(output.test, "test streams", lambda: write_test(output.test, parts.test, config, bundle.header))
    for target, column in truth_columns(config).items() if output.test else ():
        if column != target:
            say(f"in {output.test} the target '{target}' is column '{column}', as a channel has its name")
    write(
        output.report,
        "report",
        lambda: write_report(output.report, fitted, config=config, parts=parts, seconds=seconds),
    )
    if failed:
        raise ParameterError(f"trained, but not all could be written: {'; '.join(failed)}")


def fit(config: TrainConfig, parts: Split, *, console: Console, resume: bool = False) -> Fitted:
    """Train on one part of the streams, stop by another, measure all."""
    config = _bridged(config, parts, console)
    data = _prepare(config, parts, console)
    device = _device(config.training.device)
    model, histories = _fit_members(config, parts, data, device=device, console=console, resume=resume)
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
    print_metrics(console, metrics)
    model.set_range(*state_range(model, data.examples["train"], batch_size=size, device=device))
    bundle = to_bundle(model)
    told = provenance(config, parts, epochs=[history.best for history in histories])
    partition = bundle.header.partition
    statistics = stream_statistics([r.t for r in parts.train], [r.x for r in parts.train], partition)
    at: TargetAt = "stream" if parts.train[0].target.t is None else "window"
    header = msgspec.structs.replace(
        bundle.header,
        metrics=metrics,
        training=told,
        notes=config.model.notes,
        target_at=at,
        horizon=config.data.horizon,
        statistics=statistics,
    )
    bundle = Bundle(header, bundle.tensors)
    if config.novelty:
        bundle = learn_windows(bundle, parts, say=lambda text: console.print(text, highlight=False))
    judged = verdict(
        metrics,
        majority=majority(data.examples["train"], data.classes) if data.classes else "",
        targets=config.data.targets,
        weighted=config.training.class_weights != "equal" and not config.training.undo_weights,
    )
    return Fitted(bundle, histories, predicted, judged)


def _bridged(config: TrainConfig, parts: Split, console: Console) -> TrainConfig:
    """Return the configuration with how long a silence the model bridges.

    If the configuration does not say it, the training streams do. Streams that are cut are reported.
    """
    ts = [recording.t for recording in parts.train]
    if config.bridge is None:
        config = msgspec.structs.replace(config, bridge=bridge_of(ts, config.windows))
    bridged = config.partition([0.0] * len(config.data.channels)).longest_gap
    longest = np.array([max(np.diff(t), default=0.0) for t in ts])
    if config.gap is None and (cut := int((longest > bridged).sum())):
        console.print(
            f"{cut:,} of {len(ts):,} training streams have a silence of more than {bridged:g} s ({config.bridge:,} "
            f"windows; the longest is {longest.max():g} s) and are cut there; [gap] and bridge decide otherwise",
            highlight=False,
        )
    return config


def _fit_members(
    config: TrainConfig, parts: Split, data: _Prepared, *, device: torch.device, console: Console, resume: bool
) -> tuple[NeuralRDE, tuple[History, ...]]:
    """The members trained one after the other, as one model; after Ctrl-C those that there are."""
    models: list[NeuralRDE] = []
    histories: list[History] = []
    members = config.training.members
    for member in range(members):
        own = member_config(config, member)
        if member:
            torch.manual_seed(own.training.seed)
        name = f"member {member + 1} of {members}" if members > 1 else ""
        try:
            model, history = _fit_member(own, parts, data, name=name, device=device, console=console, resume=resume)
        except KeyboardInterrupt:
            if not models:
                raise
            break
        models.append(model)
        histories.append(history)
        if history.interrupted:
            break
    if len(models) < members:
        console.print(f"{len(models)} of {members} members were trained, and make the model", highlight=False)
    joined = models[0] if members == 1 else NeuralRDE.from_bundle(join([to_bundle(model) for model in models]))
    return joined.to(device), tuple(histories)


def member_config(config: TrainConfig, member: int) -> TrainConfig:
    """The configuration by which a member is trained: the ensemble's, with a seed and a checkpoint of its own."""
    training = msgspec.structs.replace(config.training, members=1)
    if member:
        # Not seeds one apart, so that ensembles with neighbouring seeds have no member in common.
        (seed,) = np.random.SeedSequence((config.training.seed, member)).generate_state(1).tolist()
        path = f"{training.checkpoint}.{member}" if training.checkpoint else ""
        training = msgspec.structs.replace(training, seed=seed, checkpoint=path)
    return msgspec.structs.replace(config, training=training)


def _fit_member(
    config: TrainConfig,
    parts: Split,
    data: _Prepared,
    *,
    name: str,
    device: torch.device,
    console: Console,
    resume: bool,
) -> tuple[NeuralRDE, History]:
    model = _begin(config, data)
    model.to(device)
    objective = Objective(config.training, model.header, data.examples["train"], device=device)

    def variants(epoch: int) -> Examples:
        if not config.augment.active:
            return data.examples["train"]
        # Seeded by epoch: an epoch's variants do not depend on what was drawn before.
        variation = Variation(np.random.default_rng((config.training.seed, epoch)), data.deviation)
        return prepare(parts.train, config, fills=data.fills, classes=data.classes, variation=variation)

    history = optimise(
        model,
        variants,
        data.examples["validation"],
        config.training,
        objective=objective,
        device=device,
        console=console,
        name=name,
        checkpoint=_checkpoint(config, data),
        resume=resume,
    )
    if config.training.undo_weights:
        objective.undo_weights(model)
    return model, history


def _checkpoint(config: TrainConfig, data: _Prepared) -> Checkpoint | None:
    training = config.training
    if not training.checkpoint:
        return None
    identity = identity_of(config, data.examples)
    return Checkpoint(training.checkpoint, seconds=training.checkpoint_seconds, identity=identity)


def _device(name: str) -> torch.device:
    """The torch device of that name, or the best there is.

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


class _Prepared(NamedTuple):
    """The streams' windows, and what was read off the training streams for them."""

    classes: tuple[str, ...]
    fills: Floats
    """Value of each data channel before it is observed, (C-1,)."""
    deviation: Floats
    """Standard deviation of each data channel, (C-1,)."""
    examples: dict[str, Examples]
    scaling: Scaling
    """Of the path, the log-signatures and the targets."""


def _prepare(config: TrainConfig, parts: Split, console: Console) -> _Prepared:
    check_classes(config, parts)
    classes = _classes(parts, config)
    fills, deviation, _ = moments([recording.x for recording in parts.train])

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    examples = {
        part: prepare(recordings, config, fills=fills, classes=classes) for part, recordings in parts._asdict().items()
    }
    for part, recordings in parts._asdict().items():
        short = _without_window(recordings, examples[part])
        if short:
            say(f"{part}: {short:,} of {len(recordings):,} streams are too short for a window and left out")
    if not examples["train"]:
        raise ConfigError("no training stream has a window: shorten windows, or use longer recordings")
    say_windows(config, parts, examples["train"].lengths, say)
    return _Prepared(classes, fills, deviation, examples, _scaling(config, parts, fills, classes, examples["train"]))


def _scaling(
    config: TrainConfig, parts: Split, fills: Floats, classes: Sequence[str], examples: Sequence[Example]
) -> Scaling:
    """Of the training streams alone."""
    shift, scale, logsig_scale = fit_inputs(
        [recording.x for recording in parts.train],
        [example.logsigs for example in examples],
        [channel.name for channel in config.data.channels],
        channels=config.partition(fills).path_channels,
        by=config.training.scaling,
    )
    if isinstance(config.model.field, LogNCDE):
        logsig_scale = along_words(logsig_scale, config.model.depth)
    if classes:
        return Scaling(shift, scale, logsig_scale, np.zeros(len(classes)), np.ones(len(classes)))
    return Scaling(
        shift, scale, logsig_scale, *fit_targets([example.target for example in examples], config.data.targets)
    )


_DECAY = 0.1
"""Value from which the optimiser changes decay. It should take many of its steps of some 1e-3, but not too many."""


def _begin(config: TrainConfig, data: _Prepared) -> NeuralRDE:
    """A model as training begins with it."""
    model = _model(config, data.fills, data.classes)
    model.set_scaling(data.scaling)
    if config.model.decay:
        model.rescale_decay(_DECAY / config.model.decay)
    shrink_field(model, config.training.field_gain)
    if config.training.start != "random" and carries_samples(model):
        carry_sample(model)
    if config.training.start == "average":
        carry_average(model, float(np.mean([example.ends[-1] for example in data.examples["train"]])))
    return model


def _metrics(config: TrainConfig, parts: Split, predicted: dict[str, Predicted]) -> dict[str, float]:
    """The measures of each part."""
    metrics = {}
    for part, (examples, outputs) in predicted.items():
        targets = config.data.targets
        for name, value in measure(examples, outputs, seconds=config.output.seconds, targets=targets).items():
            metrics[f"{part}_{name}"] = value
        metrics[f"{part}_streams_too_short"] = float(_without_window(getattr(parts, part), examples))
    return metrics | leakage(parts)


def _model(config: TrainConfig, fills: Floats, classes: Sequence[str]) -> NeuralRDE:
    data, model = config.data, config.model
    labels = classes or data.targets
    made = NeuralRDE(
        len(data.channels) + 1,
        model.depth,
        model.hidden,
        len(labels),
        field=model.field,
        solver=model.solver,
        first_stage=model.first_stage,
        substeps=model.substeps,
        tolerance=model.tolerance,
        decay=model.decay,
        pooling=model.pooling,
        emit=model.emit,
        windows=config.windows,
        interpolation=model.interpolation,
        missing=config.missing,
        gap=config.gap,
        names=[channel.name for channel in data.channels],
        units=[channel.unit for channel in data.channels],
        fills=fills.tolist(),
        task=data.task,
        labels=labels,
        target_units=data.target_units,
        description=model.description,
        dtype=getattr(torch, model.dtype),
    )
    made.header = msgspec.structs.replace(made.header, bridge=config.bridge or BRIDGE)
    return made


def _without_window(recordings: Sequence[Recording], examples: Sequence[Example]) -> int:
    """How many streams are too short for a window."""
    return len(recordings) - len({example.stream for example in examples})


def _classes(parts: Split, config: TrainConfig) -> tuple[str, ...]:
    """The training streams' labels in alphabetical order; none for regression."""
    if config.data.task == "regression":
        return ()
    classes = tuple(sorted(set().union(*(recording.target.labels for recording in parts.train))))
    if len(classes) < 2:
        raise ConfigError(f"all training streams have the label '{classes[0]}': a classifier needs at least two")
    for part in ("validation", "test"):
        for recording in getattr(parts, part):
            for label in sorted(recording.target.labels.difference(classes)):
                raise ConfigError(
                    f"split.{part}: stream '{recording.stream}' has the label '{label}', which no training stream has "
                    f"({', '.join(classes)}); choose another split"
                )
    return classes
