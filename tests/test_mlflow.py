"""Models as pyfunc of MLflow: the values of `score` and of a Fleet, from folders, runs and the registry."""

import io
import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import streamrde as sr
from streamrde.demo.watch_data import COLUMNS, MODEL
from streamrde.errors import BundleError, ConfigError, DataError, ParameterError

mlflow = pytest.importorskip("mlflow")
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.models import ModelSignature  # noqa: E402
from mlflow.types import ParamSchema, ParamSpec  # noqa: E402

from streamrde import mlflow as flavour  # noqa: E402


@pytest.fixture(scope="module")
def bundle():
    return sr.load(MODEL)


@pytest.fixture(scope="module")
def frame():
    found = pd.read_parquet(sorted(MODEL.parent.glob("*.parquet"))[0])
    return found[found["stream_id"].isin(found["stream_id"].unique()[:2])].reset_index(drop=True)


def check_equal(found, wanted):
    wanted = wanted.to_pandas()
    assert len(found) > 10
    np.testing.assert_array_equal(np.stack(found["value"]), np.stack(wanted["value"]))
    pd.testing.assert_frame_equal(found.drop(columns="value"), wanted.drop(columns="value"))


def test_a_folder_predicts_what_score_and_a_fleet_do(bundle, frame, tmp_path):
    flavour.save_model(bundle, tmp_path / "watch")
    model = mlflow.pyfunc.load_model(str(tmp_path / "watch"))
    found = model.predict(frame)
    check_equal(found, sr.score(frame, bundle).read_all())
    fleet = sr.Fleet(bundle)
    pushed = fleet.push(frame["stream_id"], frame["t"], frame[list(COLUMNS.channels)])
    for (_, own), (_, wanted) in zip(found.groupby("stream"), pushed.to_pandas().groupby("stream"), strict=True):
        np.testing.assert_array_equal(np.stack(own["value"])[: len(wanted)], np.stack(wanted["value"]))
    assert model.predict(frame).equals(found)  # each call begins anew
    assert model.metadata.get_input_schema().input_names() == ["stream_id", "t", *COLUMNS.channels]
    requirements = (tmp_path / "watch" / "requirements.txt").read_text().split()
    assert f"streamrde[mlflow]=={sr.__version__}" in requirements
    assert flavour.load_model(tmp_path / "watch").fingerprint == bundle.fingerprint
    from mlflow.pyfunc import scoring_server

    written = io.StringIO()
    scoring_server.predictions_to_json(found, written)  # as its server answers
    rows = json.loads(written.getvalue())["predictions"]
    assert rows[3]["label"] == found["label"][3]
    np.testing.assert_allclose(rows[3]["value"], found["value"][3], rtol=1e-6)


def test_settings_of_score_are_kept_and_can_be_changed(bundle, frame, tmp_path):
    other = frame.rename(columns={"stream_id": "arm", "t": "ms"})
    other["ms"] = (other["ms"] * 1000).round().astype("int64")
    settings = {"stream": "arm", "time": "ms", "time_unit": "ms"}
    flavour.save_model(bundle, tmp_path / "watch", settings={**settings, "novelty": True})
    found = mlflow.pyfunc.load_model(str(tmp_path / "watch")).predict(other)
    check_equal(found, sr.score(other, bundle, novelty=True, **settings).read_all())
    model = mlflow.pyfunc.load_model(str(tmp_path / "watch"), model_config={"novelty": False})
    check_equal(model.predict(other), sr.score(other, bundle, **settings).read_all())


@pytest.mark.filterwarnings("ignore:Operation with range is deprecated")  # MLflow's use of pandas
def test_an_example_and_a_signature_of_ones_own_are_kept(bundle, frame, tmp_path):
    example = frame.head(400)
    signature = ModelSignature(params=ParamSchema([ParamSpec("novelty", "boolean", False)]))
    options = {"signature": signature, "input_example": example, "pip_requirements": ["streamrde"]}
    flavour.save_model(bundle, tmp_path / "watch", **options)
    model = mlflow.pyfunc.load_model(str(tmp_path / "watch"))
    kept = model.metadata.load_input_example(str(tmp_path / "watch"))
    for novelty in (False, True):
        wanted = sr.score(example, bundle, novelty=novelty).read_all()
        check_equal(model.predict(kept.astype(example.dtypes), params={"novelty": novelty}), wanted)
    assert (tmp_path / "watch" / "requirements.txt").read_text().split()[-1] == "streamrde"


def test_dates_numbers_of_streams_and_whole_numbers_are_read(bundle, frame, tmp_path):
    other = frame.assign(
        stream_id=frame["stream_id"].str[-3:].astype(int),
        t=pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(frame["t"], unit="s").dt.round("ms"),
        ax=frame["ax"].round().astype(int),
    )
    flavour.save_model(bundle, tmp_path / "watch")
    found = mlflow.pyfunc.load_model(str(tmp_path / "watch")).predict(other)
    check_equal(found, sr.score(other, bundle).read_all())
    assert {*found["stream"]} == {*map(str, other["stream_id"])}


def test_a_run_and_the_registry_give_the_model_back(bundle, frame, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    try:
        with mlflow.start_run():
            info = flavour.log_model(bundle, "watch", registered_model_name="watch", metadata={"site": "gym"})
        assert info.metadata == {"site": "gym"}
        for uri in (info.model_uri, "models:/watch/1"):
            assert flavour.load_model(uri).fingerprint == bundle.fingerprint
            check_equal(mlflow.pyfunc.load_model(uri).predict(frame), sr.score(frame, bundle).read_all())
    finally:
        mlflow.set_tracking_uri(before)


def test_wrong_input_is_refused_with_the_remedy(bundle, frame, tmp_path):
    with pytest.raises(ParameterError, match=r"'streem' is no setting of score.*stream"):
        flavour.save_model(bundle, tmp_path / "a", settings={"streem": "t"})
    with pytest.raises(ConfigError, match="time_unit"):
        flavour.save_model(bundle, tmp_path / "a", settings={"time_unit": "weeks"})
    assert not (tmp_path / "a").exists()
    flavour.save_model(bundle, tmp_path / "a")
    with pytest.raises(ParameterError, match="not empty; choose another"):
        flavour.save_model(bundle, tmp_path / "a")
    model = mlflow.pyfunc.load_model(str(tmp_path / "a"))
    with pytest.raises(MlflowException, match=r"missing inputs.*'wz'"):
        model.predict(frame.drop(columns="wz"))
    with pytest.raises(DataError, match="column 'ax'"):
        model.predict(frame.assign(ax="much"))
    with pytest.raises(ParameterError, match="a list: give a data frame"):
        flavour._load_pyfunc(str(tmp_path / "a" / "data" / "model.safetensors")).predict([1.0])


def test_a_model_of_another_flavour_is_refused(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors:\n  sklearn:\n    data: model.pkl\n")
    with pytest.raises(BundleError, match="a model of sklearn, not of streamrde"):
        flavour.load_model(tmp_path)


def test_a_missing_extra_names_the_command():
    code = "import sys; sys.modules['mlflow'] = None; import streamrde.mlflow"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'streamrde[mlflow]'" in done.stderr
