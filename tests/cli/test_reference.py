"""The page of all keys: generated from the classes, and complete."""

import importlib
import pathlib

import msgspec
import pytest
from msgspec import inspect

from streamrde.cli.init import STRUCTS
from streamrde.cli.reference import page, sections, tables_of
from streamrde.connectors.registry import DEAD_LETTERS, SINKS, SOURCES
from streamrde.settings import keys_of

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "configuration.md"
KINDS = {
    command: getattr(importlib.import_module(at.split(":")[0]), at.split(":")[1]) for command, at in STRUCTS.items()
}


def test_the_page_is_what_the_classes_say():
    assert PAGE.read_text("utf-8") == page(), (
        "write it anew: .venv-test/bin/python -m streamrde.cli.reference > docs/configuration.md"
    )


@pytest.mark.parametrize("command", KINDS)
def test_every_key_of_every_section_has_a_text(command):
    for section in sections(KINDS[command]):
        assert section.text, section.path
        for key in section.keys:
            assert key.text, f"[{section.path}] {section.tag}: the key {key.name} has no docstring"
            assert key.type, key
            assert key.default, key


@pytest.mark.parametrize("command", KINDS)
def test_no_key_is_left_out(command):
    shown = set()
    for section in sections(KINDS[command]):
        path = section.path.strip("[]")
        shown |= {path} if path else set()
        shown |= {f"{path}.{key.name}" if path else key.name for key in section.keys}
    # A source within a table has the kinds of the one at the top.
    shown |= {f"labels.{key}" for key in shown if key.startswith("source.")}
    assert keys_of(KINDS[command]) <= shown


@pytest.mark.parametrize(("table", "registry"), [("source", SOURCES), ("sink", SINKS), ("dead_letters", DEAD_LETTERS)])
def test_every_kind_of_end_that_comes_with_the_package_has_its_section(table, registry):
    own = [one for one in registry.classes() if one.__module__.startswith("streamrde.")]
    shown = {section.tag for section in sections(KINDS["run"]) if section.path == table}
    assert own
    assert shown == {f'kind = "{one.__struct_config__.tag}"' for one in own}


def test_a_key_without_text_is_found():
    class Bare(msgspec.Struct):
        """A table."""

        key: int = 3

    (section,) = sections(Bare)
    assert [(key.name, key.default, key.text) for key in section.keys] == [("key", "`3`", "")]


def test_tables_in_lists_are_tables():
    class Inner(msgspec.Struct):
        key: int = 3

    class Outer(msgspec.Struct):
        several: tuple[Inner, ...] = ()
        maybe: Inner | None = None
        plain: tuple[int, ...] = ()

    kinds = {field.name: field.type for field in inspect.type_info(Outer).fields}
    assert [len(tables_of(kinds[name])) for name in ("several", "maybe", "plain")] == [1, 1, 0]
