"""README, documentation, examples and configs do what they say."""

import itertools
import json
import os
import pathlib
import pkgutil
import re
import shlex
import subprocess
import sys
import tomllib

import msgspec
import pytest
import typer

import streamrde
from streamrde import Gap, toml
from streamrde.cli import app
from streamrde.config import RunConfig, StateConfig
from streamrde.connectors.files.file import FileDeadLettersConfig
from streamrde.disk import read_toml
from streamrde.fitting.inputs import SegmentsConfig
from streamrde.models.training.config import load_train_config
from streamrde.scoring import Job

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / ".github").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
MQTT, KAFKA = RUN_CONFIGS = [ROOT / "configs" / f"{queue}.toml" for queue in ("mqtt", "kafka")]
COMMANDS = typer.main.get_command(app).commands


def run(*command, cwd=ROOT, **environment):
    environment = os.environ | environment
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=600, cwd=cwd, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def blocks(language):
    """Each fenced block of a language, with its title, under an id that names the page and the block's first line."""
    for page in PAGES:
        fences = re.findall(rf"^```{language}(?: title=\"(.*?)\")?\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
        for number, (title, text) in enumerate(fences):
            yield pytest.param(title, text, id=f"{page.stem}-{number}")


def command_lines():
    """Each command line of the pages: lines of bash blocks, and code in the text that begins with streamrde."""
    for page in PAGES:
        text = page.read_text("utf-8")
        shells = re.findall(r"^```bash\n(.*?)^```$", text, re.M | re.S)
        prose = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
        lines = [line for shell in shells for line in shell.splitlines()] + re.findall(r"`(streamrde [^`]+)`", prose)
        for line in dict.fromkeys(lines):
            if line.startswith("streamrde "):
                yield pytest.param(line, id=f"{page.stem}: {line}"[:90])


@pytest.mark.slow
@pytest.mark.parametrize(("title", "code"), list(blocks("python")))
def test_the_pages_python_runs_as_it_stands(title, code, tmp_path):
    run(sys.executable, "-W", "error", "-c", code, cwd=tmp_path)


@pytest.mark.parametrize(("title", "text"), list(blocks("toml")))
def test_the_pages_toml_is_read(title, text, tmp_path, monkeypatch):
    """A fragment takes the place of what a complete configuration has there."""
    for variable in re.findall(r'_env = "(\w+)"', text):
        monkeypatch.setenv(variable, "secret")
    if title == "pyproject.toml":
        tomllib.loads(text)
        return
    complete = {"run.toml": "mqtt.toml", "train.toml": "watch.toml", "score.toml": "score.toml"}[title]
    tables = tomllib.loads((ROOT / "configs" / complete).read_text("utf-8"))
    if title == "run.toml":
        tables["source"]["session"] = True  # as [state] needs
    for name, value in tomllib.loads(text).items():
        merges = isinstance(value, dict) and "kind" not in value and name != "sweep"
        tables[name] = {**tables.get(name, {}), **value} if merges else value
    if title == "train.toml" and tables["model"]["field"]["field"] == "stack":
        del tables["model"]["hidden"]  # which a stack has no use for
    path = tmp_path / title
    path.write_text(toml.dumps(tables), encoding="utf-8")
    if title == "train.toml":
        load_train_config(path)
    elif title == "score.toml":
        read_toml(path, Job)
    else:
        read_toml(path, RunConfig).check()


@pytest.mark.parametrize("line", list(command_lines()))
def test_the_pages_commands_exist_with_their_options(line):
    _, name, *arguments = shlex.split(line)
    if arguments or name.startswith("-"):
        COMMANDS[name].make_context(name, arguments)
    assert name in COMMANDS


@pytest.mark.slow
def test_the_readmes_score_command_runs_as_it_stands(tmp_path):
    (command,) = re.findall(r"^streamrde (score .*)$", README.read_text("utf-8"), re.MULTILINE)
    arguments = shlex.split(command)
    arguments[-1] = str(tmp_path / arguments[-1])
    assert "predictions" in run(sys.executable, "-m", "streamrde", *arguments)
    assert (tmp_path / "predictions.parquet").stat().st_size > 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_relative_links_lead_to_files(page):
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text("utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


def linked_names():
    """Each function or class that a page links to, as in ``[text][streamrde.module.function]``."""
    for page in PAGES:
        for name in dict.fromkeys(re.findall(r"\]\[(streamrde[\w.]+)\]", page.read_text("utf-8"))):
            yield pytest.param(name, id=f"{page.stem}: {name}")


@pytest.mark.parametrize("name", list(linked_names()))
def test_links_to_functions_lead_to_them(name):
    assert pkgutil.resolve_name(name)


def test_the_readme_is_one_screen():
    assert len(README.read_text("utf-8").split()) <= 700


def test_every_command_has_its_line():
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    for command in COMMANDS:
        assert f"`streamrde {command}`" in page


def test_every_public_name_has_its_page():
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    for name in streamrde.__all__:
        assert f"::: streamrde.{name}\n" in page


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: p.name)
def test_the_examples_run(path):
    assert run(sys.executable, path)


def cells(path, kind):
    """The text of each cell of a kind."""
    found = json.loads(path.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_the_notebooks_cells_run_in_their_order(path, tmp_path):
    """In a fresh process, as "Restart and run all" does; any warning is an error."""
    assert run(sys.executable, "-W", "error", "-c", "\n".join(cells(path, "code")), cwd=tmp_path, MPLBACKEND="agg")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)
def test_the_notebooks_are_light_and_have_a_title_and_a_line_in_the_index(path):
    notebook = json.loads(path.read_text("utf-8"))
    assert (notebook["nbformat"], notebook["metadata"]["kernelspec"]["name"]) == (4, "python3")
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook["cells"])
    assert cells(path, "markdown")[0].startswith("# ")
    assert f"`examples/{path.name}`" in (ROOT / "docs" / "index.md").read_text("utf-8")
    for code in re.findall(r"`([\w./]+\.(?:py|ipynb))`", "\n".join(cells(path, "markdown"))):
        assert (ROOT / "examples" / code).exists(), code


