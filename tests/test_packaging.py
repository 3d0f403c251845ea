"""The files from which packages are made agree with pyproject.toml and with what the package needs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "docs" / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert [citation[key] for key in ("title", "version", "license", "abstract")] == [
        PROJECT[key] for key in ("name", "version", "license", "description")
    ]


def requirement(text: str) -> tuple[str, str]:
    """Name and versions of a requirement, in one spelling."""
    name, versions = re.fullmatch(r"([\w.-]+)\s*(.*)", text).groups()
    return name.lower().replace("_", "-"), versions.strip()


def test_the_conda_recipe_asks_for_what_the_package_asks_for():
    recipe = yaml.safe_load((ROOT / ".github" / "conda" / "recipe.yaml").read_text())
    assert recipe["context"]["version"] == PROJECT["version"]
    run = {requirement(text) for text in recipe["requirements"]["run"]}
    assert run == {requirement(text) for text in PROJECT["dependencies"]} | {("python", PROJECT["requires-python"])}
    scripts = [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]
    assert recipe["build"]["python"]["entry_points"] == scripts


def test_a_source_distribution_without_git_has_the_sources_and_nothing_else(tmp_path):
    pytest.importorskip("scikit_build_core", reason="scikit-build-core is not installed")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("streamrde", "docs", "configs", "examples", ".github"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.parquet"))
    (tree / "tests").mkdir()
    (tree / "tests" / "test_one.py").touch()
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", ".gitignore"):
        shutil.copy(ROOT / name, tree / name)
    for stray in (
        ".venv/lib/tests/a.py",
        ".venv/lib/streamrde/b.py",
        "venv/lib/docs/c.md",
        "runs/d/tests/e.py",
        "streamrde/__pycache__/f.pyc",
    ):
        (tree / stray).parent.mkdir(parents=True)
        (tree / stray).touch()
    program = "from scikit_build_core.build import build_sdist; print(build_sdist('dist'))"
    subprocess.run([sys.executable, "-c", program], cwd=tree, check=True, capture_output=True)
    (made,) = (tree / "dist").glob("*.tar.gz")
    with tarfile.open(made) as archive:
        names = {Path(*Path(name).parts[1:]) for name in archive.getnames()}
    tops = {name.parts[0] for name in names}
    assert tops == {
        "streamrde", "tests", "examples", "configs", "docs",
        "CHANGELOG.md", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml",
    }  # fmt: skip
    sources = {path.relative_to(tree) for path in (tree / "streamrde").rglob("*.?pp")}
    assert sources
    assert {*sources, Path("docs/CITATION.cff"), Path("tests/test_one.py")} <= names
    assert not any("__pycache__" in name.parts for name in names)
