"""The ONNX graph of a reservoir does what its stepper does, and needs no torch."""

import subprocess
import sys

import numpy as np
import pytest
from bundles import make_bundle, make_recording, make_reservoir

from streamrde import Features, Head, Predictor
from streamrde.errors import BundleError, ConfigError, ParameterError
from streamrde.features import Block, FeatureSpec, Pool
from streamrde.features.expansion import Expansion
from streamrde.inference.steppers.onnx import OnnxStepper
from streamrde.windowing.tokens import Scale, Token

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

TOKEN = Token(scales=(Scale(1), Scale(3)), ends=True, summaries=True)
SPEC = FeatureSpec(
    blocks=(
        Block(directions=9, scales=(0,), ends=True),
        Block(directions=33, scales=(0, 1), summaries=True, nonzeros=(4, 0)),
    ),
    pools=(
        Pool("share"),
        Pool("share", half_life=3.0),
        Pool("mean", rising=True),
        Pool("mean", half_life=8.0),
        Pool("max"),
        Pool("last"),
        Pool("share", "ends"),
        Pool("mean", "token", 3.0),
        Pool("mean", "logsigs", rising=True),
        Pool("max", "summaries"),
        Pool("last", "logsigs"),
    ),
)
RIVALS = FeatureSpec(
    blocks=SPEC.blocks,
    pools=(
        Pool("best"),
        Pool("best", half_life=4.0, stretched=True, blocks=(1, 2)),
        Pool("share", stretched=True),
        Pool("mean", blocks=(0, 1)),
        Pool("mean", "token"),
    ),
    squash="root",
)
HEADS = (Head(name="a", outputs=2, task="classification"), Head(name="b", outputs=1))
MODELS = {
    "classes": make_reservoir(spec=SPEC, token=TOKEN),
    "rivals and roots": make_reservoir(spec=RIVALS, token=TOKEN),
    "roots alone": make_reservoir(spec=FeatureSpec(pools=(Pool("mean", "token"),), squash="root")),
    "numbers": make_reservoir(spec=SPEC, token=TOKEN, task="regression", labels=(), value_dtype="float64"),
    "two classes": make_reservoir(outputs=1, labels=("x", "y")),
    "heads": make_reservoir(heads=HEADS, labels=()),
    "no random part": make_reservoir(spec=FeatureSpec(pools=(Pool("mean", "token"),)), token=TOKEN),
}


def session(bundle, path):
    from streamrde.models import export_onnx

    export_onnx(bundle, path)
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_gives_the_predictions_of_streams(name, tmp_path):
    bundle = MODELS[name]
    graph = session(bundle, tmp_path / "step.onnx")
    recordings = [make_recording(seed, 40, missing=0.2) for seed in (1, 2)]
    tokens = Features(bundle, of="tokens")
    rows = [tokens.to_numpy(tokens.table(["s"] * len(t), t, x)) for t, x in recordings]
    count = min(map(len, rows))
    assert count > 5
    expected = [Predictor(bundle).push_many(t, x)[:count] for t, x in recordings]
    z = np.zeros((2, bundle.header.hidden))
    for k in range(count - 1):
        z, output = graph.run(["z_next", "output"], {"z": z, "logsig": np.stack([own[k] for own in rows])})
        assert output.dtype == bundle.header.output_dtype
        np.testing.assert_allclose(output, [own[k].value for own in expected], rtol=2e-5, atol=2e-5)


def test_infinite_tokens_are_clipped(tmp_path):
    bundle = MODELS["classes"]
    graph = session(bundle, tmp_path / "step.onnx")
    token = np.where(np.arange(bundle.header.logsig_channels) % 2, np.inf, -np.inf)[None]
    z = np.zeros((1, bundle.header.hidden))
    from streamrde.inference.steppers import make_stepper

    (after,) = graph.run(["z_next"], {"z": z, "logsig": token})
    np.testing.assert_allclose(after, make_stepper(bundle).step(z, token), rtol=1e-5, atol=1e-5)


def test_export_imports_no_torch(tmp_path):
    make_reservoir().save(tmp_path / "m.safetensors")
    code = (
        "import sys; from streamrde.cli import main; sys.argv = ['streamrde', 'export', 'm.safetensors', 's.onnx']\n"
        "try: main()\nexcept SystemExit: pass\nprint(sorted({'torch', 'onnxscript'} & sys.modules.keys()))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, text=True)
    assert "s.onnx: z (float64, n x " in told.stdout
    assert told.stdout.endswith("[]\n")
    assert (tmp_path / "s.onnx").stat().st_size > 1000


def test_what_has_no_such_graph_is_refused(tmp_path):
    from streamrde.cli.export import export
    from streamrde.models.reservoir_graph import reservoir_graph

    with pytest.raises(ParameterError, match="field 'mlp' is no reservoir"):
        reservoir_graph(make_bundle())
    with pytest.raises(ParameterError, match="takes ranks of its features"):
        reservoir_graph(make_reservoir(expansion=Expansion(quantiles=9, pairs=5)))
    session(MODELS["classes"], tmp_path / "step.onnx")
    with pytest.raises(ParameterError, match="needs no OnnxStepper"):
        OnnxStepper(MODELS["classes"], tmp_path / "step.onnx")
    with pytest.raises(ConfigError, match=r"call it step\.onnx"):
        export(tmp_path / "m.safetensors", tmp_path / "step.txt")
    with pytest.raises(BundleError):
        export(tmp_path / "absent.safetensors", tmp_path / "step.onnx")
