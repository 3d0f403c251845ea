"""`streamrde.spark.score`: a DataFrame of samples in, a DataFrame of predictions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import pyarrow as pa

from streamrde.connectors.files.reading import SampleReader
from streamrde.errors import BundleError, ConfigError
from streamrde.inference.bundle import Bundle, load, state_differences
from streamrde.nearest import did_you_mean
from streamrde.scoring.entry import Path as ModelPath
from streamrde.scoring.entry import Settings, job_of
from streamrde.scoring.job import Job
from streamrde.scoring.scorer import Scorer
from streamrde.spark.sessions import any_pandas, check_packages, check_session
from streamrde.spark.shipping import ShippedBundle

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, Observation

    from streamrde.spark.shards import Advance, Silence

_SHARDS = 16
"""Shards of a streaming query. See docs/spark.md for what they cost."""
_DIVIDED = "Spark divides the work; leave it out"
_STATE = "Spark keeps the state in the query's checkpointLocation; leave it out"
_ORDER = "rows of a DataFrame have no order, and are always sorted by time; leave it out"
_REFUSED = {
    "sort": _ORDER,
    "restarts": f"{_ORDER}, and name the recording in a column of stream",
    "engine": _DIVIDED,
    "ray_address": _DIVIDED,
    "jobs": _DIVIDED,
    "groups": _DIVIDED,
    "commit_seconds": _DIVIDED,
    "state_in": _STATE,
    "state_out": _STATE,
    "state_identity": _STATE,
    "on_error": "a DataFrame has no files; Spark's readers have options for damaged ones",
    "csv": "a DataFrame has no files; spark.read.csv has the options of the dialect",
    "rate": "rows of a DataFrame have no order; give a column with the time",
    "records": "explode the list of rows before, as with pyspark.sql.functions.inline",
}


def score(
    df: DataFrame,
    model: ModelPath | Bundle,
    *,
    shards: int | None = None,
    replaces: Sequence[ModelPath | Bundle] = (),
    advance: Advance = "no",
    every: float = 10.0,
    idle: float | None = None,
    observe: str | Observation | None = None,
    **settings: Unpack[Settings],
) -> DataFrame:
    """Predict from the samples of a DataFrame of Spark, recorded or streaming.

    Each stream's predictions are those of `streamrde.score` with ``sort="always"``, bit for bit. The rows of a batch
    DataFrame may stand in any order. A streaming DataFrame is scored by `transformWithState`: each micro-batch is
    sorted by time, the streams' last windows stay open, and a row behind an earlier micro-batch's rows of its stream is
    late (see `order` and `faults`).

    Args:
        df: samples, a row each. Times may be timestamps, with or without a zone, dates, numbers or text.
        model: path of a model file on this machine, or a Bundle. Spark brings it to each worker once.
        shards: number of groups of streams, each with a Fleet. It bounds how many tasks score at a time, and is fixed
            for the life of a checkpoint. None: 16 for streams, ``spark.sql.shuffle.partitions`` for batches.
        replaces: models that this one replaces, and whose streams it continues. Streaming only.
        advance: source of the time that closes windows of silent streams. "watermark": the latest time of any stream's
            samples. "clock": the machine's clock, if samples carry seconds since 1970. "no": windows wait for samples.
            Streaming only.
        every: seconds of the clock between two looks at it, with ``advance="clock"``.
        idle: end a stream, and free its state, when its latest sample is this many seconds old. None: never. Streaming
            only.
        observe: name of Spark's observed metrics with the counts of rows (samples, late, duplicate, rejected, merged,
            dropped, implausible), or an Observation (batch only). None: "streamrde" for streams, and no counts for
            batches.
        settings: keys of `Job`, and of `ColumnsConfig` for the columns, as of `streamrde.score`.
    Returns:
        the columns of `Fleet.push`, and ``true_...`` for each of `truth`. `value` is an array, and the metadata of its
        field name the outputs.
    Raises:
        ConfigError: settings that cannot work, or a session that lacks something.
        DataError: the DataFrame lacks a column. Rows that cannot be used raise it when the query runs.
        BundleError: the model cannot continue the streams of those that it replaces.
    """
    check_packages()
    check_session(df)
    from streamrde.spark.shards import Silence

    bundle = model if isinstance(model, Bundle) else load(model)
    job = _job(settings)
    reader = job.reader(bundle.header)
    _check(df, job, bundle, reader)
    silence = Silence(advance, every, idle)
    _check_streaming(df, silence, replaces, bundle, job, reader, observe)
    if shards is None:
        shards = _SHARDS if df.isStreaming else int(str(df.sparkSession.conf.get("spark.sql.shuffle.partitions")))
    if shards < 1:
        raise ConfigError(f"shards = {shards}: give a number of at least 1")
    with any_pandas():
        return _plan(df, bundle, job, reader, shards, tuple(map(_loaded, replaces)), silence, observe)


def _plan(
    df: DataFrame,
    bundle: Bundle,
    job: Job,
    reader: SampleReader,
    shards: int,
    replaces: Sequence[Bundle],
    silence: Silence,
    observe: str | Observation | None,
) -> DataFrame:
    from pyspark.sql import functions as F  # noqa: N812

    from streamrde.spark.packing import CELLS, COUNTS, SCORED, Packer, unpacker
    from streamrde.spark.shards import PartitionScorer, ShardProcessor

    shipped = ShippedBundle.ship(bundle, df.sparkSession)
    told = shards if df.isStreaming and silence.by_samples else 1
    packer = Packer(job, bundle.header, shards=shards, told=told)
    cells = df.select(*map(_quoted, reader.wanted)).mapInArrow(packer.pack, CELLS)
    if df.isStreaming:
        others = tuple(dict.fromkeys(one.fingerprint for one in replaces if one.fingerprint != bundle.fingerprint))
        processor = ShardProcessor(shipped, job, shards=shards, replaces=others, silence=silence)
        mode = "ProcessingTime" if silence.advance == "clock" else "None"
        scored = cells.groupBy("shard").transformWithStateInPandas(processor, SCORED, "append", mode)
    else:
        ordered = cells.repartition("shard").sortWithinPartitions("origin", "number")
        scored = ordered.mapInArrow(PartitionScorer(shipped, job).score, SCORED)
    if observe is None and df.isStreaming:
        observe = "streamrde"
    if observe is not None:
        scored = scored.observe(observe, *(F.sum(name).alias(name) for name in COUNTS))
    schema = Scorer(bundle, job).schema
    return scored.select("predictions").mapInArrow(unpacker(schema), spark_schema(schema))


def spark_schema(schema: pa.Schema) -> Any:
    """Return the schema of predictions in Spark's types, with the metadata of the fields."""
    from pyspark.sql.pandas.types import from_arrow_type
    from pyspark.sql.types import StructField, StructType

    from streamrde.spark.packing import plain_schema

    fields = []
    for field in plain_schema(schema):
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        fields.append(StructField(field.name, from_arrow_type(field.type), field.nullable, metadata))
    return StructType(fields)


