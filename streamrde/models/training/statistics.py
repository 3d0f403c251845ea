"""Add statistics of the training streams to models that were trained without."""

from __future__ import annotations

import msgspec

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.statistics import stream_statistics
from streamrde.models.training.config import ConfigSource, resolve_config
from streamrde.models.training.splits import Split
from streamrde.models.training.streams import read_parts


def add_statistics(bundle: Bundle, config: ConfigSource) -> Bundle:
    """Add the statistics of its training streams to a trained model. Weights and predictions stay the same.

    Serving judges units of time, silences and values of live streams by them. The fingerprint stays, and snapshots
    remain valid.

    Args:
        bundle: the model.
        config: the training configuration. Its training streams are used.
    Raises:
        ConfigError, DataError: see `read_parts_of`.
    """
    parts = read_parts_of(bundle, config)
    found = stream_statistics([r.t for r in parts.train], [r.x for r in parts.train], bundle.header.partition)
    return Bundle(msgspec.structs.replace(bundle.header, statistics=found), bundle.tensors)


def read_parts_of(bundle: Bundle, config: ConfigSource) -> Split:
    """Read the streams that a model was trained on.

    Raises:
        ConfigError: the configuration has other channels than the model.
        DataError: as `train`.
    """
    config = resolve_config(config)
    names = [channel.name for channel in config.data.channels]
    own = [channel.name for channel in bundle.header.channels]
    if names != own:
        raise ConfigError(f"data.channels {names} are not the model's, {own}: use the configuration of its training")
    return read_parts(config)
