"""A run from a configuration file."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streamrde.cli.options import Json
from streamrde.cli.pipeline import report
from streamrde.cli.printing import print_json
from streamrde.errors import ConfigError, ParameterError

if TYPE_CHECKING:
    from streamrde.cli.live import View
    from streamrde.cluster.worker import Worker
    from streamrde.config import RunConfig
    from streamrde.inference.bundle import Bundle
    from streamrde.runtime.metrics import Metrics
    from streamrde.runtime.pipeline import Pipeline

logger = logging.getLogger(__name__)


def run(
    config: Annotated[Path, typer.Argument(help="TOML file, such as configs/mqtt.toml.")],
    check: Annotated[
        bool, typer.Option("--check", help="Check configuration, model, ends and state, print the plan, and exit.")
    ] = False,
    wait: Annotated[
        bool,
        typer.Option("--wait/--no-wait", help="Wait at the start for an absent broker, or fail at once."),
    ] = True,
    drain: Annotated[
        bool,
        typer.Option("--drain", help="Work off what shared partitions have now, and end: before `state rehash`."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Show no live view, and log only warnings and errors.")
    ] = False,
    json: Json = False,
) -> None:
    """Carry samples from a source through a model to a sink, until the source ends or Ctrl-C.

    SIGTERM or Ctrl-C ends a live run in order, a second one at once. SIGHUP reloads the model file. On a terminal ten
    lines show how it goes, unless the log is JSON.

    Example: `streamrde run configs/mqtt.toml`
    """
    from streamrde.cluster.naming import only_topic
    from streamrde.config import KafkaStateConfig, RunConfig
    from streamrde.disk import read_toml
    from streamrde.inference.bundle import load
    from streamrde.runtime.logs import logs_to_stderr

    settings = read_toml(config, RunConfig)
    bundle = load(settings.model)
    try:
        settings.check()
        if check:
            _show(*asyncio.run(_checked(settings, bundle, f"{config}")), settings.notes(), json)
            return
        if drain and (not isinstance(settings.state, KafkaStateConfig) or only_topic(settings.source) is None):
            raise ConfigError('--drain is for a run with [state] kind = "kafka" that reads one topic')
        if not wait:
            settings = settings.without_waiting()
        level, form = settings.service.log_level, settings.service.log_format
        if quiet and level != "error":
            level = "warning"
        view = None if quiet or form == "json" else _view(config.name)
        with logs_to_stderr(level=level, format=form, handler=None if view is None else view.log):
            metrics = asyncio.run(_serve(settings, bundle, view, drain=drain))
    except (ConfigError, ParameterError) as error:
        raise ConfigError(f"{config}: {error}") from None
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    report(metrics, json, "done")


def _view(title: str) -> View | None:
    """Return a view of the run if standard error is a terminal that can move its cursor."""
    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    from streamrde.cli.live import View

    console = Console(stderr=True)
    return View(console, title) if console.is_terminal and not console.is_dumb_terminal else None


def _show(lines: dict[str, str], warnings: list[str], notes: list[str], json: bool) -> None:
    if json:
        print_json({**lines, "warnings": warnings, "notes": notes})
        return
    beside = [*(("warning", text) for text in warnings), *(("note", text) for text in notes)]
    print("\n".join(f"{name:12} {text}" for name, text in [*lines.items(), *beside]))


async def _serve(settings: RunConfig, bundle: Bundle, view: View | None, *, drain: bool) -> Metrics:
    from streamrde.config import KafkaStateConfig
    from streamrde.page import Page
    from streamrde.runtime.recent import Recent
    from streamrde.runtime.service import serve

    for text in settings.warnings():
        logger.warning("%s", text)
    hooks: dict[str, Any] = {} if view is None else {"on_predictions": view.predicted}
    recent = Recent(len(bundle.header.channels)) if settings.service.page and settings.source.live else None
    hooks["recent"] = recent
    pipeline: Pipeline | Worker
    if isinstance(settings.state, KafkaStateConfig):
        pipeline = settings.worker(bundle, until_end=drain, **hooks)
    else:
        pipeline = settings.build(bundle, **hooks)
    try:
        async with nullcontext() if view is None else view.following(pipeline):
            if not settings.source.live:
                return await pipeline.run()
            page = None
            if recent is not None:
                channels = [(channel.name, channel.unit) for channel in bundle.header.channels]
                title = bundle.header.description
                page = Page(pipeline, recent, access=settings.service.access(), channels=channels, title=title)
            model, options = Path(settings.model), settings.service.options()
            return await serve(pipeline, model=model, options=options, identity=settings.identity, page=page)
    finally:
        pipeline.close()


async def _checked(settings: RunConfig, bundle: Bundle, config: str) -> tuple[dict[str, str], list[str]]:
    """Reach every part of a run. Return what each would do, and what may go wrong. Raise what would stop the run."""
    from streamrde.cluster.describing import describe
    from streamrde.cluster.naming import only_topic, place_of_run
    from streamrde.config import StateConfig
    from streamrde.config.run import outline_of

    warnings = settings.warnings()
    header, model = bundle.header, settings.outline_of(bundle)
    settings.streams.plausible.bounds(header)
    for end in (settings.source, settings.sink):
        end.build(model)
    found = {
        "model": f"{settings.model}: {len(header.channels)} channels, depth {header.depth}, {bundle.fingerprint[:12]}",
        "source": await settings.source.probe(),
        "sink": await settings.sink.probe(),
        "state": "none: it dies with the process",
        "dead letters": "none: messages that cannot be read are counted",
        "health": "no port",
    }
    if settings.dead_letters is not None:
        settings.dead_letters.build()
        found["dead letters"] = await settings.dead_letters.probe()
    if settings.labels is not None and settings.labels.source is not None:
        settings.labels.build(outline_of(bundle), header)
        found["labels"] = await settings.labels.source.probe()
    if isinstance(state := settings.state, StateConfig):
        inflight = settings.inflight
        policy = state.policy(inflight)
        known = "a new store"
        if Path(state.path).exists():
            store = state.open(settings.identity(bundle.fingerprint), settings.replaced(bundle), keep=True)
            known = f"{len(store):,} streams"
            store.close()
        found["state"] = (
            f"{state.path}: {known}; saved every {policy.seconds:g} s or {policy.messages} messages, "
            f"half of the {inflight} that the broker sends ahead"
        )
    elif state is not None:
        found["state"] = (
            f"a changelog in Kafka: saved every {state.checkpoint_seconds:g} s or {state.checkpoint_messages:,} "
            "messages of a partition, with the predictions and positions"
        )
        if only_topic(settings.source) is None:
            found["changelog"] = "one for each topic that fits"
        else:
            place = place_of_run(settings.source, state, config=config)
            described = await asyncio.to_thread(describe, place)
            found |= described.lines
            warnings += described.warnings
    if (port := settings.service.port) is not None:
        found["health"] = f"http://{settings.service.host}:{port}/healthz, /readyz, /status, /metrics"
        if settings.service.page:
            settings.service.access()
            found["page"] = f"http://{settings.service.host}:{port}/"
    return found, warnings
