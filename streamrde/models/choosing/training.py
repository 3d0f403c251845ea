"""Train a contender on some of the rows, and ask it for its answers to others."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from rich.console import Console

from streamrde.arrays import Bools, Floats, Indices
from streamrde.fitting.examples import Examples, places_of
from streamrde.inference.bundle import Bundle
from streamrde.models.choosing.contenders import Contender
from streamrde.models.saving import to_bundle
from streamrde.models.training.config import TrainConfig
from streamrde.models.training.examples import Example
from streamrde.models.training.examples import Examples as Windows
from streamrde.models.training.measures import predict, state_range
from streamrde.models.training.members import fit_members
from streamrde.models.training.preparation import Prepared, fit_scaling
from streamrde.models.training.splits import Split
from streamrde.windowing.recorded import window_recordings

_DEVICE = torch.device("cpu")
"""These models are small: a GPU would wait for its next step."""


class Material(NamedTuple):
    """The windows of all streams, and the rows of truth among them."""

    examples: Examples
    windows: Windows
    """Episodes of all streams in order, without targets."""
    episode: Indices
    """Stream of each episode."""
    at: Indices
    """Place of each row's window, (n,)."""
    heard: Bools
    """True for rows whose stream has a window, (n,)."""


class Learned(NamedTuple):
    """A trained model, and its answers."""

    bundle: Bundle
    scores: Floats
    """Logits or numbers of the rows that were left out, (n, outputs), NaN for other rows and without a window."""


def gather(examples: Examples, config: TrainConfig) -> Material:
    """Cut the streams into windows."""
    own = examples.recordings
    partition = config.partition(examples.observed[0])
    parts = [p for p in window_recordings([r.t for r in own], [r.x for r in own], partition) if len(p.logsigs)]
    at, stream = places_of(examples, parts), np.array([part.stream for part in parts], np.intp)
    lengths = np.array([len(part.logsigs) for part in parts])
    windows = Windows.join(
        [
            Example(
                own[part.stream].stream,
                np.append(0.0, part.first),
                part.end - part.start[0],
                part.logsigs,
                np.zeros(len(part.logsigs)),
            )
            for part in parts
        ],
        padding=0.0 if partition.token.plain else np.nan,
    )
    heard = np.repeat(stream, lengths)[at] == examples.stream
    return Material(examples, windows, stream, at, heard)


def learn(contender: Contender, material: Material, out: Bools) -> Learned:
    """Train on the rows that are not left out.

    Args:
        out: marks the rows that are left out, (n,).
    Raises:
        KeyboardInterrupt: Ctrl-C.
        ParameterError: the training diverged, or a channel or target never changes.
    """
    examples, known = material.examples, ~out & material.heard
    labels = examples.labels
    windows = _with_targets(material, known)
    train = windows[np.flatnonzero(_any_known(windows))]
    config, fills = contender.config, examples.observed[0]
    taught = [examples.recordings[i] for i in np.unique(examples.stream[known])]
    data = Prepared(
        "window" if examples.along else "stream",
        labels,
        fills,
        np.ones(len(fills)),
        {"train": train, "validation": Windows.join([]), "test": Windows.join([])},
        fit_scaling(config, taught, fills, labels, train),
    )
    console = Console(file=io.StringIO())
    with _one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.training.seed)
        model, histories = fit_members(
            config, Split(taught, [], []), data, device=_DEVICE, console=console, resume=False
        )
    if any(history.interrupted for history in histories):
        raise KeyboardInterrupt
    size = config.training.batch_size
    scores = np.full((len(out), len(labels) or examples.truth.shape[1]), np.nan)
    asked = out & material.heard
    if asked.any():
        place = np.searchsorted(windows.first, material.at, side="right") - 1
        episodes = np.unique(place[asked])
        answers = np.full((len(windows.ends), scores.shape[1]), np.nan)
        held = windows[episodes]
        for first, own in zip(held.first, predict(model, held, batch_size=size, device=_DEVICE), strict=True):
            answers[first : first + len(own)] = own
        scores[asked] = answers[material.at[asked]]
    model.set_range(*state_range(model, train, batch_size=size, device=_DEVICE))
    return Learned(_of_choice(to_bundle(model), contender), scores)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Make torch use one thread: small models are faster, and sums have the same bits on every machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _of_choice(bundle: Bundle, contender: Contender) -> Bundle:
    header = msgspec.structs.replace(bundle.header, description=contender.name)
    return Bundle(header, bundle.tensors)


def _with_targets(material: Material, known: Bools) -> Windows:
    """Return the windows with the truth of the known rows: at a row's window, or in all windows of its stream."""
    examples, windows = material.examples, material.windows
    unknown = np.full(examples.truth.shape, np.nan)
    truth = np.where(known[:, None], examples.truth, unknown)
    if examples.along:
        target = np.full((len(windows.ends), truth.shape[1]), np.nan)
        target[material.at] = truth
    else:
        target = np.repeat(truth[material.episode], windows.lengths, axis=0)
    if examples.labels:
        target = np.where(np.isfinite(target[:, 0]), target[:, 0], -1).astype(np.int64)
    return Windows(
        windows.streams,
        windows.x0,
        windows.first,
        windows.lengths,
        ends=windows.ends,
        logsigs=windows.logsigs,
        target=target,
        padding=windows.padding,
    )


def _any_known(windows: Windows) -> Bools:
    """Return True for each episode with a target."""
    target = windows.target
    known = target >= 0 if target.ndim == 1 else np.isfinite(target).any(axis=1)
    return np.add.reduceat(known, windows.first) > 0
