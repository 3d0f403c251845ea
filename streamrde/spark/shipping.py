"""Bring a model to Spark's workers, where each machine gets its file once."""

from __future__ import annotations

import atexit
import hashlib
import shutil
import tempfile
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Self

from streamrde.inference.bundle import Bundle, load
from streamrde.windowing.policies import POLICIES, WindowPolicy


class ShippedBundle:
    """A bundle that workers load from its file.

    A model of more than 1 MB cannot travel with the functions that use it: Spark then makes a broadcast of these, and
    `transformWithState` does not hand it to the process that names the state's variables. Spark Connect makes no
    broadcast, and does not hand its sessions' files to streaming queries: there the model does travel so.

    Args:
        bundle: the model, or the name of its file.
        policies: the class of its windows, unless that is built in.
    """

    def __init__(self, bundle: Bundle | str, fingerprint: str, policies: tuple[type[WindowPolicy], ...] = ()) -> None:
        self._bundle = bundle
        self.fingerprint = fingerprint
        """The model's fingerprint."""
        self._policies = policies

    @classmethod
    def ship(cls, bundle: Bundle, spark: Any) -> Self:
        """Give a session of Spark the bundle, unless it has it."""
        if getattr(spark, "_sc", None) is None:
            return cls(bundle, bundle.fingerprint)
        folder = _folder()
        bundle.save(folder / "model")
        data = (folder / "model").read_bytes()
        name = f"streamrde-{hashlib.sha256(data).hexdigest()[:24]}.safetensors"
        (folder / "model").rename(folder / name)
        from pyspark import SparkFiles

        if not (Path(SparkFiles.getRootDirectory()) / name).exists():
            spark.addArtifacts(str(folder / name), file=True)
        own = type(bundle.header.windows)
        return cls(name, bundle.fingerprint, () if own in POLICIES.values() else (own,))

    def load(self) -> Bundle:
        """Return the bundle, in a worker. A process reads its file once."""
        if isinstance(self._bundle, Bundle):
            return self._bundle
        from pyspark import SparkFiles

        return _loaded(SparkFiles.get(self._bundle), self._policies)


@cache
def _folder() -> Path:
    """Return a folder that is there as long as this process: executors that start later ask it for their files."""
    folder = Path(tempfile.mkdtemp(prefix="streamrde-spark-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@lru_cache(maxsize=4)
def _loaded(path: str, policies: tuple[type[WindowPolicy], ...]) -> Bundle:
    return load(path, policies=policies)
