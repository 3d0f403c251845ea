"""Fit models to data that do not fit in memory: choose on a sample of streams, then learn the readout from all.

The first pass (see survey) finds each stream's target and group. Whole groups, drawn by the hash of their names, make a
sample that fits: scales, features and baselines are chosen on it, as on any data. A second pass over all rows keeps the
state of open streams only. When a stream has ended, its features go into sums of normal equations, a sum for each fold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import msgspec
import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Reals
from streamrde.errors import DataError
from streamrde.features.spec import RIVALS, FeatureSpec
from streamrde.fitting.inputs import DataConfig
from streamrde.fitting.measuring import measures
from streamrde.fitting.memory import STREAM_BYTES, rows_bytes
from streamrde.fitting.pooled import readout_tensors
from streamrde.fitting.progress import Progress, ignore
from streamrde.fitting.readout import losses_of
from streamrde.fitting.recipe import Fitted
from streamrde.fitting.recordings import Recording
from streamrde.fitting.splitting import marks_of
from streamrde.fitting.summing import Sums, alike, fold_of, solve, sum_features
from streamrde.fitting.survey import Survey, size_of, survey
from streamrde.fitting.trial import measures_of_test
from streamrde.fitting.weights import ClassWeights, factors, weighted
from streamrde.inference.bundle import Bundle
from streamrde.inference.fields.reservoir import Reservoir
from streamrde.windowing.tokens import Places

MOST_STREAMS = 10_000
"""Streams up to which everything is done in memory. For more of them, comparing models would take many minutes."""
SAMPLE_STREAMS = 1500
"""Streams of a sample, at most: enough to choose a model, and few enough to do it in a minute."""
MOST_FEATURES = 2048
"""Features of a stream, at most: time grows with their square."""
_CLASS_GROUPS = 10
"""Groups of each class in the sample, at least, where there are as many."""

Say: TypeAlias = Callable[[str], None]


@dataclass(eq=False)
class LargeData:
    """Data that do not fit in memory, and the sample on which a model is chosen."""

    config: DataConfig
    survey: Survey
    chosen: Bools
    """Marks the streams of the sample."""
    memory: int
    """Bytes that may be used."""
    test: Bools
    """Marks the streams that are only measured."""
    folds: Indices
    """Number of the fold of each stream."""

    @property
    def sample(self) -> frozenset[str]:
        """Return the names of the sample's streams."""
        return frozenset(name for name, own in zip(self.survey.names, self.chosen.tolist(), strict=True) if own)

    def refit(
        self,
        fitted: Fitted,
        *,
        test: Sequence[Recording] = (),
        class_weights: ClassWeights = "equal",
        progress: Progress = ignore,
        say: Say = lambda text: None,
    ) -> Fitted:
        """Fit the readout of a model that was fitted to the sample to all streams.

        Measures are those of the sample's streams, each by the readout without its fold. If it is no better there than
        the sample's own readout, or Ctrl-C comes first, the model stays as it was.

        Args:
            fitted: the model of the sample.
            test: streams of the sample that are only measured.
            class_weights: see `weights.factors`.
            progress: receives a stage of rows.
            say: receives what became of it.
        Raises:
            DataError: a stream has two targets.
        """
        header = fitted.bundle.header
        known = without(self.survey, self.test)
        if header.target_at != "stream" or not header.field.in_rows:
            why = (
                "targets change along the streams" if header.target_at != "stream" else "its readout is no sum of rows"
            )
            say(
                f"the model has learned from the sample of {len(fitted.examples.recordings):,} streams alone: {why}; "
                "give more memory to learn from more of them"
            )
            return fitted
        if known.varied:
            raise DataError(known.varied, path=str(self.config.files), column=", ".join(self.config.targets))
        if known.classes and header.labels != known.classes:
            raise DataError(
                f"the sample has the classes {list(header.labels)}, and all data {list(known.classes)}: give more "
                "memory",
                path=str(self.config.files),
                column=self.config.targets[0],
            )
        # Of the sums for all folds and three copies of one, in half of the memory.
        sets = 1 if known.classes else len(alike(known))
        most = int(np.sqrt(self.memory / 2 / 8 / (sets * (int(self.folds.max()) + 1) + 3)))
        bundle = slimmed(fitted.bundle, min(MOST_FEATURES, most))
        if (size := bundle.header.field.readout_inputs(bundle.header)) > most:
            say(f"the sums of {size:,} features do not fit in memory: the readout of the sample stays")
            return fitted
        counts = np.bincount(known.codes[known.usable], minlength=len(known.classes))
        weights = factors(class_weights, known.classes, counts) if known.classes else None
        try:
            sums = sum_features(
                self.config, known, bundle, self.chosen, memory=self.memory, folds=self.folds, weights=weights,
                progress=progress,
            )  # fmt: skip
        except KeyboardInterrupt:
            say("interrupted: the readout of the sample stays")
            return fitted._replace(stopped="interrupt")
        linear, answers = solve(sums, len(known.classes))
        bundle = Bundle(bundle.header, {**bundle.tensors, **readout_tensors(linear)})
        better = self._better(fitted, bundle, sums, answers, say)
        if test and better is not fitted:
            better = better._replace(measures=better.measures | measures_of_test(fitted.examples, bundle, test))
        return better

    def _better(self, fitted: Fitted, bundle: Bundle, sums: Sums, answers: Floats, say: Say) -> Fitted:
        """Return what was fitted with a readout of all streams, if its answers to the sample are better."""
        examples = fitted.examples
        row = np.full(len(self.survey.rows), -1, np.intp)
        row[sums.kept_streams] = np.arange(len(answers))
        rows = row[[self.survey.names[recording.stream] for recording in examples.recordings]]
        held_out = np.where((rows >= 0)[:, None], answers[rows], fitted.chosen.held_out)
        losses = losses_of(examples.truth, held_out, len(examples.labels))
        streams = f"{sums.streams:,} streams"
        weights = examples.weights
        if not weighted(losses, weights).mean() < weighted(fitted.chosen.losses, weights).mean():
            say(f"the readout of {streams} is no better than that of the sample, which stays")
            return fitted
        found = measures(examples.truth, held_out, len(examples.labels), targets=examples.targets)
        main = "accuracy" if examples.labels else "rmse"
        say(f"the readout has learned from all {streams}: {main} {found[main]:.4g}")
        name = f"{fitted.choice}, all streams"
        return fitted._replace(
            bundle=bundle,
            measures={**fitted.measures, **found},
            table={name: found, **fitted.table},
            chosen=fitted.chosen._replace(held_out=held_out, losses=losses, bundle=lambda: bundle, without=None),
        )


