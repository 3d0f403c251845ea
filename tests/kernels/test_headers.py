"""Every C++ header compiles by itself: it has a guard and includes what it uses."""

import pathlib
import shutil
import subprocess
import sysconfig

import numpy as np
import pytest

from streamrde import kernels

FOLDER = pathlib.Path(kernels.__file__).parent
HEADERS = sorted(FOLDER.rglob("*.hpp"))
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_headers_have_guards(header):
    assert "#pragma once" in header.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize("header", HEADERS, ids=lambda path: path.name)
def test_headers_compile_alone(header, tmp_path):
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "{header.relative_to(FOLDER)}"\n', encoding="utf-8")
    folders = [FOLDER, np.get_include(), sysconfig.get_path("include")]
    # registers-inl.hpp is what AVX-512 has instead of vectors of lanes.
    variant = ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mfma"] if header.name == "registers-inl.hpp" else []
    command = [COMPILER, "-std=c++17", "-fsyntax-only", "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION", *variant]
    result = subprocess.run(
        [*command, *(f"-I{folder}" for folder in folders), source], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
