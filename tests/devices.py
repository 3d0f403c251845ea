"""Device formats of the field: a folder of fixtures each, read through the real sources by configuration alone.

A folder has device.toml (what it is, `[source]` for messages, `[columns]`), messages.jsonl or files, and expected.json.
`python tests/devices.py` writes docs/devices.md.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
import sys
import time
import tomllib
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from streamrde import toml
from streamrde.config import RunConfig
from streamrde.connectors.ends import Message
from streamrde.connectors.files.reading import SampleReader
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.messages import MessageReader
from streamrde.connectors.samples import SourceCounts
from streamrde.connectors.sections import ModelOutline
from streamrde.connectors.units import conversion
from streamrde.scoring.job import ColumnsConfig
from streamrde.settings import convert

FOLDER = pathlib.Path(__file__).parent / "connectors" / "devices"
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "devices.md"
URL = "mqtt://127.0.0.1:1883"


class Device(NamedTuple):
    """One device format."""

    folder: pathlib.Path
    name: str
    sends: str
    documentation: str
    columns: dict
    source: dict | None = None
    """Keys of [source] for messages; None for files."""
    files: str = ""
    """Files to read, in the folder."""

    @property
    def channels(self):
        """Names of a model's channels, which are not those of the device."""
        return [f"c{i}" for i in range(len(self.columns["channels"]))]

    @property
    def tables(self):
        """The configuration that attaches it, as a user writes it."""
        if self.source is None:
            return {"model": "model.safetensors", "files": self.files, "columns": self.columns}
        usual = {} if "kind" in self.source else {"kind": "mqtt", "url": URL}
        return {"source": {**usual, **self.source}, "columns": self.columns}

    @property
    def expected(self):
        return json.loads((self.folder / "expected.json").read_text("utf-8"))

    def messages(self):
        """Messages as a queue delivers them."""
        now = time.perf_counter()
        for line in (self.folder / "messages.jsonl").read_text("utf-8").splitlines():
            one = json.loads(line)
            payload = one["text"].encode() if "text" in one else bytes.fromhex(one.get("hex", ""))
            payload = json.dumps(one["json"]).encode() if "json" in one else payload
            yield Message(one["topic"].encode(), payload, now, properties=one.get("properties"))


class Found(NamedTuple):
    """Samples that a configuration gave."""

    rows: list
    """[stream, time, values] as in expected.json."""
    counts: SourceCounts


def devices():
    """All devices, by name of their folders."""
    return [
        Device(path.parent, **tomllib.loads(path.read_text("utf-8"))) for path in sorted(FOLDER.glob("*/device.toml"))
    ]


def read_messages(messages, tables, channels):
    """Read messages by a run's configuration, for a model with these channels."""
    complete = {"model": "model.safetensors", "sink": sink_of(tables), **tables}
    config = convert(complete, RunConfig)
    source = config.source.build(ModelOutline(tuple(channels), pa.schema([]), {}))
    reader = source._reader if tables["source"]["kind"] == "mqtt" else source._readers[""]
    assert isinstance(reader, MessageReader)
    batch = reader.read(list(messages))
    return Found(_rows([batch.samples]), reader.counts)


def read_files(path, columns, channels):
    """Read files by the columns of a scoring job, for a model with these channels."""
    keys = convert(columns, ColumnsConfig)
    found = keys.columns_for(channels)
    units = conversion(found.channels, [""] * len(channels), recorded=keys.units, scale=keys.scale, offset=keys.offset)
    reader = SampleReader(found, conversion=units)
    batches = [
        samples
        for one in find_recordings(path, csv=found.csv, members=reader.members)
        for _, samples in reader.read(one)
    ]
    return Found(_rows(batches), SourceCounts())


def read_device(device):
    """Read a device's fixtures by its own configuration."""
    if device.source is None:
        return read_files(device.folder / device.files, device.columns, device.channels)
    return read_messages(device.messages(), device.tables, device.channels)


