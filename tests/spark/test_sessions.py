"""What a session lacks is named before a query starts. None of this starts Java."""

import importlib.util
import os
import subprocess
import sys

import pytest

from streamrde.errors import ConfigError, MissingExtraError
from streamrde.spark import sessions


@pytest.fixture
def java(tmp_path, monkeypatch):
    """Make a java that says its version, and put it alone on the PATH."""
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(version):
        path = tmp_path / "java"
        path.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2026-01-01' >&2\n")
        path.chmod(0o755)

    return make


def test_java_that_is_missing_or_old_is_named_with_the_package_to_install(java, monkeypatch, tmp_path):
    with pytest.raises(ConfigError, match=r"no java on the PATH: install it .*apt-get install openjdk-17-jre-headless"):
        sessions.check_java()
    java("1.8.0_392")
    with pytest.raises(ConfigError, match=r"Java 17 or later, and .*1\.8\.0_392.*openjdk-17-jre-headless"):
        sessions.check_java()
    java("21.0.2")
    sessions.check_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"JAVA_HOME = .*nowhere: .* does not run"):
        sessions.check_java()


@pytest.mark.parametrize("package", ["pyspark", "pandas", "google.protobuf"])
def test_packages_that_are_missing_are_named_with_the_extra(package, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(sessions, "find_spec", lambda name: None if name == package else found(name))
    with pytest.raises(MissingExtraError, match=rf"{package} is missing; .*pip install 'streamrde\[spark\]'"):
        sessions.check_packages()


class Context:
    master = "local[2]"
    pythonExec = "/usr/bin/python3-of-another"


def test_workers_with_another_python_are_refused(monkeypatch):
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    with pytest.raises(
        ConfigError, match=r"PYSPARK_PYTHON=.*before the session starts, or .*streamrde\.spark\.session"
    ):
        sessions._check_python(Context())
    monkeypatch.setattr(Context, "pythonExec", sys.executable)
    sessions._check_python(Context())
    monkeypatch.setattr(Context, "pythonExec", "/elsewhere/python3")
    monkeypatch.setenv("PYSPARK_PYTHON", "/elsewhere/python3")  # chosen on purpose
    sessions._check_python(Context())


def test_importing_brings_no_pyspark():
    code = "import sys, streamrde, streamrde.spark; assert not {'pyspark', 'pandas'} & {m for m in sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