def keys_without_a_line(path, tables):
    """Names of keys and tables that a file shows neither set nor commented out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    fields = [field for table in tables for field in msgspec.structs.fields(table)]
    shown = [rf"(# )?(\[{field.name}\]|{field.encode_name} = )" for field in fields]
    return [
        field.name for field, line in zip(fields, shown, strict=True) if not any(re.match(line, one) for one in lines)
    ]


def test_the_config_of_a_run_is_read_and_every_key_is_commented():
    config = read_toml(MQTT, RunConfig)
    assert (ROOT / config.model).exists()
    others = [StateConfig(path="x"), FileDeadLettersConfig(path="x")]
    assert not keys_without_a_line(
        MQTT, [config, config.source, config.sink, *others, config.service, config.silence, config.streams]
    )


def test_the_config_of_a_cluster_is_read_and_has_every_key_that_other_queues_lack():
    config, other = read_toml(KAFKA, RunConfig), read_toml(MQTT, RunConfig)
    config.check()
    assert (ROOT / config.model).exists()
    shared = {field.name for end in (other.source, other.sink) for field in msgspec.structs.fields(end)}
    missing = keys_without_a_line(KAFKA, [config.source, config.sink, config.state])
    # Those that all queues have and MQTT calls otherwise.
    assert {*missing} <= shared | {"queue_messages"}


def test_the_score_config_is_read_and_has_every_key():
    path = ROOT / "configs" / "score.toml"
    job = read_toml(path, Job)
    assert (ROOT / job.model).exists()
    text = path.read_text(encoding="utf-8")
    for table in (job, job.columns, job.plausible):
        for field in msgspec.structs.fields(table):
            assert re.search(rf"^(\[{field.name}\]|{field.encode_name} = )", text, re.MULTILINE), field.name


def test_the_training_config_is_read_and_has_every_key():
    config = load_train_config(ROOT / "configs" / "watch.toml")
    text = (ROOT / "configs" / "watch.toml").read_text(encoding="utf-8")
    values = {field.name: getattr(config, field.name) for field in msgspec.structs.fields(config)}
    tables = [value or Gap for value in values.values() if not isinstance(value, bool)]
    for name in (name for name, value in values.items() if isinstance(value, bool)):
        assert re.search(rf"^{name} = ", text, re.MULTILINE), name
    for table in (*tables, SegmentsConfig):
        for field in msgspec.structs.fields(table):
            assert re.search(rf"\b{field.encode_name} = |\[\w+\.{field.encode_name}\]", text), field.name


def defaults(struct, above=None, path=""):
    """Each key with its value and its default; a table's defaults are those of the struct that is its default."""
    for field in msgspec.structs.fields(type(struct)):
        key, value, default = f"{path}{field.encode_name}", getattr(struct, field.name), field.default
        default = getattr(above, field.name) if above is not None else default
        if isinstance(value, msgspec.Struct):
            yield from defaults(value, default if type(default) is type(value) else None, f"{key}.")
        else:
            yield key, value, default


def read_config(path):
    if path.name == "score.toml":
        return read_toml(path, Job)
    return read_toml(path, RunConfig) if path in RUN_CONFIGS else load_train_config(path)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_the_configs_say_where_they_differ_from_the_defaults(path):
    found = {key: (value, default) for key, value, default in defaults(read_config(path))}
    shown, table = 0, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"\[([\w.]+)\]$", line):
            table = f"{heading[1]}."
        if not (entry := re.match(r"(\w+) = .*?(?:  # default: (.*))?$", line)) or f"{table}{entry[1]}" not in found:
            continue
        value, default = found[f"{table}{entry[1]}"]
        said = default not in (msgspec.NODEFAULT, None, "", (), {}) and value != default
        assert entry[2] == (toml.value(default) if said else None), line
        shown += said
    assert shown or path in RUN_CONFIGS


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.toml")), ids=lambda p: p.name)
def test_keys_stand_below_a_comment(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    for above, line in itertools.pairwise(lines):
        if re.match(r"\w+ = ", line):
            assert above.startswith("#") or re.match(r"(\w+ = |\])", above) or line.startswith("kind = "), line


@pytest.mark.slow
def test_the_score_config_runs(tmp_path):
    config, out = ROOT / "configs" / "score.toml", tmp_path / "predictions.parquet"
    assert "accuracy" in run(sys.executable, "-m", "streamrde", "score", "--config", config, "--out", out)
    assert (tmp_path / "predictions.parquet").exists()
