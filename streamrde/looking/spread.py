"""Recognise recordings whose channels are spread over several files of a folder, and look at each file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from streamrde.connectors.files.recordings import Recording
from streamrde.connectors.files.spread import member_of
from streamrde.errors import DataError
from streamrde.looking.guesses import Channel, Findings, Guess
from streamrde.looking.roles import columns_of
from streamrde.nearest import did_you_mean, listed

# Names of files that have one sensor each.
_SENSORS = re.compile(
    r"(?i)accel|gyro|magnet|gravity|orientation|barometer|pressure|light|proximity|location|linear|heart|temperature"
    r"|humidity|pedometer|^(acc|gyr|mag|bvp|eda|hr|ibi|temp|ecg|ppg)\b"
)


def spread_over(recordings: Sequence[Recording]) -> dict[str, list[Recording]]:
    """Return the files by their names if each has some channels of a recording, or an empty dict.

    Those of one recording are in one folder, and have names of sensors, or the same names as those in other folders.
    """
    folders: dict[str, dict[str, Recording]] = {}
    for recording in recordings:
        folders.setdefault(str(recording.path.parent), {})[recording.path.name] = recording
    first = max(folders.values(), key=len)
    if len(first) < 2:
        return {}
    again = len(folders) > 1 and all(len(own.keys() & first.keys()) >= 2 for own in folders.values())
    sensors = sum(bool(_SENSORS.search(name)) for name in first)
    if not again and sensors < 2:
        return {}
    return {name: [own[name] for own in folders.values() if name in own] for name in first}


def targets_in(file: str, targets: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of targets that may be in a file: those without a file, or with this one."""
    named = [member_of(target) for target in targets]
    return tuple(column for own, column in named if own in ("", file))


def look_at_spread(
    files: Mapping[str, list[Recording]],
    source: str,
    targets: Sequence[str],
    look: Callable[[str, list[Recording]], Findings],
) -> Findings | None:
    """Look at the files of recordings, and return what they hold together, or None if they share no time.

    Args:
        files: files of all recordings by their names.
        targets: columns of targets that were given, with or without their file.
        look: looks at the files of one name.
    Raises:
        DataError: no file that has channels has a target.
    """
    found: dict[str, Findings] = {}
    others: list[tuple[str, str]] = []
    for name, recordings in files.items():
        try:
            found[name] = look(name, recordings)
        except DataError as error:
            others.append((name, str(error).partition(": ")[2][:80]))
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
    target = _target(kept, targets, source, [name for name in files if name not in kept])
    fastest = min(kept.values(), key=lambda one: one.rate.interval or float("inf"))
    why = f"the files of a folder are one recording, joined by time: {listed(kept, most=4)}"
    columns = {name: guess for name, guess in fastest.columns.items() if name != "stream"}
    columns = {"stream": Guess("", "each folder is one recording"), **columns}
    columns["time"] = columns["time"]._replace(why=f"{why}; {columns['time'].why}")
    unused = [(f"{name}:{column}", reason) for name, one in kept.items() for column, reason in one.unused]
    count = max(map(len, files.values()))
    of = "one recording" if count == 1 else f"each of {count:,} recordings"
    seen = f"{len(kept)} files of {of} ({listed(kept, most=3)})"
    labelled = next((one for one in kept.values() if one.target is not None), fastest)
    return replace(
        fastest, source=source, seen=seen, columns=columns, channels=tuple(channels), unused=(*unused, *others),
        target=target, task=labelled.task, target_at=labelled.target_at,
        group=None, split=None, restarts=None, faults=None,
    )  # fmt: skip


def _target(kept: Mapping[str, Findings], targets: Sequence[str], source: str, others: Sequence[str]) -> Guess | None:
    """Return the targets with their files. Those that were not given may be a column that looks like one."""
    if not targets:
        found = ((name, one.target) for name, one in kept.items() if one.target is not None)
        name, guess = next(found, ("", None))
        return None if guess is None else guess._replace(value=f"{name}:{guess.value}")
    named: list[str] = []
    again: list[str] = []
    for target in targets:
        own = [
            f"{name}:{column}"
            for name, one in kept.items()
            for column in targets_in(name, [target])
            if one.target is not None and column in columns_of(one.target.value)
        ]
        if not own:
            raise _nowhere(target, kept, source, others)
        named.append(own[0])
        again += own[1:]
    why = f"as it was given; it is also {listed(again, most=3)}" if again else "as it was given"
    return Guess(named[0] if len(named) == 1 else tuple(named), why)


def _nowhere(target: str, kept: Mapping[str, Findings], source: str, others: Sequence[str]) -> DataError:
    names = [f"{name}:{column}" for name, one in kept.items() for column in _names(one)]
    beside = f" (not in {listed(others, most=3)}, which cannot be joined by time)" if others else ""
    return DataError(
        f"{source}: none of the files {listed(kept, most=4)} has a column '{target}'{did_you_mean(target, names)}; the "
        f"target must be in one of them{beside}, and they have {listed(names, most=12)}", path=source, column=target,
    )  # fmt: skip


def _names(one: Findings) -> list[str]:
    """Return the columns of a file that may be targets."""
    targets = columns_of(one.target.value) if one.target is not None else []
    return [*(channel.name for channel in one.channels), *(column for column, _ in one.unused), *targets]
