"""Messages and files of devices of the field are guessed as their own configurations read them."""

import json
import time

import devices
import pytest

from streamrde.errors import StreamRDEError
from streamrde.looking.files import look_at_files
from streamrde.looking.messages import Captured, look_at_messages
from streamrde.looking.roles import Given

DEVICES = devices.devices()
GUESSED = devices.FOLDER / "guessed.json"
# What no message says: the zone of local times, factors, words for numbers, and numbers for no value.
UNKNOWN = ("time_zone", "scale", "offset", "units", "words", "missing", "limits")


def guess(device):
    """The tables that init writes for a device, for a model with the channels of the device's own configuration."""
    if device.source is None:
        found = look_at_files(str(device.folder / device.files), Given())
    else:
        begin = time.time()
        messages = [Captured(one.topic, one.payload, begin + i) for i, one in enumerate(device.messages())]
        found = look_at_messages(messages, devices.URL)
    columns = {
        key: one.value for key, one in found.columns.items() if one.value != "" or key in ("time", "stream", "value")
    }
    lacking = set(device.columns["channels"]) - {channel.name for channel in found.channels}
    # Names of channels that stand in the messages are those that came.
    named = "name" in columns or "{channel}" in str(found.connection.get("topic"))
    assert not lacking or named, f"not found: {sorted(lacking)} in {[channel.name for channel in found.channels]}"
    columns |= {key: device.columns[key] for key in (*UNKNOWN, "channels") if key in device.columns}
    if isinstance(columns.get("missing"), dict):
        columns["missing"] = {name: own for name, own in columns["missing"].items() if name in columns["channels"]}
    source = {key: one.value for key, one in found.connection.items() if not key.startswith("sink.")}
    return {"source": source, "columns": columns}


def wrong(device):
    """Sentences that say what a guess gets wrong; none if it reads what the device's own configuration reads."""
    try:
        tables = guess(device)
        if device.source is None:
            found = devices.read_files(device.folder / device.files, tables["columns"], device.channels)
        else:
            found = devices.read_messages(device.messages(), tables, device.channels)
    except (StreamRDEError, AssertionError) as error:
        return [str(error)]
    return devices.differences(device, found)


@pytest.fixture(scope="module")
def outcomes():
    return {device.folder.name: wrong(device) for device in DEVICES}


def test_devices_that_were_guessed_right_still_are(outcomes):
    right = {name for name, said in outcomes.items() if not said}
    table = "\n".join(f"{name:26} {'right' if not said else '; '.join(said)[:200]}" for name, said in outcomes.items())
    assert set(json.loads(GUESSED.read_text("utf-8"))) <= right, f"correct {GUESSED}, or the guess:\n{table}"


def test_most_devices_are_guessed_right():
    right = json.loads(GUESSED.read_text("utf-8"))
    assert set(right) <= {device.folder.name for device in DEVICES}
    assert len(right) >= 60
