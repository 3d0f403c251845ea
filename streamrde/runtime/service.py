"""A run that stays up: signals, health, metrics, and a model that changes without a restart."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamrde.errors import BundleError
from streamrde.inference.bundle import load
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.health import HealthServer
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.pipeline import Pipeline

logger = logging.getLogger(__name__)
_LOOK_EVERY = 1.0


@dataclass(frozen=True)
class ServiceOptions:
    """Options of a service beside its pipeline.

    Args:
        port: of /healthz, /readyz, /status and /metrics; None: none is opened.
        host: it listens on.
        drain: seconds that SIGTERM or Ctrl-C leaves for working off what has arrived and saving it.
        watch: take on the model file when it changes, not only on SIGHUP.
    """

    port: int | None = None
    host: str = "127.0.0.1"
    drain: float = 30.0
    watch: bool = False


async def serve(
    pipeline: Pipeline,
    *,
    model: Path,
    options: ServiceOptions,
    identity: Callable[[str], dict[str, str]],
) -> Metrics:
    """Run a pipeline until SIGTERM or Ctrl-C. SIGHUP reloads the model file.

    The first signal ends the run in order: no more is read, what has arrived is worked off, the state saved, the input
    acknowledged. A second one, or the end of `drain`, breaks it off; what was not saved then comes again. Before both
    ends are connected there is nothing to work off, and the first signal ends it.

    Args:
        model: the file that `pipeline` has its model from.
        identity: what the state store belongs to, by the model's fingerprint.
    Raises:
        StreamRDEError: as Pipeline.run.
    """
    exposition = Exposition(
        pipeline.metrics,
        refresh=pipeline.count,
        connections=pipeline.connections,
        waiting=lambda: pipeline.source.waiting,
    )
    async with AsyncExitStack() as stack:
        if options.port is not None:
            server = HealthServer(
                obstacles=lambda: obstacles(pipeline),
                metrics=exposition.text,
                status=lambda: status(pipeline),
                host=options.host,
                port=options.port,
            )
            await stack.enter_async_context(server)
            logger.info("health and metrics on http://%s:%d", server.host, server.port)
        running = asyncio.create_task(pipeline.run())
        given_up = asyncio.Event()
        reload = asyncio.Event()
        watching = asyncio.create_task(_swap_models(pipeline, model, identity, reload, watch=options.watch))
        _handle_signals(pipeline, running, reload, given_up, options.drain)
        try:
            return await running
        except asyncio.CancelledError:
            # Nothing was begun that could be left undone.
            if given_up.is_set():
                return pipeline.metrics
            raise
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


def obstacles(pipeline: Pipeline) -> list[str]:
    """List the obstacles that now keep samples from becoming predictions."""
    found = [] if pipeline.started else ["starting"]
    for end, connection in pipeline.connections.items():
        if connection.waiting:
            found.append(f"waiting for the {end}'s broker")
        if pipeline.started and not connection.connected:
            found.append(f"the {end}'s broker is away")
    if 0 < pipeline.metrics.streams <= pipeline.metrics.suspects:
        found.append("no stream has times that can be right")
    if pipeline.metrics.store_full:
        found.append("the state store's disk is full")
    return found


def status(pipeline: Pipeline) -> dict[str, Any]:
    """Return what keeps the run from working, and which streams went wrong, the latest first."""
    pipeline.count()
    metrics, in_the_way = pipeline.metrics, obstacles(pipeline)
    return {
        "ready": not in_the_way,
        "obstacles": in_the_way,
        "streams": metrics.streams,
        "rows": metrics.counts._asdict(),
        "troubles": metrics.troubles,
        "implausible": metrics.implausible,
        "latest": pipeline.troubles.status(),
    }


def _handle_signals(
    pipeline: Pipeline,
    running: asyncio.Task[Metrics],
    reload: asyncio.Event,
    given_up: asyncio.Event,
    drain: float,
) -> None:
    loop = asyncio.get_running_loop()
    ending: list[asyncio.TimerHandle] = []

    def end() -> None:
        if not pipeline.started and not given_up.is_set():
            logger.info("ended before both ends were connected")
            given_up.set()
            running.cancel()
            return
        if ending or not pipeline.started:
            running.cancel()
            return
        logger.info("ending: working off what has arrived")
        pipeline.stop(patience=drain / 2)
        ending.append(loop.call_later(drain, running.cancel))

    for name in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows has no signal handlers in event loops
            loop.add_signal_handler(name, end)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, reload.set)

    def ended(_: asyncio.Task[Metrics]) -> None:
        for timer in ending:
            timer.cancel()

    running.add_done_callback(ended)


async def _swap_models(
    pipeline: Pipeline,
    path: Path,
    identity: Callable[[str], dict[str, str]],
    reload: asyncio.Event,
    *,
    watch: bool,
) -> None:
    """Take on the model file whenever asked to, or when it changes."""
    seen, fingerprint = _signature(path), pipeline.fleet.fingerprint
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY):
                await reload.wait()
        if not reload.is_set() and (not watch or _signature(path) == seen):
            continue
        reload.clear()
        seen = _signature(path)
        try:
            bundle = await asyncio.to_thread(load, path)
            novelty = pipeline.fleet.novelty_fingerprint
            if bundle.fingerprint == fingerprint and novelty in ("", bundle.novelty_fingerprint):
                logger.info("the model file %s is the model that runs", path)
                continue
            await pipeline.swap(bundle, identity(bundle.fingerprint))
        except BundleError as error:
            logger.error("the model stays: %s", error)
        else:
            logger.info("went on with model %s in place of %s", bundle.fingerprint[:12], fingerprint[:12])
            fingerprint = bundle.fingerprint


def _signature(path: Path) -> tuple[int, int, int] | None:
    """Return a signature that changes when a file is replaced or written to."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
