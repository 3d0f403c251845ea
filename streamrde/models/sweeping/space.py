"""Choose what a sweep tries: combinations of values of configuration keys."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from streamrde.errors import ConfigError
from streamrde.models.training.config import SweepConfig, TrainConfig, as_train_config
from streamrde.signature.words import logsignature_channels
from streamrde.toml import value

# With more features than this the field's last layer dwarfs everything else.
_MOST_FEATURES = 1000
# Each rung trains this many times as long as the one below, with a share of the trials smaller by this factor.
RATIO = 3
# Trials kept in any rung, so that the last one has a choice.
_FEWEST = 3

# Tables that must be the same in all trials, or they could not be compared.
_FIXED = ("split", "sweep", "output")


class Trial(NamedTuple):
    """One combination of values."""

    number: int
    """Counts from 1."""
    values: dict[str, Any]
    """Values of the swept keys, by dotted key."""
    config: TrainConfig
    """The configuration with these values. It writes nothing and has no test part."""


def trials(config: TrainConfig) -> tuple[list[Trial], list[str]]:
    """Return the trials of a sweep in running order, and the reasons for combinations that were left out.

    They are all combinations of the values, or `sweep.trials` of them drawn at random without repetition.

    Raises:
        ConfigError: a key cannot be swept or is unknown, has no values, or no combination can be trained.
    """
    sweep = config.sweep
    over = flattened(sweep.over) or default_space(config)
    for key, values in over.items():
        if not values:
            raise ConfigError(f"sweep.over: '{key}' has no values; list at least one")
        if key.split(".")[0] in _FIXED or key in ("training.seed", "training.monitor", "training.epochs"):
            raise ConfigError(
                f"sweep.over: '{key}' must be the same in all trials, or they could not be compared; leave it out"
            )
    sizes = [len(values) for values in over.values()]
    total = math.prod(sizes)
    places = np.arange(total)
    if sweep.trials and total > sweep.trials:
        # choice() does not permute them all: a space may have any number of combinations.
        places = np.sort(np.random.default_rng(sweep.seed).choice(total, sweep.trials, replace=False))
    tables = base_tables(config)
    found, left_out = [], []
    for number, place in enumerate(places.tolist(), 1):
        chosen = dict(zip(over, np.unravel_index(place, sizes), strict=True))
        combined = {key: over[key][int(i)] for key, i in chosen.items()}
        try:
            found.append(Trial(number, combined, with_values(tables, combined)))
        except ConfigError as error:
            left_out.append(f"{on_one_line(combined)}: {error}")
    if not found:
        raise ConfigError(f"sweep: none of the {len(left_out)} combinations can be trained; {left_out[0]}")
    return found, left_out


def with_values(tables: Mapping[str, Any], values: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration with some keys changed."""
    return as_train_config(tables, [f"{key}={value(item)}" for key, item in values.items()])


def all_tables(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as tables with every key that has a value, without [sweep]."""
    tables: dict[str, Any] = _without_none(msgspec.to_builtins(config))
    tables.pop("sweep")
    return tables


def base_tables(config: TrainConfig) -> dict[str, Any]:
    """Return `all_tables` of a configuration that writes nothing."""
    return all_tables(config) | {"output": {"seconds": list(config.output.seconds)}}


def flattened(tables: Mapping[str, Any], prefix: str = "") -> dict[str, list[Any]]:
    """Return the lists in nested tables by their dotted keys.

    Raises:
        ConfigError: something is neither a table nor a list.
    """
    found: dict[str, list[Any]] = {}
    for name, item in tables.items():
        key = f"{prefix}{name}"
        if isinstance(item, Mapping):
            found |= flattened(item, f"{key}.")
        elif isinstance(item, (list, tuple)):
            found[key] = list(item)
        else:
            raise ConfigError(f"sweep.over: '{key}' is {item!r}; list its values, as [{value(item)}]")
    return found


def default_space(config: TrainConfig) -> dict[str, list[Any]]:
    """Choose values around the configuration's own window length, depth, sizes and solver."""
    windows, model, found = config.windows, config.model, dict[str, list[Any]]()
    tried = [other for factor in (0.5, 1.0, 2.0) if (other := windows.scaled(factor)) is not None]
    if tried:
        found[f"windows.{windows.extent}"] = sorted({getattr(other, windows.extent) for other in tried})
    channels = config.partition([0.0] * len(config.data.channels)).path_channels
    deepest = min(3, model.field.most_depth or 3)
    depths = [d for d in range(1, deepest + 1) if logsignature_channels(channels, d) <= _MOST_FEATURES]
    found["model.depth"] = sorted({*depths, model.depth})
    if model.field.state_size is None:
        found["model.hidden"] = [model.state_size, 2 * model.state_size]
    for name in model.field.sweeps:
        size = getattr(model.field, name)
        found[f"model.field.{name}"] = [size, 2 * size]
    if not model.field.exact:
        found["model.solver"] = ["euler", "midpoint"]
    return found


class Rung(NamedTuple):
    """A round of a sweep."""

    epochs: int
    trials: int
    """Number of trials that take part, the best so far."""


def ladder(sweep: SweepConfig, count: int, epochs: int) -> list[Rung]:
    """Plan successive halving: all trials for a part of the epochs, then the best third for three times as many, ...

    Every trial of a rung is trained from scratch, since the schedule of the learning rate depends on its epochs.

    Args:
        count: number of trials.
        epochs: epochs of the last rung.
    Reference: Jamieson & Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".
    """
    rungs = []
    for height in range(sweep.rungs):
        share, divisor = RATIO ** (sweep.rungs - 1 - height), RATIO**height
        kept = max(min(_FEWEST, count), math.ceil(count / divisor))
        rungs.append(Rung(max(1, math.ceil(epochs / share)), kept))
    # With few epochs, rungs that would train equally long are joined.
    return [
        rung for rung, above in zip(rungs, [*rungs[1:], None], strict=True) if not above or above.epochs > rung.epochs
    ]


def on_one_line(values: Mapping[str, Any]) -> str:
    """Write values on one line."""
    return ", ".join(f"{key}={value(item)}" for key, item in values.items())


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Return a heading for each key: its last part, or the whole key if two share that part."""
    ends = [key.rsplit(".", 1)[-1] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def _without_none(item: Any) -> Any:
    if isinstance(item, dict):
        return {key: _without_none(inner) for key, inner in item.items() if inner is not None}
    return [_without_none(inner) for inner in item] if isinstance(item, list) else item
