import json
import struct
import subprocess
import sys

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from bundles import make_bundle

import streamrde as sr
from streamrde.errors import BundleError
from streamrde.inference.header import FORMAT


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.safetensors"
    make_bundle(metrics={"accuracy": 0.5}).save(path)
    return path


def rewrite(path, *, header=None, tensors=None):
    """The file with fields of its header, or tensors, replaced."""
    data = path.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    metadata = json.loads(data[8 : 8 + size])["__metadata__"]
    content = json.loads(metadata["streamrde"]) | (header or {})
    path.write_bytes(
        safetensors.numpy.save(
            safetensors.numpy.load(data) | (tensors or {}), metadata={"streamrde": json.dumps(content)}
        )
    )


@pytest.mark.parametrize("windows", [sr.Every(0.5, "epoch"), sr.Count(7)], ids=str)
def test_what_is_saved_is_loaded(tmp_path, windows):
    bundle = make_bundle(windows=windows, interpolation="hold", first_stage="previous", dtype="float64")
    bundle.save(tmp_path / "new" / "model.safetensors")
    loaded = sr.load(tmp_path / "new" / "model.safetensors")
    assert loaded.header == bundle.header
    assert loaded.fingerprint == bundle.fingerprint
    for name, tensor in bundle.tensors.items():
        assert loaded.tensors[name].tobytes() == tensor.tobytes()
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model.safetensors"]


def test_the_fingerprint_is_of_what_decides_a_prediction():
    bundle = make_bundle()
    assert make_bundle(metrics={"accuracy": 1.0}, description="x").fingerprint == bundle.fingerprint
    assert make_bundle(training={"seed": "1"}, notes="x").fingerprint == bundle.fingerprint
    assert make_bundle(windows=sr.Every(2.0)).fingerprint != bundle.fingerprint
    assert make_bundle(seed=1).fingerprint != bundle.fingerprint


@pytest.mark.slow
def test_loading_and_predicting_needs_no_torch(saved):
    code = (
        "import sys; sys.modules.update(torch=None, torchcde=None, pysiglib=None)\n"
        "import streamrde as sr, numpy as np\n"
        f"bundle = sr.load({str(saved)!r})\n"
        "print(len(sr.Predictor(bundle).push_many([0., 5.], np.ones((2, 2)))))\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('aiomqtt', 'typer', 'rich', 'sqlite3')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["5", "[]"]


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.99])
def test_a_model_file_cut_short_is_refused(saved, keep):
    data = saved.read_bytes()
    saved.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(BundleError, match=r"model\.safetensors: not a whole safetensors file"):
        sr.load(saved)


def test_a_tensor_of_the_wrong_shape_or_dtype_is_named(saved):
    rewrite(saved, tensors={"readout.bias": np.zeros(4, np.float32)})
    with pytest.raises(BundleError, match=r"'readout.bias' is float32 \(4,\); the header asks for float32 \(3,\)"):
        sr.load(saved)
    rewrite(saved, tensors={"readout.bias": np.zeros(3)})
    with pytest.raises(BundleError, match="is float64"):
        sr.load(saved)


def test_a_tensor_too_many_or_not_finite_is_named(saved):
    original = saved.read_bytes()
    rewrite(saved, tensors={"extra": np.zeros(1)})
    with pytest.raises(BundleError, match="'extra' is not part"):
        sr.load(saved)
    saved.write_bytes(original)
    rewrite(saved, tensors={"readout.bias": np.array([0, np.nan, 0], np.float32)})
    with pytest.raises(BundleError, match="not finite"):
        sr.load(saved)


@pytest.mark.parametrize(
    ("header", "match"),
    [
        ({"format": 99}, "format 99"),
        ({"solver": "dopri5"}, r"\$\.solver"),
        ({"depth": 0}, r"\$\.depth"),
        ({"depth": 10**9}, r"\$\.depth"),
        ({"windows": {"policy": "every", "seconds": -1}}, r"\$\.windows"),
        ({"surprise": 1}, "surprise"),
        ({"depth": 4}, "the header asks for"),
        ({"labels": ["one"]}, "labels has 1 entries"),
        ({"channels": [{"name": "a"}, {"name": "a"}]}, "a name twice"),
        ({"channels": []}, "at least one data channel"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_header_that_cannot_work_is_refused(saved, header, match):
    rewrite(saved, header=header)
    with pytest.raises(BundleError, match=match):
        sr.load(saved)


def test_files_that_are_no_models_are_refused(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere.*No such file"):
        sr.load(tmp_path / "nowhere")
    (tmp_path / "other").write_bytes(safetensors.numpy.save({"a": np.zeros(2)}))
    with pytest.raises(BundleError, match="not a streamrde model"):
        sr.load(tmp_path / "other")
    (tmp_path / "text").write_text("hello, I am no model")
    with pytest.raises(BundleError, match="not a whole safetensors file"):
        sr.load(tmp_path / "text")


def test_the_header_is_json_that_others_can_read(saved):
    data = saved.read_bytes()
    (size,) = struct.unpack_from("<Q", data)
    header = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["streamrde"])
    assert header["windows"] == {"policy": "every", "seconds": 1.0, "align": "first"}
    assert header["channels"][0] == {"name": "a", "unit": "m/s2", "fill": 0.25}
    decoded = msgspec.json.decode(json.dumps(header), type=sr.Header)
    assert msgspec.structs.replace(decoded, format=FORMAT) == sr.load(saved).header


def test_a_file_that_is_too_long_is_refused_unread(tmp_path):
    path = tmp_path / "model.safetensors"
    with path.open("wb") as file:
        file.truncate((4 << 30) + 1)  # sparse: nothing is written
    with pytest.raises(BundleError, match="4294967297 bytes, more than"):
        sr.load(path)