def differences(device, found):
    """Sentences that say where samples differ from what is expected; none if they agree."""
    expected, wrong = device.expected, []
    if len(found.rows) != len(expected["rows"]):
        wrong.append(f"{len(found.rows)} samples for {len(expected['rows'])}: {found.rows}")
    for mine, (stream, moment, values) in zip(found.rows, expected["rows"], strict=False):
        moment = time.time() if moment is None else moment
        near = 60.0 if moment > 1.75e9 else 1e-6
        if mine[0] != stream or not abs(mine[1] - moment) < near:
            wrong.append(f"{mine[:2]} for {[stream, moment]}")
        wanted = [math.nan if value is None else value for value in values]
        if not np.allclose(mine[2], wanted, rtol=1e-12, atol=0, equal_nan=True):
            wrong.append(f"{mine[2]} for {values}")
    for name in ("malformed", "unused"):
        if getattr(found.counts, name) != expected.get(name, 0):
            wrong.append(f"{name} = {getattr(found.counts, name)} for {expected.get(name, 0)}")
    return wrong


def _rows(batches):
    rows = []
    for samples in batches:
        for stream, t, x in zip(samples.streams.to_pylist(), samples.t.tolist(), samples.x.tolist(), strict=True):
            rows.append([stream, t, x])
    return rows


def page():
    """The page of the documentation, from the fixtures."""
    found = devices()
    lines = [
        "# Device formats",
        "",
        "Each of these devices and programs is attached by configuration alone. Tests read the messages and files of",
        "`tests/connectors/devices`, which follow the linked documentation, with exactly these lines.",
        "",
        "| Device | It sends | `init` | |",
        "|---|---|---|---|",
    ]
    guessed = json.loads((FOLDER / "guessed.json").read_text("utf-8"))
    right = {d.folder.name: "yes" if d.folder.name in guessed else "in part" for d in found}
    lines += [
        f"| [{d.name}](#{d.folder.name}) | {d.sends} | {right[d.folder.name]} | [documentation]({d.documentation}) |"
        for d in found
    ]
    lines += [
        "",
        '`init` is "yes" where `streamrde init` guesses the same streams, times and values from these messages or',
        "files alone, without zones of local times and factors, which nobody can see in them.",
        "",
        "Channels are in the order of the model's. [Attach to sensor streams](attach.md) describes `[columns]` for",
        "messages, and [Score recorded files](files.md) for files. Where the topic has `{channel}`, or several",
        "messages make up one sample, set `order = { lateness = 0.5, merge = true }`: rows of one time become one.",
    ]
    for title, live in (("Messages", True), ("Files", False)):
        lines += ["", f"## {title}"]
        for device in found:
            if (device.source is not None) == live:
                lines += ["", f"### {device.name} {{ #{device.folder.name} }}", "", _first(device), ""]
                lines += [f'```toml title="{"run" if live else "score"}.toml"', *_written(device), "```"]
    return "\n".join(lines) + "\n"


def _first(device):
    """A message, or the name of a file, for the page."""
    if device.source is None:
        return f"`{device.files}`" if device.files != "." else "A folder per recording"
    first = json.loads((device.folder / "messages.jsonl").read_text("utf-8").splitlines()[0])
    text = first.get("text") or (json.dumps(first["json"]) if "json" in first else f"{len(first['hex']) // 2} bytes")
    text = text.splitlines()[0]
    shown = text if len(text) <= 160 else text[:157] + "..."
    return f"`{first['topic']}`: `{shown}`"


def _written(device):
    """The lines of the configuration, one key per line and channels that fit."""
    if device.source is None:
        return toml.dumps({"files": device.files, "columns": device.columns}).rstrip().splitlines()
    sink = sink_of(device.tables)
    unusual = sink["topic"] != "predictions/{stream}"
    return toml.dumps({**device.tables, **({"sink": sink} if unusual else {})}).rstrip().splitlines()


def sink_of(tables):
    """A sink whose topics have the levels that name a stream of the source."""
    levels = re.findall(r"\{\w+\}", tables["source"]["topic"].replace("{channel}", ""))
    stream = tables["columns"].get("stream")
    if stream is not None:
        levels = [f"{{{name}}}" for name in stream[:-1]] if isinstance(stream, list) else []
        levels.append("{stream}")
    if tables["source"].get("codec") == "sparkplug":
        levels = ["{group}", "{node}", "{stream}"]
    return {"kind": "mqtt", "url": URL, "topic": "/".join(["predictions", *levels])}


if __name__ == "__main__":
    sys.stdout.write(page())
