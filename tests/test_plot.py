"""Plots show what they are given, with units, on axes of one's own too."""

import subprocess
import sys

import matplotlib
import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import streamrde as sr
from streamrde import plot
from streamrde.demo.watch_data import COLUMNS, MODEL
from streamrde.errors import ParameterError, ShapeError
from streamrde.signature.words import lyndon_words

matplotlib.use("Agg")
BUNDLE = sr.load(MODEL)
NAMES = [channel.name for channel in BUNDLE.header.channels]
UNITS = [channel.unit for channel in BUNDLE.header.channels]


@pytest.fixture(scope="module")
def watch():
    table = pq.read_table(sorted(MODEL.parent.glob("*.parquet"))[0])
    stream = table["stream_id"][0].as_py()
    table = table.filter(pc.equal(table["stream_id"], stream)).slice(0, 500)
    t, x = np.array(table["t"]), np.column_stack([np.array(table[name]) for name in COLUMNS.channels])
    return t, x, sr.Fleet(BUNDLE, novelty=True).push([stream] * len(t), t, x), table["label"][0].as_py()


@pytest.fixture(autouse=True)
def closed():
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def texts(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def test_a_recording_has_a_lane_for_each_channel_and_bars_for_its_classes(watch):
    t, x, predictions, label = watch
    ax = plot.recording(t, x, predictions, truth=label, channels=NAMES, units=UNITS, title="one")
    assert [text.split("\n")[0] for text in texts(ax)] == [
        *(f"{name} [{unit}]" for name, unit in zip(NAMES, UNITS, strict=True)),
        "predicted",
        "truth",
    ]
    # The line of a channel has its shape, and its label the range.
    line = ax.lines[0].get_ydata()
    assert np.corrcoef(line, x[:, 0])[0, 1] == pytest.approx(1.0)
    assert texts(ax)[0].endswith(f"{x[:, 0].min():.3g} to {x[:, 0].max():.3g}")
    assert len(ax.collections) == 2 * predictions.num_rows
    bars = [bar.get_paths()[0].get_extents() for bar in ax.collections[: predictions.num_rows]]
    assert [bar.x0 for bar in bars] == predictions["t_start"].to_pylist()
    assert [bar.x1 for bar in bars] == pytest.approx(predictions["t_end"].to_pylist())
    assert ax.get_xlabel() == "time [s]"


def test_numbers_are_steps_beside_the_truth_on_given_axes():
    from matplotlib import pyplot

    rows = [{"stream": "s", "t_start": i, "t_end": i + 1.0, "value": [i * 2.0], "label": None} for i in range(4)]
    _, (above, below) = pyplot.subplots(2)
    ax = plot.recording([0, 1, 2, 3], [1.0, np.nan, 3.0, 3.0], rows, truth=[0.0, 1.0, 2.0, 8.0], ax=below)
    assert ax is below
    assert not above.lines
    assert texts(ax) == ["channel 1\n1 to 3", "predicted\n0 to 8"]
    named = {line.get_label(): line for line in ax.lines}
    assert named["predicted"].get_ydata()[0] == named["truth"].get_ydata()[0] == -1.0
    assert named["truth"].get_ydata()[-1] == pytest.approx(-1.0 + 0.8)
    assert len(ax.lines[0].get_xdata()) == 3  # what was not observed is left out


def test_a_recording_needs_no_predictions_and_may_be_flat_or_empty():
    ax = plot.recording([0.0, 1.0], np.zeros((2, 1)), edges=[0.5], channels=["price $"])
    assert texts(ax) == ["price \\$\n0 to 0"]
    plot.recording([], np.empty((0, 2)))
    ax.figure.canvas.draw()


def test_a_log_signature_has_a_bar_for_each_word():
    values = np.arange(14.0)
    ax = plot.logsignature(values, ["t", "ax", "ay"], 3)
    assert [bar.get_height() for bars in ax.containers for bar in bars] == values.tolist()
    assert [label.get_text() for label in ax.get_xticklabels()][:5] == ["t", "ax", "ay", "t·ax", "t·ay"]
    assert len(lyndon_words(3, 3)) == 14
    assert plot.logsignature(np.zeros(3), 3, 1).get_xticklabels()[0].get_text() == "1"


def test_rare_windows_are_marked(watch):
    predictions = watch[2]
    ax = plot.novelty(predictions, level=0.3)
    line, marked = ax.lines[:2]
    p = np.array(predictions["novelty"].to_pylist())
    np.testing.assert_array_equal(line.get_ydata(), p)
    np.testing.assert_array_equal(marked.get_ydata(), p[p < 0.3])
    assert 0 < len(marked.get_ydata()) < len(p)
    many = [{"stream": f"s{i}", "t_end": 1.0, "novelty": 0.0} for i in range(10)]
    legend = plot.novelty(many).get_legend()
    assert [text.get_text() for text in legend.get_texts()][-1] == "2 more"


@pytest.mark.parametrize(
    ("draw", "error", "text"),
    [
        (lambda: plot.recording([0, 1], np.zeros((3, 2))), ShapeError, "a row for each time"),
        (lambda: plot.recording([0], [[1, 2]], channels=["a"]), ShapeError, "channels has 1 names"),
        (lambda: plot.logsignature(np.zeros(4), 3, 1), ShapeError, r"\(3,\)"),
        (lambda: plot.novelty([{"stream": "s", "t_end": 1.0}]), ParameterError, "novelty = true"),
        (lambda: plot.novelty([], level=1.0), ParameterError, "between 0 and 1"),
        (lambda: plot.recording([0], [1], [{"stream": s} for s in "ab"]), ParameterError, "of 2 streams"),
        (
            lambda: plot.recording([0], [1], [{"stream": "a", "t_start": 0, "t_end": 1, "value": [1]}], truth=[1, 2]),
            ShapeError,
            "truth has 2 values",
        ),
    ],
)
def test_what_does_not_fit_is_an_error(draw, error, text):
    with pytest.raises(error, match=text):
        draw()


def test_without_matplotlib_the_extra_is_named():
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from streamrde import plot\n"
        "try: plot.logsignature([0.0], 1, 1)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'streamrde[plot]'" in done.stdout
