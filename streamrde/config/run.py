"""A whole run: what `streamrde run` reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from streamrde.config.durations import seconds_of
from streamrde.config.ends import check_ends, notes_of, warnings_of
from streamrde.config.files import ArrowSinkConfig, ArrowSourceConfig, PartsSinkConfig
from streamrde.config.mqtt import MqttClientConfig, MqttDeadLettersConfig, MqttSinkConfig, MqttSourceConfig
from streamrde.config.service import FileDeadLettersConfig, ServiceConfig, StateConfig
from streamrde.errors import ConfigError
from streamrde.inference.bundle import Bundle
from streamrde.inference.fleet import Fleet
from streamrde.inference.states import OnRange
from streamrde.inference.table import OnFault
from streamrde.runtime.silence import Silence
from streamrde.runtime.troubles import StreamRules
from streamrde.times.plausible import OnTime, TimeCheck
from streamrde.windowing.order import Order

if TYPE_CHECKING:
    from streamrde.runtime.pipeline import Pipeline


class RunConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A run: from a source through a model to a sink."""

    model: str
    """Path of the model file."""
    source: MqttSourceConfig | ArrowSourceConfig
    sink: MqttSinkConfig | ArrowSinkConfig | PartsSinkConfig
    state: StateConfig | None = None
    """Without it state dies with the process."""
    dead_letters: FileDeadLettersConfig | MqttDeadLettersConfig | None = None
    service: ServiceConfig = ServiceConfig()
    unused: Literal["count", "letters"] = "count"
    """Late, repeated and rejected rows: counted only, or put into [dead_letters] too."""
    faults: OnFault = "drop"
    """A late, repeated or unusable sample: "drop" counts and skips it, "error" stops the run."""
    time_check: OnTime | Literal["auto"] = "auto"
    """Streams whose times cannot be right: "reject" says so once and skips their rows, "error" stops, "off" goes on.
    "auto": "reject" for a live source, "error" for recorded files."""
    order: Order = Order()
    """What of samples that come late or twice."""
    streams: StreamRules = StreamRules()
    """Rules for streams that go wrong."""
    silence: Silence = Silence()
    """What of streams from which nothing comes."""
    on_range: OnRange = "mend"
    """A hidden state that is not finite, or out of the range it had in training: "mend" begins one that is not finite
    anew, "keep" keeps both, "reset" begins both anew."""
    step_error: bool = False
    """Estimate the solver's error in every window and put it on the prediction."""
    novelty: bool = False
    """Put on every prediction how far its window lies outside of training, and watch the streams for drift."""
    provisional: str | None = None
    """Publish what the open windows predict, every so often: "200ms"."""
    flush: bool | None = None
    """When the source ends or the run is stopped, close the open windows and publish their predictions. By default only
    without [state]: with it the next run goes on with them."""

    @property
    def live(self) -> bool:
        """Whether the source goes on for ever."""
        return isinstance(self.source, MqttSourceConfig)

    def check(self) -> None:
        """Raise ConfigError where sections contradict each other."""
        if isinstance(self.source, ArrowSourceConfig) and (self.state or self.dead_letters):
            raise ConfigError(
                "[state] and [dead_letters] are for a live source: recorded files are read from the start"
            )
        if isinstance(self.sink, PartsSinkConfig) and self.state is None:
            raise ConfigError('a sink of kind "parts" needs [state]: what is in no part yet waits there')
        if isinstance(self.sink, ArrowSinkConfig) and self.state is not None:
            raise ConfigError(
                'a sink of kind "arrow" writes one file at its end, which [state] cannot go on with: use kind = "parts"'
            )
        if isinstance(self.source, MqttSourceConfig) and self.state and self.source.qos and not self.source.session:
            raise ConfigError(
                "[state] without source.session: the broker would forget what comes while this is away; "
                "set source.client_id and session = true, or qos = 0 if that may be"
            )
        check_ends(self.source, self.sink, self.dead_letters)
        if self.unused == "letters" and self.dead_letters is None:
            raise ConfigError('unused = "letters" needs [dead_letters]: that is where they go')
        if self.silence.returning == "state" and self.state is None:
            raise ConfigError(
                'silence.returning = "state" needs [state]: that is where the state of ended streams waits'
            )
        if self.silence.active and not self.live:
            raise ConfigError("[silence] is for a live source: recorded time does not pass by itself")
        if self.streams.late == "set aside" and not self.live:
            raise ConfigError('streams.late = "set aside" is for a live source: use "warn" or "restart"')
        if self.provisional is not None:
            seconds_of("provisional", self.provisional)
            if not isinstance(self.sink, MqttSinkConfig):
                raise ConfigError("provisional is for a sink that tells it apart at once: MQTT")
        if self.faults == "error" and self.state:
            raise ConfigError(
                'faults = "error" with [state]: what the broker sends twice would stop the run; use "drop"'
            )

    def warnings(self) -> list[str]:
        """Return what may go wrong, in sentences."""
        return warnings_of(self.source, self.sink, self.dead_letters)

    def notes(self) -> list[str]:
        """Return what a broker may do that nobody here can see, in sentences."""
        return notes_of(self.source, self.sink, self.dead_letters)

    def without_waiting(self) -> RunConfig:
        """The same run, which fails at once where a broker is not there."""
        ends = {
            name: msgspec.structs.replace(section, wait=False)
            for name in ("source", "sink", "dead_letters")
            if isinstance(section := getattr(self, name), MqttClientConfig)
        }
        return msgspec.structs.replace(self, **ends)

    def check_of_times(self) -> TimeCheck:
        """Return the check for times that cannot be right. Times of arrival always can."""
        source = self.source
        payloads = source.payloads() if isinstance(source, MqttSourceConfig) else (source,)
        units = {payload.time_unit for payload in payloads if payload.time}
        if not units:
            return TimeCheck("off")
        action = ("reject" if self.live else "error") if self.time_check == "auto" else self.time_check
        if action == "reject" and self.faults == "error":
            action = "error"
        return TimeCheck(action, units.pop() if len(units) == 1 else "s")

    def identity(self, fingerprint: str) -> dict[str, str]:
        """What the state of the streams depends on."""
        own = self.source.identity() if isinstance(self.source, MqttSourceConfig) else {}
        order = {f"order.{name}": str(value) for name, value in msgspec.structs.asdict(self.order).items()}
        return {"model": fingerprint} | own | order

    def _source(self, bundle: Bundle) -> Any:
        if isinstance(self.source, MqttSourceConfig):
            return self.source.build(bundle.header)
        return self.source.build(bundle.header, faults=self.faults)

    def build(self, bundle: Bundle, **hooks: Any) -> Pipeline[Any]:
        """The pipeline with its store opened.

        Args:
            hooks: `metrics`, `on_start` and `on_batch` of the pipeline.
        Raises:
            ConfigError, ParameterError: sections contradict each other, or a value cannot work.
            StateError: the store is another run's, in use or damaged.
        """
        from streamrde.runtime.archive import StoreArchive
        from streamrde.runtime.pipeline import Pipeline

        self.check()
        source, sink = self._source(bundle), self.sink.build(bundle)
        dead_letters = None if self.dead_letters is None else self.dead_letters.build()
        store, policy, archive, state = None, None, None, self.state
        if state is not None and isinstance(self.source, MqttSourceConfig):
            policy = state.policy(self.source.inflight)
            store = state.build()
            store.open(self.identity(bundle.fingerprint))
            archive = StoreArchive(store) if self.silence.returning == "state" else None
        return Pipeline(
            source,
            Fleet(
                bundle,
                faults=self.faults,
                order=self.order,
                archive=archive,
                on_range=self.on_range,
                step_error=self.step_error,
                novelty=self.novelty,
                plausible=self.streams.plausible,
                vigilance=self.streams.vigilance,
                restart_after=self.streams.restart_after,
                time_check=self.check_of_times(),
            ),
            sink,
            store=store,
            policy=policy,
            lazily=state is not None and state.restore == "lazy",
            flush=self.flush,
            dead_letters=dead_letters,
            letters_of_rows=self.unused == "letters",
            rules=self.streams,
            silence=self.silence,
            slice_windows=self.service.slice_windows,
            provisional=None if self.provisional is None else seconds_of("provisional", self.provisional),
            **hooks,
        )
