"""A run from a configuration file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streamrde.cli.options import Json
from streamrde.cli.pipeline import carry, report
from streamrde.errors import ConfigError, ParameterError


def run(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/mqtt.toml.")],
    json: Json = False,
) -> None:
    """Carry samples from a source through a model to a sink, until the source ends or Ctrl-C.

    Example: `streamrde run configs/mqtt.toml`
    """
    from streamrde.config import ArrowSourceConfig, RunConfig
    from streamrde.disk import read_toml
    from streamrde.inference.bundle import load
    from streamrde.inference.fleet import Fleet

    settings = read_toml(config, RunConfig)
    bundle = load(settings.model)
    live = not isinstance(settings.source, ArrowSourceConfig)
    try:
        source, sink = settings.source.build(bundle.header), settings.sink.build(bundle)
    except (ConfigError, ParameterError) as error:
        raise ConfigError(f"{config}: {error}") from None
    metrics = carry(source, Fleet(bundle, faults=settings.faults), sink, flush=settings.flush, live=live)
    report(metrics, json, "done")
