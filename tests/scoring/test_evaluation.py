"""Measures against their definitions, computed the slow way."""

import naive
import numpy as np
import pyarrow as pa
import pytest
from bundles import make_bundle
from scoring_data import by_key, make_model, make_table, predict, write
from typer.testing import CliRunner

import streamrde as sr
from streamrde.cli import app
from streamrde.errors import ConfigError
from streamrde.inference.header import Head
from streamrde.scoring.evaluation import Evaluation


def test_a_classification_is_measured_over_windows_and_at_the_ends(tmp_path, model):
    table = make_table()
    kinds = table["kind"].to_pylist()
    kinds[:60] = ["unheard of"] * 60
    source = write(table.set_column(4, "kind", pa.array(kinds)), tmp_path / "in" / "a.parquet")
    found = sr.score(source, model, out=tmp_path / "out.parquet", truth=["kind"], jobs=1).evaluation
    rows = [row | {"true": "xyz"[int(row["stream"][1:]) % 3]} for row in predict(model, table).values()]
    known = [row for row in rows if row["stream"] != "s0"]
    assert found["unknown"] == len(rows) - len(known)
    assert found["windows"] == len(known)
    assert found["accuracy"] == pytest.approx(np.mean([row["label"] == row["true"] for row in known]))
    last = {row["stream"]: row for row in known}
    assert found["accuracy_at_end"] == pytest.approx(np.mean([row["label"] == row["true"] for row in last.values()]))
    areas = [
        naive.area_under_roc([row["true"] == c for row in last.values()], [row["value"][i] for row in last.values()])
        for i, c in enumerate("xyz")
        if len({row["true"] == c for row in last.values()}) == 2
    ]
    assert found["auc_at_end"] == pytest.approx(np.mean(areas))
    assert found["average_precision_at_end"] is None  # of two classes only
    loss = [-np.log(row["value"]["xyz".index(row["true"])]) for row in known]
    assert found["log_loss"] == pytest.approx(np.mean(loss), rel=1e-5)
    for i, true in enumerate("xyz"):
        for j, predicted in enumerate("xyz"):
            count = sum(row["true"] == true and row["label"] == predicted for row in known)
            assert found["confusion"][i][j] == count
        hits = sum(row["true"] == row["label"] == true for row in known)
        all_ = sum((row["true"] == true) + (row["label"] == true) for row in known)
        assert found["f1"][true] == (pytest.approx(2 * hits / all_) if all_ else None)


def test_the_truth_of_a_window_is_that_of_its_last_sample(tmp_path):
    model = make_model(tmp_path, task="regression", labels=("u", "v"), units=("bpm", ""), outputs=2)
    table = make_table(5, interleaved=True)
    u = np.sin(np.arange(table.num_rows))
    u[::5] = np.nan
    table = table.append_column("u", pa.array(u)).append_column("v", pa.array(np.arange(table.num_rows)))
    source = write(table, tmp_path / "in" / "a.parquet")
    out = tmp_path / "out.parquet"
    found = sr.score(source, model, out=out, truth=["u", "v"], batch_rows=7).evaluation
    written = by_key(pa.parquet.read_table(out))
    samples = table.to_pylist()
    errors = {"u": [], "v": []}
    last = {}
    for (stream, _), row in written.items():
        before = [s for s in samples if s["stream_id"] == stream and s["t"] <= row["t_end"]]
        assert row["true_v"] == before[-1]["v"]
        np.testing.assert_equal(row["true_u"], before[-1]["u"])
        for i, name in enumerate("uv"):
            errors[name].append(row["value"][i] - row[f"true_{name}"])
            if np.isfinite(errors[name][-1]):
                last.setdefault(stream, {})[name] = errors[name][-1]
    for name, values in errors.items():
        e = np.array(values)[np.isfinite(values)]
        measured = found[name]
        assert measured["windows"] == len(e)
        assert measured["rmse"] == pytest.approx(np.sqrt(np.mean(e**2)), rel=1e-5)
        assert measured["mae"] == pytest.approx(np.mean(np.abs(e)), rel=1e-5)
        ends = [v for v in (by_stream[name] for by_stream in last.values()) if np.isfinite(v)]
        assert measured["rmse_at_end"] == pytest.approx(np.sqrt(np.mean(np.square(ends))), rel=1e-5)
        assert measured["bias"] == pytest.approx(np.mean(e), rel=1e-4)
        for q in (50, 90, 95, 99):
            exact = np.quantile(np.abs(e), q / 100, method="inverted_cdf")
            assert measured[f"q{q}"] == pytest.approx(exact, rel=0.0051)
    assert found["u"]["unit"] == "bpm"


