"""A run that stays up: signals, health, metrics, and a model that changes without a restart."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from streamrde.connectors.ends import ConnectionCounts
from streamrde.errors import BundleError
from streamrde.inference.bundle import Bundle, load
from streamrde.runtime.exposition import Exposition
from streamrde.runtime.health import HealthServer, Pages
from streamrde.runtime.metrics import Metrics
from streamrde.runtime.partitions import GroupMetrics
from streamrde.runtime.pipeline import Pipeline
from streamrde.runtime.supervision import Supervision

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


class Served(Protocol):
    """Run as a service: a pipeline, or a worker of a cluster with one for each of its partitions."""

    metrics: Metrics
    started: bool
    """Both ends are connected, so that there is work to be done in order at the end."""

    @property
    def connections(self) -> dict[str, ConnectionCounts]:
        """The connections of the ends that have one."""

    @property
    def waiting(self) -> int | None:
        """The messages that have arrived and were not taken yet, or None if that is not known."""

    @property
    def pipelines(self) -> list[Pipeline]:
        """The pipelines that run now: itself, or one for each partition."""

    @property
    def group(self) -> GroupMetrics | None:
        """The partitions that it shares with others, or None if it shares none."""

    @property
    def fingerprints(self) -> tuple[str, str]:
        """Fingerprints of the model, and of its windows' p-values ("" if these are not computed)."""

    async def run(self) -> Metrics:
        """Run until the source ends or `stop` is called."""

    def stop(self, *, patience: float | None = None) -> None:
        """End in order."""

    async def swap(self, bundle: Bundle, identity: dict[str, str] | None = None) -> None:
        """Continue with another model.

        Raises:
            BundleError: it cannot continue the streams; the model stays.
        """

    def count(self) -> None:
        """Bring `metrics` up to date."""

    def obstacles(self) -> list[str]:
        """List the obstacles that now keep samples from becoming predictions."""

    def status(self) -> dict[str, Any]:
        """Return what /status shows."""


async def serve(
    pipeline: Served,
    *,
    model: Path,
    options: ServiceOptions,
    identity: Callable[[str], dict[str, str]],
    page: Pages | None = None,
) -> Metrics:
    """Run a pipeline until SIGTERM or Ctrl-C. SIGHUP reloads the model file.

    The first signal ends the run in order: no more is read, what has arrived is worked off, the state saved, the input
    acknowledged. A second one, or the end of `drain`, breaks it off; what was not saved then comes again. Before both
    ends are connected there is nothing to work off, and the first signal ends it.

    Args:
        model: the file that `pipeline` has its model from.
        identity: what the state store belongs to, by the model's fingerprint.
        page: the live page, on the port of `options`.
    Raises:
        StreamRDEError: as Pipeline.run.
    """
    async with AsyncExitStack() as stack:
        if options.port is not None:
            server = await stack.enter_async_context(server_of(pipeline, options.host, options.port, page))
            what = "health and metrics" if page is None else "page, health and metrics"
            logger.info("%s on http://%s:%d", what, server.host, server.port)
        await stack.enter_async_context(Supervision(pipeline.obstacles))
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


def server_of(run: Served, host: str, port: int, page: Pages | None = None) -> HealthServer:
    """Return the server of a run's health, metrics and page, which is still to be entered."""
    exposition = Exposition(
        run.metrics,
        refresh=run.count,
        connections=run.connections,
        waiting=lambda: run.waiting,
        group=run.group,
    )
    return HealthServer(
        obstacles=run.obstacles, metrics=exposition.text, status=run.status, page=page, host=host, port=port
    )


def _handle_signals(
    pipeline: Served,
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
    pipeline: Served,
    path: Path,
    identity: Callable[[str], dict[str, str]],
    reload: asyncio.Event,
    *,
    watch: bool,
) -> None:
    """Take on the model file whenever asked to, or when it changes."""
    seen, fingerprint = _signature(path), pipeline.fingerprints[0]
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
            novelty = pipeline.fingerprints[1]
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