def find_large(
    config: DataConfig,
    *,
    group: str = "",
    split: str = "",
    memory: int,
    seed: int = 0,
    most_streams: int = MOST_STREAMS,
    say: Say = lambda text: None,
) -> LargeData | None:
    """Return None if a data set fits in memory, or else a sample of it and what is known of all its streams.

    Args:
        config: files and columns.
        group: column of what is kept together.
        split: column that marks a test part, or folds. "": there is none.
        memory: bytes that may be used.
        seed: draws the sample.
        most_streams: above this number, data are large whatever their bytes.
        say: receives what was found.
    Raises:
        DataError: a file cannot be read; fewer than two groups fit in memory.
    """
    size = size_of(config)
    columns = len(config.channels) + len(config.targets) + 2
    raw = rows_bytes(size.rows, columns)
    if raw + size.rows // 2 * STREAM_BYTES <= memory and size.rows // 2 <= most_streams:
        return None
    known = survey(config, group=group, split=split, seed=seed)
    own = known.usable
    count, rows = int(own.sum()), int(known.rows[own].sum())
    if rows_bytes(rows, columns) + count * STREAM_BYTES <= memory and count <= most_streams:
        return None
    test, folds = find_parts(known)
    classes = [(known.codes == code) & ~test for code in range(len(known.classes))]
    chosen = draw_sample(known, columns, memory, [*classes, test, *(folds == k for k in np.unique(folds))])
    if len(np.unique(known.group[chosen])) < 2:
        raise DataError(
            f"{config.files}: {rows:,} rows of {len(np.unique(known.group)):,} groups, and fewer than two groups fit "
            f"into {memory / 1e9:.3g} GB; give more with memory",
            path=str(config.files),
        )
    say(
        f"{count:,} streams of {rows:,} rows are more than fit into {memory / 1e9:.3g} GB: a sample of "
        f"{int(chosen.sum()):,} streams chooses the model and is compared with plain models"
    )
    return LargeData(config, known, chosen, memory, test, folds)


def without(known: Survey, test: Bools) -> Survey:
    """Return the same without the targets of streams that are only measured, and the classes that no other has."""
    known = replace(known, target=np.where(test[:, None], np.nan, known.target))
    if not known.classes:
        return known
    used, target = np.unique(known.codes[known.usable]), np.full(known.target.shape, np.nan)
    target[known.usable, 0] = np.searchsorted(used, known.codes[known.usable])
    return replace(known, target=target, classes=tuple(known.classes[i] for i in used))