def test_heads_are_measured_one_by_one(tmp_path):
    heads = (
        Head(name="kind", task="classification", outputs=2, labels=("x", "y")),
        Head(name="size", outputs=1, units=("m",)),
    )
    model = make_model(tmp_path, heads=heads, task="regression", labels=(), outputs=3)
    table = make_table(4).append_column("size", pa.array(np.ones(240)))
    found = sr.score(
        write(table, tmp_path / "in" / "a.parquet"), model, out=tmp_path / "out.parquet", truth=["kind", "size"]
    ).evaluation
    written = pa.parquet.read_table(tmp_path / "out.parquet")
    right = [row["label_kind"] == row["true_kind"] for row in written.to_pylist() if row["true_kind"] != "z"]
    assert found["kind"]["accuracy"] == pytest.approx(np.mean(right))
    errors = [row["value"][2] - 1 for row in written.to_pylist()]
    assert found["size"]["size"]["mae"] == pytest.approx(np.mean(np.abs(errors)), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "truth"),
    [({"task": "regression", "labels": ("u", "v", "w")}, ("u",)), ({}, ("kind", "other"))],
)
def test_the_truth_must_fit_the_task(changes, truth):
    with pytest.raises(ConfigError, match="one with the class of a classification, one per output of a regression"):
        Evaluation(make_bundle(**changes).header, truth)


