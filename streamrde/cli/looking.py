"""Look at data for the command `init`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from streamrde.errors import ConfigError
from streamrde.looking.documents import MODEL, USES, Use, document
from streamrde.looking.files import look_at_files
from streamrde.looking.guesses import Findings
from streamrde.looking.matching import match_channels
from streamrde.looking.roles import Given


class Wanted(NamedTuple):
    """Hold what the command line asks for."""

    use: Use | None
    target: tuple[str, ...]
    stream: str | None
    time: str | None
    model: Path | None
    out: Path | None


def look(sources: Sequence[str], wanted: Wanted) -> tuple[Findings, Use, str]:
    """Look at data. Return what was found, the command that will read the file, and the file's text.

    Raises:
        ConfigError: the command cannot use such data.
        DataError: the data cannot be read, or nothing in it is a channel.
    """
    use = wanted.use or _use_of(wanted)
    if use == "run":
        raise ConfigError(
            f"--for run: {sources[0]} is recorded data, which streamrde score reads; use --for score, or give the URL "
            "of a live source"
        )
    files = sources[0] if len(sources) == 1 else list(sources)
    found = look_at_files(files, Given(wanted.target, wanted.stream, wanted.time))
    model = str(wanted.model or MODEL)
    channels = match_channels(wanted.model, found) if wanted.model is not None and use in ("score", "run") else None
    out = wanted.out or Path(f"{use}.toml")
    command = f"streamrde {use} --config {out}" if use == "score" else f"streamrde {use} {out}"
    return found, use, document(found, use, command=command, model=model, channels=channels)


def _use_of(wanted: Wanted) -> Use:
    named = next((use for use in USES if wanted.out is not None and use in wanted.out.stem.lower()), None)
    return named or ("fit" if wanted.model is None else "score")
