"""Configurations with every key and its default."""

import re
import tomllib

import msgspec
import pytest
from msgspec import inspect
from typer.testing import CliRunner

from streamrde.cli import app
from streamrde.cli.documented import documented
from streamrde.cli.init import EXAMPLES, text_of
from streamrde.config import RunConfig
from streamrde.fitting.config import FitConfig
from streamrde.models.training.config import TrainConfig, as_train_config
from streamrde.scoring import Job
from streamrde.settings import choices, convert, keys_of

KINDS = {"fit": FitConfig, "train": TrainConfig, "run": RunConfig, "score": Job}


def structs(kind):
    """All structs that a struct may hold."""
    found, pending = {}, [inspect.type_info(kind)]
    while pending:
        own = pending.pop()
        if isinstance(own, inspect.StructType) and own.cls not in found:
            found[own.cls] = own
            pending += [field.type for field in own.fields]
        if isinstance(own, inspect.UnionType | inspect.Metadata):
            pending += choices(own)
        pending += [own.item_type] if hasattr(own, "item_type") else []
    return found


def values(struct, prefix=""):
    for field in msgspec.structs.fields(type(struct)):
        value, key = getattr(struct, field.name), f"{prefix}{field.encode_name}"
        if isinstance(value, msgspec.Struct):
            yield from values(value, f"{key}.")
        else:
            yield key, value


@pytest.mark.parametrize("what", KINDS)
def test_what_is_written_is_read_and_has_the_defaults(what):
    tables = tomllib.loads(text_of(what))
    config = as_train_config(tables) if what == "train" else convert(tables, KINDS[what])
    examples = {key: EXAMPLES[what][key] for key, _ in values(config) if key in EXAMPLES[what]}
    # Only what must be given, and the examples beside it: all else is as if it had been left out.
    least: dict = {}
    for key, value in {**examples, **{k: v for k, v in values(config) if k.endswith((".kind", ".policy"))}}.items():
        table = least
        *above, last = key.split(".")
        for name in above:
            table = table.setdefault(name, {})
        table[last] = value
    if what == "train":
        least["windows"] |= {"policy": "every"}
        assert as_train_config(least) == config
    elif what == "run":
        least["source"] |= {"kind": "mqtt"}
        least["sink"] |= {"kind": "mqtt"}
        assert convert(least, RunConfig) == config
    else:
        assert convert(least, KINDS[what]) == config


@pytest.mark.parametrize("what", KINDS)
def test_every_key_is_there_below_what_it_means(what):
    lines = text_of(what).splitlines()
    for key in keys_of(KINDS[what]):
        name = key.rsplit(".", 1)[-1]
        shown = [i for i, line in enumerate(lines) if re.match(rf"(# )?({name} = |\[+([\w.]+\.)?{name}\]+$)", line)]
        assert shown, key
        assert all(lines[i - 1].startswith("# ") for i in shown), key
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_key_with_a_value_is_documented(kind):
    for own, type_ in structs(kind).items():
        for field in type_.fields:
            tables = any(isinstance(m, inspect.StructType) for m in choices(field.type))
            assert tables or field.name in documented(own), f"{own.__name__}.{field.name}"


def test_a_file_is_written_once(tmp_path):
    path = tmp_path / "deep" / "train.toml"
    done = CliRunner().invoke(app, ["init", "train", "--out", str(path)])
    assert f"streamrde train {path}" in done.output
    assert path.read_text() == text_of("train")
    assert "the file exists" in str(CliRunner().invoke(app, ["init", "train", "--out", str(path)]).exception)


def test_a_command_without_a_configuration_is_named():
    failed = CliRunner().invoke(app, ["init", "trian"]).exception
    assert str(failed).startswith("init trian: there is no such file; give data, or the command")
    assert str(failed).endswith('"fit", "train", "run" or "score" (did you mean \'train\'?)')


def test_texts_come_from_docstrings_below_fields_and_from_arguments():
    class Above(msgspec.Struct):
        """Something.

        Args:
            a: the first, `quoted`.
            b, c: the others,
                over two lines.
        Raises:
            nothing: at all.
        """

        a: int
        b: int
        c: int

    class Below(Above):
        c: int
        """Its own."""

    assert documented(Below) == {"a": "the first, quoted.", "b": "the others, over two lines.", "c": "Its own."}
