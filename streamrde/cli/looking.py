"""Look at data for the command `init`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from streamrde.cli.listening import Place, listen, place_of, progress
from streamrde.errors import ConfigError
from streamrde.looking.documents import MODEL, USES, Use, document
from streamrde.looking.files import look_at_files
from streamrde.looking.guesses import Findings, Guess
from streamrde.looking.matching import labels_of, match_channels, match_units
from streamrde.looking.messages import look_at_messages
from streamrde.looking.roles import Given

_VARIABLE = "STREAMRDE_PASSWORD"


class Wanted(NamedTuple):
    """Hold what the command line asks for."""

    use: Use | None
    target: tuple[str, ...]
    stream: str | None
    time: str | None
    model: Path | None
    out: Path | None
    seconds: float
    """Time to listen to a live source."""
    source_keys: Mapping[str, Any]
    """Further keys of the section [source]."""
    quiet: bool


def look(sources: Sequence[str], wanted: Wanted) -> tuple[Findings, Use, str]:
    """Look at data. Return what was found, the command that will read the file, and the file's text.

    Raises:
        ConfigError: the command cannot use such data.
        DataError: the data cannot be read, or nothing in it is a channel.
    """
    place = place_of(sources[0]) if len(sources) == 1 else None
    use = wanted.use or ("run" if place is not None else _use_of(wanted))
    given = Given(wanted.target, wanted.stream, wanted.time)
    if place is not None:
        if use != "run":
            raise ConfigError(
                f"--for {use}: {place.url} is live, and streamrde {use} reads recorded data; use --for run, or record "
                "what comes and give the file"
            )
        found = _listen(place, wanted)
    elif use == "run":
        raise ConfigError(
            f"--for run: {sources[0]} is recorded data, which streamrde score reads; use --for score, or give the URL "
            "of a live source, such as mqtt://127.0.0.1:1883/sensors/#"
        )
    else:
        found = look_at_files(sources[0] if len(sources) == 1 else list(sources), given)
    if use in ("fit", "train") and found.target is None and "name" in found.columns:
        raise ConfigError(
            f"{sources[0]}: each row has one value of one channel, and no column looks like a target; give one with "
            "--target, or write a file for a model that you have with --for score"
        )
    model = str(wanted.model or MODEL)
    channels: dict[str, str] | None = None
    labels: tuple[str, ...] = ("label",)
    if wanted.model is not None and use in ("score", "run"):
        labels = labels_of(wanted.model)
        channels = match_channels(wanted.model, found)
        if (units := match_units(wanted.model, channels, found)) is not None:
            found = replace(found, columns={**found.columns, "units": units})
    out = wanted.out or Path(f"{use}.toml")
    command = f"streamrde {use} --config {out}" if use == "score" else f"streamrde {use} {out}"
    return found, use, document(found, use, command=command, model=model, channels=channels, labels=labels)


def _listen(place: Place, wanted: Wanted) -> Findings:
    say = progress(quiet=wanted.quiet)
    keys = dict(wanted.source_keys)
    if place.topic is not None and "topic" in keys:
        place = place._replace(topic=str(keys.pop("topic")))
    captured, config, seconds, found = listen(place, seconds=wanted.seconds, keys=keys, say=say)
    if not wanted.quiet and sys.stderr.isatty():
        print(file=sys.stderr)
    given = {name: Guess(value, "as it was given") for name, value in keys.items()}
    if "user" in place.keys:
        given["user"] = Guess(place.keys["user"], "as it was given")
    if "password" in place.keys:
        given["password_env"] = Guess(
            _VARIABLE, "the environment variable that has the password, which is not written here"
        )
    return look_at_messages(
        captured, place.shown, kind=place.kind, url=place.url, grammar=config.grammar, seconds=seconds, keys=given,
        found=found, by_topic=place.topic is not None, template=place.topic if "{" in (place.topic or "") else None,
    )  # fmt: skip


def _use_of(wanted: Wanted) -> Use:
    named = next((use for use in USES if wanted.out is not None and use in wanted.out.stem.lower()), None)
    return named or ("fit" if wanted.model is None else "score")
