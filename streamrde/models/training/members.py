"""Train a model, or each member of an ensemble, from its first weights to its best ones."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
import torch
from rich.console import Console

from streamrde.arrays import Ints
from streamrde.inference.ensemble import join
from streamrde.models.neural_rde import NeuralRDE
from streamrde.models.saving import to_bundle
from streamrde.models.training.batches import draw_streams
from streamrde.models.training.checkpoint import Checkpoint, identity_of
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import Examples, Variation, prepare
from streamrde.models.training.history import History
from streamrde.models.training.initialisation import carries_sample, carry_average, carry_sample, shrink_field
from streamrde.models.training.losses import Objective
from streamrde.models.training.optimisation import optimise
from streamrde.models.training.preparation import Prepared, usual_window
from streamrde.models.training.shrinkage import shrink
from streamrde.models.training.splits import Split
from streamrde.tables import say


def fit_members(
    config: TrainConfig, parts: Split, data: Prepared, *, device: torch.device, console: Console, resume: bool
) -> tuple[NeuralRDE, tuple[History, ...]]:
    """Train the members one after the other, and join them to one model. Ctrl-C joins those trained so far."""
    models: list[NeuralRDE] = []
    histories: list[History] = []
    members = config.training.members
    header = config.header(data.fills, data.classes, data.target_at)
    if config.training.start == "sample" and header.field.plain_activations and not carries_sample(header):
        say(
            console,
            "note: the state starts at random, not from the current sample, since token.scales does not begin with 1",
        )
    if header.field.begins_blank and not header.token.ends:
        say(console, "note: a stack sees how the path moves, not where it is; token.ends = true tells it")
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
    """Return the configuration of a member: the ensemble's, with a seed and a checkpoint of its own."""
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
    data: Prepared,
    *,
    name: str,
    device: torch.device,
    console: Console,
    resume: bool,
) -> tuple[NeuralRDE, History]:
    model = first_model(config, data)
    model.to(device)
    objective = Objective(config.training, model.header, data.examples["train"], device=device)

    training, groups = config.training, {recording.stream: recording.group for recording in parts.train}

    def drawn(streams: Iterable[str], rng: np.random.Generator) -> Ints:
        of = [groups[stream] for stream in streams]
        return draw_streams(of, count=training.draw, balance=training.balance == "groups", rng=rng)

    def variants(epoch: int) -> Examples:
        examples, some = data.examples["train"], training.draw > 0 or training.balance == "groups"
        # Seeded by epoch: an epoch's streams and variants do not depend on what was drawn before.
        rng = np.random.default_rng((training.seed, epoch))
        if not config.augment.active:
            return examples[drawn(examples.streams, rng)] if some else examples
        chosen = parts.train
        if some:
            chosen = [parts.train[i] for i in drawn([recording.stream for recording in parts.train], rng)]
        variation = Variation(rng, data.deviation)
        return prepare(chosen, config, fills=data.fills, classes=data.classes, variation=variation)

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
    if training.shrink == "validation" and config.data.task == "regression" and (own := data.examples["validation"]):
        group_of = {recording.stream: recording.group for recording in parts.validation}
        shares = shrink(model, own, [group_of[e.stream] for e in own], objective, batch_size=training.batch_size)
        texts = (f"{target} {share:.2f}" for target, share in zip(config.data.targets, shares, strict=True))
        say(console, f"distances from the mean are multiplied by what suits the validation streams: {', '.join(texts)}")
    return model, history


def _checkpoint(config: TrainConfig, data: Prepared) -> Checkpoint | None:
    training = config.training
    if not training.checkpoint:
        return None
    identity = identity_of(config, data.examples)
    return Checkpoint(training.checkpoint, seconds=training.checkpoint_seconds, identity=identity)


_DECAY = 0.1
"""Value from which the optimiser changes decay. It should take many of its steps of some 1e-3, but not too many."""


def first_model(config: TrainConfig, data: Prepared) -> NeuralRDE:
    """Make the model that training starts from."""
    header = config.header(data.fills, data.classes, data.target_at)
    rate = config.model.decay / usual_window(config, data.examples["train"]) if config.model.decay else 0.0
    model = NeuralRDE.from_header(header, decay=rate)
    model.set_scaling(data.scaling)
    if rate:
        model.rescale_decay(_DECAY / rate)
    shrink_field(model, config.training.field_gain)
    if config.training.start != "random" and carries_sample(header):
        carry_sample(model)
    if config.training.start == "average":
        carry_average(model, float(np.mean([example.ends[-1] for example in data.examples["train"]])))
    return model
