"""Statistics of the training streams for models that were trained without."""

from __future__ import annotations

import msgspec

from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.statistics import stream_statistics
from streamrde.models.training.config import ConfigSource, resolve_config
from streamrde.models.training.streams import read_parts


def add_statistics(bundle: Bundle, config: ConfigSource) -> Bundle:
    """Give a trained model the statistics of its training streams, which change neither weights nor predictions.

    Serving judges the units of times, silences and values of live streams by them. The fingerprint stays, and snapshots
    of streams remain good.

    Args:
        bundle: the model.
        config: a training configuration, as of `train`, whose training streams are taken.
    Raises:
        ConfigError: the configuration has other channels than the model.
        DataError: as `train`.
    """
    config = resolve_config(config)
    names = [channel.name for channel in config.data.channels]
    own = [channel.name for channel in bundle.header.channels]
    if names != own:
        raise ConfigError(f"data.channels {names} are not the model's, {own}: give the configuration it was trained by")
    train = read_parts(config).train
    found = stream_statistics([r.t for r in train], [r.x for r in train], bundle.header.partition)
    return Bundle(msgspec.structs.replace(bundle.header, statistics=found), bundle.tensors)
