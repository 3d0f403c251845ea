"""A flavour of MLflow: models as `pyfunc`, which predict on data frames of samples."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from streamrde.errors import BundleError, MissingExtraError, ParameterError
from streamrde.floats import as_plain
from streamrde.inference.bundle import Bundle, load
from streamrde.nearest import did_you_mean, listed
from streamrde.scoring.entry import Settings, job_of, score
from streamrde.scoring.job import Job
from streamrde.scoring.lazily import ArrowStream
from streamrde.windowing.policies import WindowPolicy

try:
    import mlflow

    with warnings.catch_warnings():
        # MLflow warns about type hints of its own.
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType", UserWarning)
        import mlflow.pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] not in ("mlflow", "pandas"):
        raise
    raise MissingExtraError("streamrde.mlflow", "mlflow") from None

FLAVOR_NAME = "streamrde"
_MODEL = "model.safetensors"
# Settings that read columns other than the stream's, the time's and the channels', or that do without these.
_OTHER_COLUMNS = frozenset({"records", "name", "value", "filters", "truth", "missing"})


def save_model(
    bundle: Bundle,
    path: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    mlflow_model: Any = None,
    **options: Any,
) -> None:
    """Write a model into a folder as one of MLflow's, with the flavours `streamrde` and `python_function`.

    `mlflow.pyfunc.load_model(path).predict(frame)` takes a row per sample, with a column for the stream, one for the
    time, and the model's channels. It returns the data frame of `streamrde.score`: a row per window. Each call begins
    its streams anew.

    Args:
        bundle: the model, from `fit`, `train` or `load`.
        path: the folder, which must be empty or not there.
        settings: of `score`, such as ``{"stream": "machine", "time": "ms", "time_unit": "ms"}``. Those that are given
            can be changed by `mlflow.pyfunc.load_model(path, model_config=...)`, but for the columns of the signature.
        mlflow_model: MLflow's own description, to which the flavours are added.
        options: of `mlflow.pyfunc.save_model`, such as ``pip_requirements``, ``input_example`` or ``metadata``. Without
            ``signature``, there is one with the columns' names.
    Raises:
        ParameterError, ConfigError: the folder is not empty, or there are settings that `score` does not have or that
            cannot work.
    """
    job = _job(settings or {})
    if Path(path).exists() and any(Path(path).iterdir()):
        raise ParameterError(f"path {os.fspath(path)!r}: a folder that is not empty; choose another, or empty it")
    chosen = msgspec.to_builtins(dict(settings or {}), enc_hook=as_plain)
    model = Model() if mlflow_model is None else mlflow_model
    model.add_flavor(FLAVOR_NAME, streamrde_version=version("streamrde"), fingerprint=bundle.fingerprint)
    if not options.get("conda_env"):
        options.setdefault("pip_requirements", get_default_pip_requirements())
    if model.signature is None and not _OTHER_COLUMNS & chosen.keys():
        model.signature = _signature(bundle, job)
    with TemporaryDirectory() as folder:
        data = Path(folder) / _MODEL
        bundle.save(data)
        mlflow.pyfunc.save_model(
            path=os.fspath(path),
            loader_module=__name__,
            data_path=str(data),
            model_config=chosen or None,
            mlflow_model=model,
            **options,
        )


def log_model(bundle: Bundle, name: str = "model", *, settings: Mapping[str, Any] | None = None, **options: Any) -> Any:
    """Log a model to MLflow's current run, or to a new one.

    Args:
        bundle: the model, from `fit`, `train` or `load`.
        name: of the logged model.
        settings: of `score`, as of `save_model`.
        options: of `mlflow.models.Model.log` and of `save_model`, such as ``registered_model_name``.
    Returns:
        MLflow's `ModelInfo`, with the model's address in `model_uri`.
    Raises:
        ParameterError, ConfigError: as `save_model`.
    """
    flavor = sys.modules[__name__]
    return Model.log(artifact_path=None, name=name, flavor=flavor, bundle=bundle, settings=settings, **options)


def load_model(model_uri: str | os.PathLike[str], *, policies: Sequence[type[WindowPolicy]] = ()) -> Bundle:
    """Return the model itself, for a Fleet or Predictor.

    Args:
        model_uri: a folder that `save_model` wrote, or an address such as ``models:/pump/1`` or ``runs:/.../model``.
        policies: classes of window policies that are not built in, as of `streamrde.load`.
    Raises:
        BundleError: a model of other flavours, or one that is cut.
        MlflowException: there is no such model.
    """
    folder = mlflow.artifacts.download_artifacts(artifact_uri=os.fspath(model_uri))
    flavors = Model.load(folder).flavors
    if FLAVOR_NAME not in flavors:
        raise BundleError(
            f"{os.fspath(model_uri)}: a model of {listed(sorted(flavors))}, not of streamrde; write it with "
            "streamrde.mlflow.save_model"
        )
    return load(Path(folder) / flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.DATA], policies=policies)


def get_default_pip_requirements() -> list[str]:
    """Return what MLflow installs for such a model, unless `pip_requirements` says otherwise."""
    return [f"streamrde[mlflow]=={version('streamrde')}"]


class _Scorer:
    """Predict with `score`, as `mlflow.pyfunc` asks for it."""

    def __init__(self, bundle: Bundle, settings: Mapping[str, Any]) -> None:
        self.bundle, self.settings = bundle, dict(settings)

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """Return the rows of `score`. `params` change its settings, where the model's signature has them."""
        if not isinstance(model_input, ArrowStream):
            raise ParameterError(
                f"the input is a {type(model_input).__name__}: give a data frame with a row per sample, which has "
                "columns for the stream, the time and the channels"
            )
        return score(model_input, self.bundle, **{**self.settings, **(params or {})}).read_all().to_pandas()


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> _Scorer:
    """Load what `mlflow.pyfunc` calls. MLflow finds this by its name."""
    _job(model_config or {})
    return _Scorer(load(path), model_config or {})


def _job(settings: Mapping[str, Any]) -> Job:
    known = sorted(Settings.__annotations__)
    for name in settings:
        if name not in known:
            raise ParameterError(f"settings: '{name}' is no setting of score{did_you_mean(name, known)}")
    return job_of(settings)


def _signature(bundle: Bundle, job: Job) -> ModelSignature:
    """Name the columns. Types are left to `score`, which reads more of them than MLflow can say."""
    columns, stream = job.columns.columns(bundle.header), job.columns.stream
    names = [*([stream] if isinstance(stream, str) else stream), columns.time, *columns.channels]
    return ModelSignature(inputs=Schema([ColSpec(AnyType(), name) for name in dict.fromkeys(names) if name]))