def find_parts(known: Survey) -> tuple[Bools, Indices]:
    """Mark the streams that are only measured, and return the number of each one's fold, (streams,)."""
    if known.split is not None:
        marks = marks_of(known.splits[i] for i in np.unique(known.split[known.usable]))
        if marks.test:
            return np.isin(known.split, [known.splits.index(value) for value in marks.test]), fold_of(known.group)
        if marks.folds:
            number = {value: i for i, value in enumerate(marks.folds)}
            of_split = np.array([number.get(value, 0) for value in known.splits], np.intp)
            return np.zeros(len(known.rows), bool), of_split[known.split]
    return np.zeros(len(known.rows), bool), fold_of(known.group)


def draw_sample(known: Survey, columns: int, memory: int, parts: Sequence[Bools]) -> Bools:
    """Mark the streams of a sample of whole groups: the smallest hashes, and some of each part before others.

    Args:
        known: the data.
        columns: number of columns that are read.
        memory: bytes that the sample may use.
        parts: mark streams of which some are needed, as those of a class.
    """
    own = known.usable
    number = np.full(len(own), -1, np.intp)
    groups, number[own] = np.unique(known.group[own], return_inverse=True)
    sizes = np.bincount(number[own], minlength=len(groups))
    needs = np.bincount(
        number[own], weights=known.rows[own] * rows_bytes(1, columns) + STREAM_BYTES, minlength=len(groups)
    )
    first: Indices = np.empty(0, np.intp)
    for wanted in parts:
        first = np.append(first, np.unique(number[own & wanted])[:_CLASS_GROUPS])
    # Groups are in order of their hashes.
    order = list(dict.fromkeys([*np.unique(first).tolist(), *range(len(groups))]))
    taken, streams, used = np.zeros(len(groups), bool), 0, 0.0
    for i in order:
        if streams + sizes[i] <= SAMPLE_STREAMS and used + needs[i] <= memory:
            taken[i], streams, used = True, streams + int(sizes[i]), used + float(needs[i])
        if streams >= SAMPLE_STREAMS:
            break
    return np.asarray(own & taken[number])


def slimmed(bundle: Bundle, most: int) -> Bundle:
    """Return a reservoir with fewer random directions, so that a stream has about `most` features at the most."""
    header, field = bundle.header, bundle.header.field
    if not isinstance(field, Reservoir) or field.expansion is not None or field.readout_inputs(header) <= most:
        return bundle
    spec, places = field.features, header.partition.places
    # Directions are drawn alike: the first of a block are as good as any.
    counts = _fewer(spec, places, most)
    blocks = tuple(
        msgspec.structs.replace(block, directions=count) for block, count in zip(spec.blocks, counts, strict=True)
    )
    slim = msgspec.structs.replace(field, features=msgspec.structs.replace(spec, blocks=blocks))
    drawn = field.drawn("field", header, bundle.tensors)
    less = drawn._replace(
        weights=tuple(weight[:count] for weight, count in zip(drawn.weights, counts, strict=True)),
        biases=tuple(bias[:count] for bias, count in zip(drawn.biases, counts, strict=True)),
    )
    size = slim.features.size(places)
    header = msgspec.structs.replace(header, field=slim, hidden=slim.features.state_size(places))
    tensors: dict[str, Reals] = {
        name: value for name, value in bundle.tensors.items() if not name.startswith(("field.", "readout."))
    }
    tensors |= slim.tensors("field", less)
    readout = {"readout.weight": np.zeros((header.outputs, size)), "readout.bias": np.zeros(header.outputs)}
    return Bundle(header, {**tensors, **readout})


def _fewer(spec: FeatureSpec, places: Places, most: int) -> list[int]:
    """Return numbers of directions of the blocks with which a stream has `most` features at the most."""
    counts: list[int] = []
    for share in np.geomspace(0.95, 1e-4, 180):
        counts = [max(1, int(share * block.directions)) for block in spec.blocks]
        # Rivals stay together.
        counts = [count - count % RIVALS if count > RIVALS else count for count in counts]
        blocks = tuple(
            msgspec.structs.replace(block, directions=count) for block, count in zip(spec.blocks, counts, strict=True)
        )
        if msgspec.structs.replace(spec, blocks=blocks).size(places) <= most:
            break
    return counts
