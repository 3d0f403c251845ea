"""A whole run: what `streamrde run` reads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from streamrde.adapting.trackers import Tracking
from streamrde.config.durations import seconds_of
from streamrde.config.labels import LabelsConfig
from streamrde.config.service import ServiceConfig
from streamrde.config.state import KafkaStateConfig, StateConfig
from streamrde.connectors.columns import ColumnKeys
from streamrde.connectors.registry import SOURCES, AnyDeadLetters, AnySink, AnySource
from streamrde.connectors.sections import ModelOutline, RunSections
from streamrde.connectors.several import SeveralSource
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.predictions import prediction_schema
from streamrde.inference.states import OnRange
from streamrde.inference.table import OnFault
from streamrde.runtime.silence import Silence
from streamrde.runtime.troubles import StreamRules
from streamrde.settings import convert
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.windowing.order import Order

if TYPE_CHECKING:
    from streamrde.cluster.worker import Worker
    from streamrde.connectors.ends import DeadLetters, Sink, Source
    from streamrde.runtime.pipeline import Pipeline
    from streamrde.runtime.recent import Recent
    from streamrde.state import StateStore


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: from a source through a model to a sink."""

    model: str
    """Path of the model file."""
    source: AnySource
    sink: AnySink
    columns: ColumnKeys | None = None
    """Fields of the source's payloads, and how they are read. Its own keys win, and those of its topics."""
    state: StateConfig | KafkaStateConfig | None = None
    """Without it state dies with the process."""
    dead_letters: AnyDeadLetters | None = None
    service: ServiceConfig = ServiceConfig()
    unused: Literal["count", "letters"] = "count"
    """Late, repeated and rejected rows: only count them, or also put them into [dead_letters]."""
    faults: OnFault = "drop"
    """A late, repeated or unusable sample: "drop" counts and skips it, "error" stops the run."""
    time_check: OnTime | Literal["auto"] = "auto"
    """Streams whose times cannot be right: "reject" warns once and skips their rows, "error" stops, "off" skips the
    check. "auto": "reject" for a live source, "error" for recorded files."""
    order: Order = Order()
    """What of samples that come late or twice."""
    streams: StreamRules = StreamRules()
    """Rules for streams that go wrong."""
    silence: Silence = Silence()
    """What of streams from which nothing comes."""
    on_range: OnRange = "mend"
    """A hidden state that is not finite, or out of its range in training: "mend" resets one that is not finite,
    "keep" keeps both, "reset" resets both."""
    step_error: bool = False
    """Estimate the solver's error in every window and put it on the prediction."""
    novelty: bool = False
    """Add to every prediction how far its window lies outside of training, and watch the streams for drift."""
    intervals: Tracking | None = None
    """Intervals of numbers and sets of classes beside the predictions. Without it there are none."""
    labels: LabelsConfig | None = None
    """Labels that come with the samples. Without it the model stays as it is."""
    provisional: str | None = None
    """Publish provisional predictions of the open windows at this interval, such as "200ms"."""
    flush: bool | None = None
    """When the source ends or the run is stopped, close the open windows and publish their predictions. By default
    only without [state]; with it the next run continues the windows."""

    @classmethod
    def prepared(cls, tables: dict[str, Any]) -> dict[str, Any]:
        """Return the tables with the keys of [columns] in those of the source, and its limits in [streams].

        Raises:
            ConfigError: the source has no columns, or limits are in both places.
        """
        if isinstance(state := tables.get("state"), dict) and "kind" not in state:
            tables = {**tables, "state": {**state, "kind": "sqlite"}}
        columns, source = tables.get("columns"), tables["source"]
        if not columns:
            return tables
        try:
            convert(columns, ColumnKeys)
        except ConfigError as error:
            raise ConfigError(f"columns: {error}") from None
        own = {key: value for key, value in columns.items() if key != "limits"}
        source = _with_columns(source, own)
        streams = tables.get("streams", {})
        if (limits := columns.get("limits")) and limits != streams.get("limits", limits):
            raise ConfigError("limits are in [columns] and in [streams]: give them once")
        return {**tables, "source": source} | ({"streams": {**streams, "limits": limits}} if limits else {})

    @property
    def sections(self) -> RunSections:
        """The sections of source, sink and dead letters."""
        labels = None if self.labels is None else self.labels.source
        return RunSections(self.source, self.sink, self.dead_letters, self.state is not None, labels)

    def check(self) -> None:
        """Raise ConfigError or ParameterError where sections contradict each other."""
        for name, end in self.sections.named().items():
            end.check(name, self.sections)
        self.service.check()
        if self.labels is not None:
            self.labels.check_source(self.source, self.state)
        if isinstance(self.state, KafkaStateConfig):
            self._check_shared(self.state)
        if self.unused == "letters" and self.dead_letters is None:
            raise ConfigError('unused = "letters" needs [dead_letters]: that is where they go')
        if self.silence.returning == "state" and self.state is None:
            raise ConfigError(
                'silence.returning = "state" needs [state]: that is where the state of ended streams waits'
            )
        if self.silence.active and not self.source.live:
            raise ConfigError("[silence] is for a live source: recorded time does not pass by itself")
        if self.streams.late == "set aside" and not self.source.live:
            raise ConfigError('streams.late = "set aside" is for a live source: use "warn" or "restart"')
        if self.provisional is not None:
            seconds_of("provisional", self.provisional)
            if not self.sink.takes_provisional:
                raise ConfigError("provisional is for a sink that tells it apart at once: MQTT")
        if self.faults == "error" and self.state:
            raise ConfigError(
                'faults = "error" with [state]: what the broker sends twice would stop the run; use "drop"'
            )

    def _check_shared(self, state: KafkaStateConfig) -> None:
        """Raise ConfigError where a run cannot share its partitions with others."""
        state.check(self.sections)
        if self.flush:
            raise ConfigError('flush = true with state.kind = "kafka": every rebalance would close the open windows')
        if self.provisional is not None:
            raise ConfigError(
                'provisional with state.kind = "kafka": predictions appear with a transaction, and none could be shown '
                "before; leave it out"
            )
        if self.labels is not None and self.labels.share:
            raise ConfigError(
                'labels.share with state.kind = "kafka": each worker has some of the streams, and they change hands; '
                "leave it out, and each stream learns its own correction"
            )
        if self.silence.returning == "state":
            raise ConfigError(
                'silence.returning = "state" is not for state.kind = "kafka", which keeps the last window of a stream '
                'that ended and not its state; use "anew"'
            )

    def warnings(self) -> list[str]:
        """Return what may go wrong, in sentences."""
        return [text for name, end in self.sections.named().items() for text in end.warnings(name, self.sections)]

    def notes(self) -> list[str]:
        """Return what a broker may do that nobody here can see, in sentences."""
        return [text for name, end in self.sections.named().items() for text in end.notes(name, self.sections)]

    def without_waiting(self) -> RunConfig:
        """Return the same run, which fails at once where a broker is not there."""
        letters = None if self.dead_letters is None else self.dead_letters.without_waiting()
        source, sink, labels = self.source.without_waiting(), self.sink.without_waiting(), self.labels
        if labels is not None and labels.source is not None:
            labels = msgspec.structs.replace(labels, source=labels.source.without_waiting())
        return msgspec.structs.replace(self, source=source, sink=sink, dead_letters=letters, labels=labels)

    def check_of_times(self) -> TimeCheck:
        """Return the check for times that cannot be right. Times of arrival always can."""
        units = self.source.time_units
        if not units:
            return TimeCheck("off")
        action = ("reject" if self.source.live else "error") if self.time_check == "auto" else self.time_check
        if action == "reject" and self.faults == "error":
            action = "error"
        return TimeCheck(action, units.pop() if len(units) == 1 else "s")

    def identity(self, fingerprint: str) -> dict[str, str]:
        """Return what the state of the streams depends on."""
        order = {f"order.{name}": str(value) for name, value in msgspec.structs.asdict(self.order).items()}
        return {"model": fingerprint} | self.source.identity() | order

    def replaced(self, bundle: Bundle) -> list[str]:
        """Return the fingerprints of the models that `[state] replaces` names.

        Raises:
            ConfigError: the model cannot go on with the streams of one of them.
        """
        from streamrde.inference.bundle import load, state_differences

        found = []
        for path in () if self.state is None else self.state.replaces:
            before = load(path)
            if differences := state_differences(before, bundle):
                raise ConfigError(f"state.replaces has {path!r}, which the model cannot replace: {differences[0]}")
            found.append(before.fingerprint)
        return found

    def outline_of(self, bundle: Bundle) -> ModelOutline:
        """Return what ends need to know of the model, with columns of labels that come with the samples.

        Raises:
            ConfigError: the columns of labels do not fit the model.
        """
        outline = outline_of(bundle)
        return outline if self.labels is None else self.labels.outline(outline, bundle.header)

    @property
    def inflight(self) -> int:
        """Messages of a source that may be unacknowledged."""
        own = None if self.labels is None else self.labels.source
        return self.source.inflight if own is None else min(self.source.inflight, own.inflight)

    def build(self, bundle: Bundle, **hooks: Any) -> Pipeline:
        """Return the pipeline, with its store opened.

        Args:
            hooks: `metrics`, `recent`, `on_start`, `on_batch` and `on_predictions` of the pipeline.
        Raises:
            ConfigError, ParameterError: sections contradict each other, or a value cannot work.
            StateError: the store is another run's, in use or damaged.
        """
        self.check()
        model = self.outline_of(bundle)
        source, sink = self.source.build(model), self.sink.build(model)
        if self.labels is not None and (labels := self.labels.build(outline_of(bundle), bundle.header)) is not None:
            several = source if isinstance(source, SeveralSource) else SeveralSource({"": source})
            source = several.with_labels(labels)
        dead_letters = None if self.dead_letters is None else self.dead_letters.build()
        store, state = None, self.state
        if isinstance(state, StateConfig):
            store = state.open(self.identity(bundle.fingerprint), self.replaced(bundle))
        return self._pipeline(bundle, source, sink, dead_letters=dead_letters, store=store, **hooks)

    def worker(self, bundle: Bundle, *, recent: Recent | None = None, **hooks: Any) -> Worker:
        """Return a worker of the cluster, which has a pipeline for each partition that its group gives it.

        Args:
            recent: keeps the latest samples and predictions of all partitions.
            hooks: `on_start`, `on_batch` and `on_predictions` of the worker.
        Raises:
            ConfigError, ParameterError: sections contradict each other, or a value cannot work.
        """
        from streamrde.cluster.plan import Plan
        from streamrde.cluster.worker import Worker

        self.check()
        state: Any = self.state
        ends: Any = (self.source, self.sink, self.dead_letters)
        plan = Plan(
            *ends,
            bundle=bundle,
            outline=self.outline_of,
            identity=self.identity,
            building=partial(self._pipeline, recent=recent),
            changelog=state.topic,
            replication=state.replication,
            replaced=self.replaced(bundle),
            copies=None if state.cache is None else Path(state.cache),
        )
        return Worker(plan, drain=self.service.drain_seconds, **hooks)

    def _pipeline(
        self,
        bundle: Bundle,
        source: Source[Any],
        sink: Sink,
        *,
        dead_letters: DeadLetters | None,
        store: StateStore | None,
        **hooks: Any,
    ) -> Pipeline:
        from streamrde.runtime.archive import StoreArchive
        from streamrde.runtime.pipeline import Pipeline

        state = self.state
        archive = StoreArchive(store) if store is not None and self.silence.returning == "state" else None
        fleet = Fleet(
            bundle,
            faults=self.faults,
            order=self.order,
            archive=archive,
            on_range=self.on_range,
            step_error=self.step_error,
            novelty=self.novelty,
            intervals=self.intervals,
            plausible=self.streams.plausible,
            vigilance=self.streams.vigilance,
            restart_after=self.streams.restart_after,
            time_check=self.check_of_times(),
            adapt="off" if self.labels is None else self.labels.settings(),
        )
        return Pipeline(
            source,
            fleet,
            sink,
            store=store,
            policy=None if state is None else state.policy(self.inflight),
            lazily=isinstance(state, StateConfig) and state.restore == "lazy",
            flush=self.flush,
            dead_letters=dead_letters,
            letters_of_rows=self.unused == "letters",
            rules=self.streams,
            silence=self.silence,
            slice_windows=self.service.slice_windows,
            labels=None if self.labels is None else self.labels.taker(fleet),
            provisional=None if self.provisional is None else seconds_of("provisional", self.provisional),
            **hooks,
        )


def _with_columns(source: dict[str, Any], columns: dict[str, Any]) -> dict[str, Any]:
    """Return the table of a source, or of several, with columns where it has none of its own."""
    if several := source.get("of"):
        return {**source, "of": {name: _with_columns(one, columns) for name, one in several.items()}}
    if "records" not in getattr(SOURCES.find(source["kind"]), "__struct_fields__", ()):
        raise ConfigError(f"[columns] is for a source of payloads, and {source['kind']!r} is none; leave it out")
    if topics := source.get("topics"):
        return {**source, "topics": [{**columns, **topic} for topic in topics]}
    return {**columns, **source}


def outline_of(bundle: Bundle) -> ModelOutline:
    """Return what ends need to know of a model."""
    from streamrde import __version__

    return ModelOutline(
        tuple(channel.name for channel in bundle.header.channels),
        prediction_schema(bundle.header),
        {"streamrde.version": __version__, "streamrde.model": bundle.fingerprint},
        tuple(channel.unit for channel in bundle.header.channels),
    )
