"""aeon's and sktime's own checks of their base classes, and their data."""

import subprocess
import sys

import numpy as np
import pytest
from test_sklearn_checks import FIRST, waves

from streamrde.sklearn import NeuralRDEClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # both warn of their dependencies, and of their own checks
    pytest.mark.slow,
]


@pytest.mark.parametrize("name", ["NeuralRDEClassifier", "NeuralRDERegressor"])
def test_the_checks_of_aeon_pass(name):
    pytest.importorskip("aeon")
    from aeon.testing.estimator_checking import check_estimator

    import streamrde.aeon

    ran = check_estimator(getattr(streamrde.aeon, name))
    assert len(ran) >= 25
    assert set(ran.values()) == {"PASSED"}


@pytest.mark.parametrize("name", ["NeuralRDEClassifier", "NeuralRDERegressor"])
def test_the_checks_of_sktime_pass(name):
    pytest.importorskip("sktime")
    from sktime.utils.estimator_checks import check_estimator

    import streamrde.sktime

    ran = check_estimator(getattr(streamrde.sktime, name)(choice=FIRST), verbose=False)
    assert len(ran) >= 45
    assert {check: how for check, how in ran.items() if how != "PASSED"} == {}


def test_both_give_the_answers_of_the_estimator_they_wrap():
    pytest.importorskip("aeon")
    pytest.importorskip("sktime")
    import streamrde.aeon
    import streamrde.sktime

    X, y = waves()
    cut = [own[:, : 40 - i] for i, own in enumerate(X)]
    wanted = NeuralRDEClassifier(choice=FIRST).fit(cut, y).predict_proba(cut)
    assert np.array_equal(streamrde.aeon.NeuralRDEClassifier(choice=FIRST).fit(cut, y).predict_proba(cut), wanted)
    import pandas as pd

    frames = [pd.DataFrame(own.T) for own in cut]
    assert np.array_equal(
        streamrde.sktime.NeuralRDEClassifier(choice=FIRST).fit(frames, y).predict_proba(frames), wanted
    )


@pytest.mark.parametrize("name", ["aeon", "sktime"])
def test_a_missing_extra_names_the_command(name):
    code = f"import sys; sys.modules['{name}'] = None; import streamrde.{name}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"pip install 'streamrde[{name}]'" in done.stderr
