"""Export the counters of a run as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from streamrde.connectors.ends import ConnectionCounts
from streamrde.inference.troubles import KINDS
from streamrde.runtime.metrics import Durations, Metrics
from streamrde.runtime.partitions import GroupMetrics
from streamrde.runtime.tally import LabelTally

_SECONDS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
_ROWS = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0)

# Name, help and attribute of the numbers that only grow.
_COUNTERS = (
    ("rows", "Rows of samples that the source delivered.", "rows"),
    ("predictions", "Predictions that the sink has confirmed: windows that closed.", "predictions"),
    ("malformed", "Messages that could not be read.", "malformed"),
    ("dropped", "Messages of QoS 0 that a full queue pushed out.", "dropped"),
    ("quarantined", "Messages of topics or streams that are set aside.", "quarantined"),
    ("missed", "Messages or samples that never came, by the sequence numbers of those that did.", "missed"),
    ("unused", "Values in messages of another kind than those that were asked for.", "unused"),
    ("merged_streams", "Streams whose samples came from more than one topic.", "merged"),
    ("not_finite", "Predictions that are not finite.", "not_finite"),
    ("provisional", "Predictions of windows that were still open.", "provisional"),
    ("states_out_of_range", "Windows that left the hidden state where it was not in training.", "out_of_range"),
    ("states_not_finite", "Windows that left the hidden state not finite.", "states_not_finite"),
    ("stream_cuts", "Silences after which a stream was cut: longer than the model bridges.", "cuts"),
    ("steps_inexact", "Windows whose estimated solver error was above the model's tolerance.", "inexact"),
    ("windows_novel", "Windows whose p-value was below 1 %: far outside of what the model was trained on.", "novel"),
    ("stream_drifts", "Alarms that a stream is not like those of training.", "drifts"),
    ("batches", "Micro-batches.", "batches"),
    ("checkpoints", "Checkpoints saved.", "checkpoints"),
    ("checkpoint_bytes", "State written by checkpoints.", "checkpoint_bytes"),
    ("model_swaps", "Models taken on without a restart.", "swaps"),
    ("model_swaps_refused", "Models that could not take over the streams.", "swaps_refused"),
)
_GAUGES = (
    ("streams", "Live streams.", "streams"),
    ("suspect_streams", "Streams whose rows are rejected because their times cannot be right.", "suspects"),
    ("lag_seconds", "From arrival to confirmation, of the oldest row of the last micro-batch.", "lag"),
    ("unsaved_messages", "Messages worked off and not yet saved by a checkpoint.", "unsaved"),
    ("store_full", "1 while a checkpoint does not fit on the disk.", "store_full"),
    ("last_checkpoint_timestamp_seconds", "When the last checkpoint was saved, since 1970.", "last_checkpoint"),
    ("last_batch_timestamp_seconds", "When the last micro-batch was worked off, since 1970.", "last_batch"),
)
_HISTOGRAMS = (
    ("batch_rows", "Rows of a micro-batch.", "batch_rows", _ROWS),
    ("step_seconds", "Windows, signatures and model steps of a micro-batch.", "push_time", _SECONDS),
    ("sink_seconds", "From handing predictions to the sink to their confirmation.", "sink_time", _SECONDS),
    ("latency_seconds", "From the arrival of a sample to confirmed predictions.", "latency", _SECONDS),
    ("checkpoint_seconds", "Writing a checkpoint.", "checkpoint_time", _SECONDS),
)
_CONNECTION = (
    ("connects", "Connections made to the broker; the first counts.", "connects"),
    ("sessions_lost", "Sessions that the broker had forgotten.", "sessions_lost"),
    ("redelivered", "Messages sent again by the broker while the first copy was held.", "redelivered"),
    ("resent", "Messages published again after a lost connection.", "resent"),
    ("refused", "Messages that the broker refused for the time being.", "refused"),
    ("lost", "Messages of QoS 0 under way when a connection was lost, or that a broker deleted unread.", "lost"),
    ("tombstones", "Messages of Kafka without a payload, which delete a key.", "tombstones"),
)
# Of each partition that a worker owns.
_PARTITION_GAUGES = (
    ("restoring", "1 while the state of the partition is restored.", "restoring"),
    ("lag_messages", "Messages in the partition that no checkpoint has yet.", "lag_messages"),
    ("lag_seconds", "Age of the message taken last while others wait behind it.", "lag_seconds"),
    ("streams", "Live streams of the partition.", "streams"),
    ("state_bytes", "Snapshots of the live streams as the changelog has them.", "state_bytes"),
    ("restore_seconds", "Duration of the last restore.", "restore_seconds"),
    ("restore_bytes", "Read from the changelog by the last restore.", "restore_bytes"),
)
_PARTITION_COUNTERS = (
    ("rows", "Rows of samples that came from the partition.", "rows"),
    ("commits", "Transactions that were committed.", "commits"),
    ("aborts", "Transactions that were aborted or refused.", "aborts"),
    ("strays", "Streams whose key another partitioner than the topic's puts there.", "strays"),
    ("twice", "Streams that were seen in another partition, too.", "twice"),
    ("lost", "Messages that the topic deleted before they were read.", "lost"),
)


class Exposition(Collector):
    """Read the counters of a run when a scraper asks. Nothing is counted twice, and nothing is global.

    Args:
        metrics: of the run.
        connections: of the ends that have one, by the name of the end.
        waiting: messages that have arrived and were not taken yet; None: it is not known.
        refresh: brings `metrics` up to date; called before they are read.
        group: the partitions that this worker owns. None: it does not share any.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        connections: dict[str, ConnectionCounts],
        waiting: Callable[[], int | None] = lambda: None,
        refresh: Callable[[], None] | None = None,
        group: GroupMetrics | None = None,
    ) -> None:
        self._metrics = metrics
        self._group = group
        self._connections = connections
        self._waiting = waiting
        self._refresh = refresh
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Return the metrics in Prometheus' text format."""
        if self._refresh is not None:
            self._refresh()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """Yield all metric families with their present values."""
        metrics = self._metrics
        samples = CounterMetricFamily("streamrde_samples", "Rows, by what became of them.", labels=["fate"])
        for fate, number in metrics.counts._asdict().items():
            samples.add_metric(["used" if fate == "samples" else fate], number)
        yield samples
        troubles = CounterMetricFamily("streamrde_stream_troubles", "Streams that went wrong.", labels=["kind"])
        for kind in KINDS:
            troubles.add_metric([kind], metrics.troubles.get(kind, 0))
        yield troubles
        implausible = CounterMetricFamily("streamrde_implausible_values", "Not plausible.", labels=["channel"])
        for channel, number in metrics.implausible.items():
            implausible.add_metric([channel], number)
        yield implausible
        if metrics.labels is not None:
            yield from _of_labels(metrics.labels)
        for name, text, attribute in _COUNTERS:
            yield CounterMetricFamily(f"streamrde_{name}", text, value=getattr(metrics, attribute))
        for name, text, attribute in _GAUGES:
            yield GaugeMetricFamily(f"streamrde_{name}", text, value=float(getattr(metrics, attribute)))
        for name, text, attribute, bounds in _HISTOGRAMS:
            yield _histogram(f"streamrde_{name}", text, getattr(metrics, attribute), bounds)
        if (waiting := self._waiting()) is not None:
            yield GaugeMetricFamily("streamrde_waiting_messages", "Arrived and not taken yet.", value=waiting)
        connected = GaugeMetricFamily("streamrde_connected", "1 while the connection stands.", labels=["end"])
        for end, counts in self._connections.items():
            connected.add_metric([end], float(counts.connected))
        yield connected
        for name, text, attribute in _CONNECTION:
            family = CounterMetricFamily(f"streamrde_connection_{name}", text, labels=["end"])
            for end, counts in self._connections.items():
                family.add_metric([end], getattr(counts, attribute))
            yield family
        if self._group is not None:
            yield from _of_group(self._group)


