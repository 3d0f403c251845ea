"""Recognise recordings whose channels are spread over several files of a folder, and look at each file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from streamrde.connectors.files.recordings import Recording
from streamrde.errors import DataError
from streamrde.looking.guesses import Channel, Findings, Guess
from streamrde.nearest import listed

# Names of files that have one sensor each.
_SENSORS = re.compile(
    r"(?i)accel|gyro|magnet|gravity|orientation|barometer|pressure|light|proximity|location|linear|heart|temperature"
    r"|humidity|pedometer|^(acc|gyr|mag|bvp|eda|hr|ibi|temp|ecg|ppg)\b"
)


def spread_over(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the files of one recording if each has some of its channels, or an empty list.

    They are in one folder, and have names of sensors, or the same names as those in other folders.
    """
    folders: dict[str, dict[str, Recording]] = {}
    for recording in recordings:
        folders.setdefault(str(recording.path.parent), {})[recording.path.name] = recording
    first = max(folders.values(), key=len)
    if len(first) < 2:
        return []
    again = len(folders) > 1 and all(len(own.keys() & first.keys()) >= 2 for own in folders.values())
    sensors = sum(bool(_SENSORS.search(name)) for name in first)
    return list(first.values()) if again or sensors >= 2 else []


def look_at_spread(files: Sequence[Recording], source: str, look: Callable[[Recording], Findings]) -> Findings | None:
    """Look at the files of one recording, and return what they hold together, or None if they share no time.

    Args:
        look: looks at one of the files.
    """
    found: dict[str, Findings] = {}
    others: list[tuple[str, str]] = []
    for recording in files:
        try:
            found[recording.path.name] = look(recording)
        except DataError as error:
            others.append((recording.path.name, str(error).partition(": ")[2][:80]))
    times = {name: one.columns["time"].value for name, one in found.items()}
    timed = [name for name, time in times.items() if time]
    if len(timed) < 2:
        return None
    time = max({times[name] for name in timed}, key=lambda one: sum(times[name] == one for name in timed))
    kept = {name: found[name] for name in timed if times[name] == time}
    others += [(name, "it has no such time") for name in found if name not in kept]
    if len(kept) < 2:
        return None
    channels: list[Channel] = [
        channel._replace(name=f"{name}:{channel.name}") for name, one in kept.items() for channel in one.channels
    ]
    fastest = min(kept.values(), key=lambda one: one.rate.interval or float("inf"))
    why = f"the files of a folder are one recording, joined by time: {listed(kept, most=4)}"
    columns = {name: guess for name, guess in fastest.columns.items() if name != "stream"}
    columns = {"stream": Guess("", "each folder is one recording"), **columns}
    columns["time"] = columns["time"]._replace(why=f"{why}; {columns['time'].why}")
    unused = [(f"{name}:{column}", reason) for name, one in kept.items() for column, reason in one.unused]
    seen = f"{len(kept)} files of one recording ({listed(kept, most=3)})"
    return replace(
        fastest, source=source, seen=seen, columns=columns, channels=tuple(channels),
        unused=(*unused, *others), target=None, group=None, split=None, restarts=None, faults=None,
    )  # fmt: skip
