"""The shape of the package: who may import whom, and what comes in at import."""

import ast
import pathlib
import subprocess
import sys

import pytest

import streamrde

ROOT = pathlib.Path(streamrde.__file__).parent
EVERYWHERE = {"arrays", "disk", "errors", "floats", "nearest", "settings", "snapshots", "tables", "times", "toml"}
ARROWS = {
    "kernels": set(),
    "signature": {"kernels"},
    "windowing": {"signature", "kernels"},
    "features": {"signature", "windowing", "kernels"},
    "adapting": {"kernels"},
    "inference": {"adapting", "features", "signature", "windowing", "kernels"},
    "connectors": set(),
    "state": set(),
    "pages": set(),
    "testing": {"connectors"},
    "plot": {"inference", "signature"},
    "runtime": {"adapting", "inference", "connectors", "state"},
    "scoring": {"adapting", "inference", "connectors", "state", "windowing"},
    "spark": {"scoring", "inference", "connectors", "windowing"},
    "fitting": {"adapting", "inference", "features", "signature", "windowing", "kernels", "connectors", "pages"},
    "looking": {"inference", "fitting", "connectors"},
    "models": {
        "adapting",
        "fitting",
        "features",
        "inference",
        "signature",
        "windowing",
        "kernels",
        "connectors",
        "hub",
        "pages",
    },
    "sklearn": {"fitting", "models", "inference", "signature", "windowing", "connectors"},
    "aeon": {"sklearn"},
    "river": {"adapting", "inference", "windowing"},
    "hub": {"inference", "windowing"},
    "mlflow": {"scoring", "inference", "windowing"},
    "sktime": {"sklearn"},
    "page": {"runtime", "inference", "connectors"},
    "cluster": {"runtime", "inference", "connectors", "state"},
    "config": {"page", "adapting", "cluster", "runtime", "inference", "connectors", "state", "windowing"},
    "demo": {"page", "runtime", "inference", "connectors"},
    "bench": {"models", "inference", "features", "signature", "windowing", "kernels"},
    "cli": {
        "bench",
        "kernels",
        "cluster",
        "config",
        "runtime",
        "state",
        "inference",
        "connectors",
        "fitting",
        "looking",
        "models",
        "demo",
        "page",
        "scoring",
        "pages",
    },
}
FOREIGN = {
    "torch": {"models", "bench"},
    "torchcde": {"models", "bench"},
    "pysiglib": {"models", "bench"},
    "onnx": {"models"},
    "onnxruntime": {"inference"},
    "paho": {"connectors", "demo"},
    "aiomqtt": set(),
    "amqtt": {"connectors"},
    "ray": {"scoring"},
    "pyspark": {"spark"},
    "pandas": {"spark"},
    "sklearn": {"sklearn"},
    "matplotlib": {"bench", "plot"},
    "aeon": {"aeon"},
    "river": {"river"},
    "huggingface_hub": {"hub"},
    "mlflow": {"mlflow"},
    "sktime": {"sktime"},
    "asyncio": {"cluster", "connectors", "runtime", "page", "demo", "cli", "testing"},
    "time": {"bench", "cluster", "connectors", "runtime", "page", "demo", "fitting", "models", "scoring", "cli"},
    "logging": {"cluster", "connectors", "runtime", "models", "cli"},
    "typer": {"cli"},
    "pickle": set(),
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "streamrde":
                yield from (f"streamrde.{alias.name}" for alias in node.names)
            else:
                yield node.module


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


MODULES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    allowed = ARROWS.get(part, set()) | EVERYWHERE | {part}
    for name in imports_of(path):
        top, *rest = name.split(".")
        if top == "streamrde" and rest and (ROOT / rest[0]).with_suffix(".py").exists() | (ROOT / rest[0]).is_dir():
            assert rest[0] in allowed, f"{part} must not import streamrde.{rest[0]}"
        elif top in FOREIGN:
            assert part in FOREIGN[top], f"{part} must not import {top}"


def test_every_part_has_its_arrows():
    parts = {part_of(path) for path in MODULES} - {"__init__", "__main__"}
    assert parts == ARROWS.keys() | EVERYWHERE


def test_importing_brings_neither_torch_nor_connectors():
    code = "import sys, streamrde; print(sorted({m.split('.')[0] for m in sys.modules}))"
    modules = set(
        ast.literal_eval(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.decode())
    )
    assert not modules & {"torch", "torchcde", "pysiglib", "aiomqtt", "paho", "amqtt", "typer", "rich", "asyncio"}


def test_public_names_are_there_and_documented():
    pytest.importorskip("torch", reason="training's names need torch")
    for name in streamrde.__all__:
        assert getattr(streamrde, name).__doc__, name


def test_modules_are_short_enough_to_hold_in_mind():
    for path in MODULES:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, path