def _job(settings: Mapping[str, Any]) -> Job:
    for name, reason in _REFUSED.items():
        if settings.get(name) is not None:
            raise ConfigError(f"{name} is not for DataFrames: {reason}")
    return job_of(settings, sort="always", restarts="sort")


def _check(df: DataFrame, job: Job, bundle: Bundle, reader: SampleReader) -> None:
    """Raise an error where a DataFrame cannot be read so."""
    columns = reader.columns
    if reader.members:
        raise ConfigError(f"channels of the files {list(reader.members)}: join the DataFrames, and name the columns")
    if columns.stream is None:
        raise ConfigError(
            'stream = "": a DataFrame has no files; name a column, such as one made by '
            'df.withColumn("stream_id", pyspark.sql.functions.input_file_name())'
        )
    if not columns.time:
        raise ConfigError('time = "": rows of a DataFrame have no order; name the column of the time')
    if job.truth and bundle.header.horizon:
        raise ConfigError(
            f"truth {list(job.truth)}: the model predicts {bundle.header.horizon:g} s ahead; join the predictions with "
            "the truth by time, or score files with streamrde.score"
        )
    for name in reader.wanted:
        if name not in df.columns:
            raise ConfigError(
                f"the DataFrame has no column {name!r}{did_you_mean(name, df.columns)}; it has {', '.join(df.columns)}"
            )


def _check_streaming(
    df: DataFrame,
    silence: Silence,
    replaces: Sequence[ModelPath | Bundle],
    bundle: Bundle,
    job: Job,
    reader: SampleReader,
    observe: object,
) -> None:
    """Raise an error where settings of streams cannot work."""
    if silence.advance not in ("no", "watermark", "clock"):
        raise ConfigError(f"advance = {silence.advance!r}: use 'no', 'watermark' or 'clock'")
    for name, value in (("every", silence.every), ("idle", silence.idle)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} = {value}: give a number of seconds above 0")
    if not df.isStreaming:
        if replaces or silence.advance != "no" or silence.idle is not None:
            raise ConfigError("replaces, advance and idle are for streaming DataFrames: leave them out")
        return
    if reader.is_partial and not (job.order is not None and job.order.merge):
        raise ConfigError(
            "rows that name their channel may come in several micro-batches: set order = Order(merge=True), which "
            "puts those of one time together"
        )
    if observe is not None and not isinstance(observe, str):
        raise ConfigError("observe: streaming queries have no Observation; give a name, and read query.lastProgress")
    for other in map(_loaded, replaces):
        if differences := state_differences(other, bundle):
            raise BundleError(
                f"the model cannot continue the streams of the one that it replaces: {'; '.join(differences)}; keep "
                "these as they were, or start with an empty checkpointLocation"
            )


def _loaded(model: ModelPath | Bundle) -> Bundle:
    return model if isinstance(model, Bundle) else load(Path(model))


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
