"""Start a session of Spark that can run streamrde, or say what a session lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamrde.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_JAVA = 17
"""Oldest Java that Spark 4 runs on."""
_SPARK = (4, 1)
_PROVIDER = "spark.sql.streaming.stateStore.providerClass"
_ROCKSDB = "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"

# A micro-batch then saves what has changed, not a copy of the store.
_CHANGELOG = "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled"


def session(master: str = "local[*]", settings: Mapping[str, str] | None = None) -> SparkSession:
    """Return the running session of Spark, or start one that has what `score` needs.

    Workers run the Python that runs this program, unless the environment variable PYSPARK_PYTHON names another one. It
    is set otherwise. Streams keep their state in RocksDB, and micro-batches save its changes.

    Args:
        master: Spark's master, such as ``local[2]``, ``spark://HOST:7077`` or ``sc://HOST`` (Spark Connect).
        settings: further settings of Spark.
    Raises:
        MissingExtraError: pyspark, or what it needs and does not install, is missing.
        ConfigError: there is no Java, or it is too old.
    """
    check_packages()
    from pyspark.sql import SparkSession

    settings = {_PROVIDER: _ROCKSDB, _CHANGELOG: "true", **(settings or {})}
    builder: Any = SparkSession.builder
    if master.startswith("sc://"):
        builder = builder.remote(master)
    else:
        check_java()
        builder = builder.master(master)
        if master.startswith("local"):  # nothing has to come by a network, whose addresses may change
            settings = {"spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1", **settings}
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark reads it nowhere else
    for name, value in settings.items():
        builder = builder.config(name, value)
    with any_pandas():
        started: SparkSession = builder.getOrCreate()
    return started


@contextmanager
def any_pandas() -> Iterator[None]:
    """Silence Spark's warning of pandas 3: all that goes through pandas here is bytes and whole numbers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
        yield


def check_packages() -> None:
    """Raise MissingExtraError if a package is missing, or ConfigError if pyspark is too old."""
    feature = "streamrde.spark"
    for name in ("pyspark", "pandas", "google.protobuf"):
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise MissingExtraError(f"{feature}: the package {name} is missing; it", "spark")
    import pyspark

    version = tuple(map(int, re.findall(r"\d+", pyspark.__version__)[:2]))
    if version < _SPARK:
        raise ConfigError(
            f"pyspark {pyspark.__version__} is too old: streamrde.spark needs 4.1 or later; run  pip install "
            "'streamrde[spark]'"
        )


def check_java() -> None:
    """Raise ConfigError if there is no Java that Spark runs on."""
    home = os.environ.get("JAVA_HOME")
    path = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    remedy = (
        "install it (Debian, Ubuntu: apt-get install openjdk-17-jre-headless), or set JAVA_HOME to the folder of one"
    )
    if path is None:
        raise ConfigError(f"Spark needs Java {_JAVA} or later, and there is no java on the PATH: {remedy}")
    try:
        said = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr  # noqa: S603
    except OSError as error:
        raise ConfigError(f"JAVA_HOME = {home}: {path} does not run ({error.strerror}): {remedy}") from None
    version = re.search(r'version "(?:1\.)?(\d+)', said)
    if version is None or int(version[1]) < _JAVA:
        found = said.strip().split("\n")[0] or "does not say its version"
        raise ConfigError(f"Spark needs Java {_JAVA} or later, and {path} is another ({found}): {remedy}")


def check_session(df: DataFrame) -> None:
    """Raise ConfigError if the session of a DataFrame cannot score it."""
    spark: Any = df.sparkSession
    context = getattr(spark, "_sc", None)  # a session of Spark Connect has none
    if context is not None:
        _check_python(context)
    if df.isStreaming and (provider := spark.conf.get(_PROVIDER, "")) != _ROCKSDB:
        raise ConfigError(
            f"{_PROVIDER} is {provider or 'not set'}, and transformWithState keeps its state in RocksDB only: run  "
            f'spark.conf.set("{_PROVIDER}", "{_ROCKSDB}")  before'
        )


def _check_python(context: Any) -> None:
    """Raise ConfigError if workers on this machine run another Python than this program."""
    own = context.pythonExec
    if not str(context.master).startswith("local") or os.environ.get("PYSPARK_PYTHON"):
        return
    found = shutil.which(own)
    if found is None or Path(found).absolute().parent != Path(sys.executable).absolute().parent:
        raise ConfigError(
            f"Spark's workers would run {found or own}, and this program runs {sys.executable}: set the environment "
            f"variable PYSPARK_PYTHON={sys.executable} before the session starts, or start it with "
            "streamrde.spark.session()"
        )
