"""A source, a sink and a codec of another package work as the built-in ones do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import make_bundle

from streamrde.config import RunConfig
from streamrde.connectors.registry import CODECS, DEAD_LETTERS, SINKS, SOURCES
from streamrde.connectors.samples import Columns
from streamrde.disk import read_toml
from streamrde.errors import ConfigError

PACKAGE = '''
import numpy as np, pyarrow as pa
from streamrde.connectors.codecs import JsonCodec
from streamrde.connectors.ends import Batch, Sink, Source
from streamrde.connectors.samples import Samples
from streamrde.connectors.sections import Section, SinkConfig, SourceConfig


class TicksConfig(Section, SourceConfig, frozen=True, kw_only=True, tag="pulses"):
    """Samples at each tick."""

    count: int
    """Number of ticks."""
    live = False

    def build(self, model):
        return Ticks(self.count, len(model.channels))


class Ticks(Source):
    def __init__(self, count, channels):
        self.count, self.channels, self.stopped = count, channels, False

    async def __aiter__(self):
        for tick in range(self.count):
            if self.stopped:
                return
            yield Batch(Samples(pa.array(["clock"]), np.array([float(tick)]), np.full((1, self.channels), tick / 9)))

    def stop(self):
        self.stopped = True


class PrintConfig(Section, SinkConfig, frozen=True, kw_only=True, tag="print"):
    """Predictions to a text file."""

    path: str
    """The file."""

    def build(self, model):
        return Print(self.path)


class Print(Sink):
    def __init__(self, path):
        self.path = path

    async def write(self, batch):
        with open(self.path, "a") as file:
            file.writelines(f"{row['stream']} {row['window']}\\n" for row in batch.to_pylist())


class BackwardsCodec(JsonCodec):
    format = "backwards"

    def decode(self, payload):
        return super().decode(payload[::-1])


class Misnamed(JsonCodec):
    format = "another"
'''
ENTRY_POINTS = """
[streamrde.sources]
pulses = ticking:TicksConfig
gone = ticking:Gone
[streamrde.sinks]
print = ticking:PrintConfig
[streamrde.codecs]
backwards = ticking:BackwardsCodec
misnamed = ticking:Misnamed
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installed package."""
    folder = tmp_path / "site"
    about = folder / "ticking-1.0.dist-info"
    about.mkdir(parents=True)
    (folder / "ticking.py").write_text(PACKAGE)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: ticking\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "ticking", raising=False)
    return folder


def config(tmp_path: Path, source: str = 'kind = "pulses"\ncount = 9') -> Path:
    make_bundle(interpolation="linear").save(tmp_path / "model.safetensors")
    path = tmp_path / "run.toml"
    path.write_text(
        f'model = "{tmp_path}/model.safetensors"\n[source]\n{source}\n[sink]\nkind = "print"\npath = "{tmp_path}/out"\n'
    )
    return path


def streamrde(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streamrde", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.slow
def test_ends_of_another_package_run_and_are_checked_and_documented(site: Path, tmp_path: Path) -> None:
    path = config(tmp_path)
    checked = streamrde(site, "run", path, "--check", "--json")
    assert checked.returncode == 0, checked.stderr
    assert (json.loads(checked.stdout)["source"], json.loads(checked.stdout)["sink"]) == ("pulses", "print")
    done = streamrde(site, "run", path, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == 9
    assert (tmp_path / "out").read_text().splitlines() == [f"clock {window}" for window in range(8)]
    template = streamrde(site, "init", "run").stdout
    assert '# kind = "pulses"' in template
    assert "# Number of ticks." in template


def test_keys_of_another_package_are_checked_as_the_built_in_ones_are(site: Path, tmp_path: Path) -> None:
    for source, match in [
        ('kind = "pulses"\ncount = "9"', r"source\.count = \"9\": expected a whole number"),
        ('kind = "pulses"\nconut = 9', r"unknown key 'source\.conut'; did you mean 'source\.count'"),
        ('kind = "pulse"\ncount = 9', r'source\.kind = "pulse": use .*"mqtt".*"pulses".*did you mean \'pulses\''),
        ('kind = "gone"', r"plug-in ticking:Gone cannot be imported"),
    ]:
        with pytest.raises(ConfigError, match=match):
            read_toml(config(tmp_path, source), RunConfig)


def test_a_codec_of_another_package_reads_payloads(site: Path) -> None:
    codec = CODECS.find("backwards").configured(Columns(channels=("a",)), layout=None, max_bytes=1000)
    t, x = codec.decode(b'{"t": 1, "a": 2}'[::-1])
    assert (t.tolist(), x.tolist()) == ([1.0], [[2.0]])
    assert CODECS.find("no-name") is None
    with pytest.raises(ConfigError, match="ticking:Misnamed is no Codec of the name 'misnamed'"):
        CODECS.find("misnamed")


def test_a_codec_of_another_package_is_named_in_a_configuration(site: Path, tmp_path: Path) -> None:
    source = 'kind = "mqtt"\nurl = "mqtt://x"\ntopic = "a/{stream}"\ncodec = '
    assert read_toml(config(tmp_path, source + '"backwards"'), RunConfig).source.codec == "backwards"
    with pytest.raises(ConfigError, match="did you mean 'backwards'"):
        read_toml(config(tmp_path, source + '"backward"'), RunConfig)


def test_what_is_built_in_has_a_module_of_its_name() -> None:
    for registry, names in (
        (SOURCES, {"mqtt"}),
        (SINKS, {"arrow", "mqtt", "parts"}),
        (DEAD_LETTERS, {"file", "mqtt"}),
        (CODECS, {"arrow", "cbor", "json", "msgpack", "packed"}),
    ):
        assert names <= set(registry.names())
        assert len(registry.classes()) == len(registry.names())