def _of_labels(tally: LabelTally) -> Iterator[Any]:
    outcomes = CounterMetricFamily("streamrde_labels", "Labels, by what became of them.", labels=["outcome"])
    for outcome, number in tally.outcomes.items():
        outcomes.add_metric([outcome], number)
    yield outcomes
    text = "Predictions of the live streams that no longer wait for a label and never had one."
    yield GaugeMetricFamily("streamrde_labels_never", text, value=tally.never)
    text = "Labels from a source of their own that wait for their predictions."
    yield GaugeMetricFamily("streamrde_labels_waiting", text, value=tally.waiting)
    text = "Error of labels before they were learned: root mean square, of classes the share of wrong answers."
    errors = GaugeMetricFamily("streamrde_label_error", text, labels=["output", "method"])
    for method, by_output in tally.errors.items():
        for output, error in by_output.items():
            if error is not None:
                errors.add_metric([output, method], error)
    yield errors
    text = "Share of labels within their intervals or sets."
    coverage = GaugeMetricFamily("streamrde_interval_coverage", text, labels=["output"])
    for output, share in tally.coverage.items():
        if share is not None:
            coverage.add_metric([output], share)
    yield coverage
    text = "Alarms that errors of live streams are larger than on held-out streams."
    drifts = GaugeMetricFamily("streamrde_label_drifts", text, labels=["output"])
    for output, number in tally.alarms.items():
        drifts.add_metric([output], number)
    yield drifts


def _of_group(group: GroupMetrics) -> Iterator[Any]:
    yield GaugeMetricFamily("streamrde_partitions", "Partitions that this worker owns.", value=len(group.partitions))
    yield CounterMetricFamily("streamrde_rebalances", "Assignments and revocations.", value=group.rebalances)
    yield CounterMetricFamily("streamrde_fenced", "Partitions lost to another worker unawares.", value=group.fenced)
    partitions = [([topic, str(number)], one) for (topic, number), one in sorted(group.partitions.items())]
    labels = ["topic", "partition"]
    for name, text, attribute in _PARTITION_GAUGES:
        gauges = GaugeMetricFamily(f"streamrde_partition_{name}", text, labels=labels)
        for place, one in partitions:
            gauges.add_metric(place, float(getattr(one, attribute)))
        yield gauges
    for name, text, attribute in _PARTITION_COUNTERS:
        counters = CounterMetricFamily(f"streamrde_partition_{name}", text, labels=labels)
        for place, one in partitions:
            counters.add_metric(place, getattr(one, attribute))
        yield counters
    text = "Committing a transaction."
    family = HistogramMetricFamily("streamrde_partition_commit_seconds", text, labels=labels)
    for place, one in partitions:
        family.add_metric(place, _buckets(one.commit_time, _SECONDS), one.commit_time.total)
    yield family


def _histogram(name: str, text: str, values: Durations, bounds: tuple[float, ...]) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, text, buckets=_buckets(values, bounds), sum_value=values.total)


def _buckets(values: Durations, bounds: tuple[float, ...]) -> list[tuple[str, int]]:
    return [*((str(bound), values.up_to(bound)) for bound in bounds), ("+Inf", len(values))]