@pytest.mark.parametrize(("jobs", "groups"), [(1, 1), (2, 3)])
@pytest.mark.parametrize("interleaved", [False, True])
def test_truth_of_a_model_that_looks_ahead_is_what_is_known_so_much_later(tmp_path, interleaved, jobs, groups):
    model = make_model(
        tmp_path, task="regression", labels=("u", "v"), units=("", ""), outputs=2, horizon=1.5, target_at="window"
    )
    table = make_table(5, interleaved=interleaved)
    u = np.sin(np.arange(table.num_rows))
    u[::3] = np.nan
    table = table.append_column("u", pa.array(u)).append_column("v", pa.array(np.arange(table.num_rows)))
    source = write(table, tmp_path / "in" / "a.parquet")
    out = tmp_path / "out.parquet"
    found = sr.score(source, model, out=out, truth=["u", "v"], batch_rows=7, jobs=jobs, groups=groups).evaluation
    rows, errors = table.to_pylist(), {"u": [], "v": []}
    for row in pa.parquet.read_table(out).to_pylist():
        own = sorted((r for r in rows if r["stream_id"] == row["stream"]), key=lambda r: r["t"])
        seen = any(row["t_start"] < r["t"] <= row["t_end"] for r in own)
        for i, name in enumerate("uv"):
            later = [
                r[name]
                for r in own
                if row["t_start"] + 1.5 < r["t"] <= row["t_end"] + 1.5 and not np.isnan(r[name]) and seen
            ]
            assert row[f"true_{name}"] == (later[-1] if later else None)
            errors[name] += [row["value"][i] - later[-1]] if later else []
    for name in "uv":
        assert found[name]["windows"] == len(errors[name]) > 10
        assert found[name]["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors[name]))), rel=1e-5)


def test_classes_ahead_are_looked_up_too(tmp_path):
    model = make_model(tmp_path, horizon=2.0, target_at="window")
    table = make_table(4)
    kinds = pa.array(["xyz"[i // 7 % 3] for i in range(table.num_rows)])
    source = write(table.set_column(4, "kind", kinds), tmp_path / "in" / "a.csv")
    out = tmp_path / "out.parquet"
    found = sr.score(source, model, out=out, truth=["kind"]).evaluation
    rows = table.set_column(4, "kind", kinds).to_pylist()
    known = 0
    for row in pa.parquet.read_table(out).to_pylist():
        later = [r["kind"] for r in rows if r["stream_id"] == row["stream"] and r["t"] <= row["t_end"] + 2.0]
        inside = [r for r in rows if r["stream_id"] == row["stream"] and row["t_start"] < r["t"] <= row["t_end"]]
        last = [r["t"] for r in rows if r["stream_id"] == row["stream"] and r["t"] <= row["t_end"] + 2.0][-1]
        expected = later[-1] if inside and last > row["t_start"] + 2.0 else None
        assert row["true_kind"] == expected
        known += expected is not None
    assert found["windows"] == known > 10


def test_truth_for_another_horizon_gives_no_table_and_the_reason(tmp_path):
    model = make_model(tmp_path, task="regression", labels=("u",), units=("",), outputs=1, horizon=2.0)
    table = make_table().append_column("u", pa.array(np.arange(12 * 60.0)))
    ahead = table.schema.field("u").with_metadata({"streamrde.horizon": "5.0"})
    table = table.cast(table.schema.set(5, ahead))
    source = write(table, tmp_path / "in" / "a.parquet")
    summary = sr.score(source, model, out=tmp_path / "out.parquet", truth=["u"])
    assert summary.evaluation is None
    assert "has the truth 5 s ahead, and the model predicts 2 s" in summary.unmeasured
    assert pa.parquet.read_table(tmp_path / "out.parquet")["true_u"].null_count == summary.predictions
    command = ["score", str(source), "-m", str(model), "-o", str(tmp_path / "p.parquet"), "--evaluate", "u"]
    shown = CliRunner().invoke(app, command).output
    assert "not measured: " in shown
    assert "rmse" not in shown


def test_a_stream_of_predictions_cannot_look_ahead(tmp_path):
    model = make_model(tmp_path, task="regression", labels=("u",), units=("",), outputs=1, horizon=2.0)
    table = make_table().append_column("u", pa.array(np.arange(12 * 60.0)))
    with pytest.raises(ConfigError, match="cannot look ahead for its truth; give `out`"):
        sr.score(table, sr.load(model), truth=["u"])


def test_streams_without_a_prediction_are_counted_and_named(tmp_path, model):
    table = make_table()
    names = table["stream_id"].to_pylist()
    short = table.take([i for i, name in enumerate(names) if name not in ("s3", "s7")])
    one = table.take([names.index("s3"), names.index("s7")])
    source = write(pa.concat_tables([short, one]), tmp_path / "in" / "a.parquet")
    summary = sr.score(source, model, out=tmp_path / "out.parquet")
    assert (summary.streams, summary.silent, summary.silent_examples) == (12, 2, ("s3", "s7"))
    command = ["score", str(source), "-m", str(model), "-o", str(tmp_path / "p.parquet")]
    shown = CliRunner().invoke(app, command).output
    assert "10 of 12 streams" in shown
    assert "2 streams without a window, hence without a prediction ('s3', 's7'): they have fewer than two" in shown
    whole = write(short, tmp_path / "other" / "a.parquet")
    assert sr.score(whole, model, out=tmp_path / "q.parquet").silent == 0


def test_the_measures_stand_beside_those_of_one_answer_to_everything(tmp_path, model):
    table = make_table()
    kinds = pa.array(["x"] * 500 + ["y"] * 220)
    source = write(table.set_column(4, "kind", kinds), tmp_path / "in" / "a.parquet")
    found = sr.score(source, model, out=tmp_path / "out.parquet", truth=["kind"]).evaluation
    true = pa.parquet.read_table(tmp_path / "out.parquet")["true_kind"].to_pylist()
    assert found["majority"] == "x"
    assert found["majority_accuracy"] == pytest.approx(np.mean([kind == "x" for kind in true]))
    command = ["score", str(source), "-m", str(model), "-o", str(tmp_path / "p.parquet"), "--evaluate", "kind"]
    shown = CliRunner().invoke(app, command).output
    assert "always 'x', all windows" in shown
    assert any(line.startswith("done: ") and "% of" in line for line in shown.splitlines()[-2:])
    assert ("warning: the model is right in" in shown) == (found["accuracy"] < found["majority_accuracy"])


def test_a_regression_stands_beside_the_mean_of_the_truth(tmp_path):
    model = make_model(tmp_path, task="regression", labels=("u",), units=("",), outputs=1)
    table = make_table().append_column("u", pa.array(1e8 + np.arange(12 * 60.0)))
    source = write(table, tmp_path / "in" / "a.parquet")
    found = sr.score(source, model, out=tmp_path / "out.parquet", truth=["u"], batch_rows=50).evaluation["u"]
    true = pa.parquet.read_table(tmp_path / "out.parquet")["true_u"].to_numpy()
    assert found["mean_rmse"] == pytest.approx(true.std(), rel=1e-9)
    assert found["r2"] == pytest.approx(1 - (found["rmse"] / true.std()) ** 2)
    command = ["score", str(source), "-m", str(model), "-o", str(tmp_path / "p.parquet"), "--evaluate", "u"]
    shown = CliRunner().invoke(app, command).output
    assert "warning: the model of 'u' has rmse" in shown
    assert "rmse of the mean" in shown
    assert shown.splitlines()[-2].startswith("done: 'u' rmse")


def test_of_a_model_that_looks_ahead_it_is_said_what_the_truth_is(tmp_path):
    model = make_model(tmp_path, task="regression", labels=("u",), units=("bpm",), outputs=1, horizon=30.0)
    table = make_table()
    source = write(table.append_column("u", pa.array(np.arange(table.num_rows))), tmp_path / "in" / "a.parquet")
    command = ["score", str(source), "-m", str(model), "-o", str(tmp_path / "out.parquet")]
    told = "truth: the model predicts 30 s ahead"
    assert told in CliRunner().invoke(app, [*command, "--evaluate", "u"]).output
    assert told not in CliRunner().invoke(app, command).output


def test_one_logit_is_measured_as_the_probability_of_its_second_class(tmp_path):
    model = make_model(tmp_path, outputs=1, labels=("x", "y"))
    table = make_table()
    source = write(table, tmp_path / "in" / "a.parquet")
    found = sr.score(source, model, out=tmp_path / "out.parquet", truth=["kind"], jobs=1).evaluation
    rows = [row | {"true": "xyz"[int(row["stream"][1:]) % 3]} for row in predict(model, table).values()]
    known = [row for row in rows if row["true"] != "z"]
    assert found["unknown"] == len(rows) - len(known)
    assert found["labels"] == ["x", "y"]
    assert found["accuracy"] == pytest.approx(np.mean([row["label"] == row["true"] for row in known]))
    own = [row["value"][0] if row["true"] == "y" else 1 - row["value"][0] for row in known]
    assert found["log_loss"] == pytest.approx(-np.mean(np.log(np.maximum(own, np.finfo(np.float32).tiny))), rel=1e-4)
    last = {row["stream"]: row for row in known}.values()
    area = naive.area_under_roc([row["true"] == "y" for row in last], [row["value"][0] for row in last])
    assert found["auc_at_end"] == pytest.approx(area)
