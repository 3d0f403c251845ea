"""Docstrings begin plainly: with what a thing does or is, in one sentence. ruff's D401 sees to the verb's mood."""

import ast
import pathlib
import re

import pytest

import streamrde

ROOT = pathlib.Path(streamrde.__file__).parent
VAGUE = re.compile(r"(What|Whether|Of|Where|Who|Whom|Whose|How|Told)\b")


def first_lines(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield getattr(node, "lineno", 1), docstring.splitlines()[0]


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_docstrings_begin_plainly(path):
    unclear = [f"{path}:{line}: {text}" for line, text in first_lines(path) if VAGUE.match(text) or ";" in text]
    assert not unclear, "say what it does or is, in one sentence"
