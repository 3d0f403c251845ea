"""The page's own files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
_PATHS = {"/": "page.html", "/page/login": "login.html"}
_NAMES = ("page.css", "page.js", "feed.js", "list.js", "chart.js", "drawn.js", "facts.js", "words.js", "icon.svg")
OPEN = ("/page/login", "/page/page.css", "/page/icon.svg")
"""Paths that a viewer without the token needs to give it."""


def is_file(path: str) -> bool:
    """Return True if a path stands for one of the files."""
    return path in _PATHS or path.removeprefix("/page/") in _NAMES


@cache
def read(path: str) -> tuple[str, bytes]:
    """Return the type and bytes of the file that a path stands for."""
    name = _PATHS.get(path) or path.removeprefix("/page/")
    return KINDS[name.rpartition(".")[2]], (files("streamrde.page") / "static" / name).read_bytes()
