"""Match the channels of a model with the columns of data."""

from __future__ import annotations

import os
import re

from streamrde.errors import ConfigError
from streamrde.inference.bundle import load
from streamrde.looking.guesses import Findings
from streamrde.nearest import listed, nearest


def match_channels(model: str | os.PathLike[str], found: Findings) -> dict[str, str]:
    """Return the column or path of each channel of a model, by the channels' names in the model's order.

    Names match if they are the same but for case and signs, if one is the end of the other, or if they are alike.

    Raises:
        ConfigError: a channel has no column.
    """
    wanted = [channel.name for channel in load(model).header.channels]
    left = [channel.name for channel in found.channels]
    matched: dict[str, str] = {}
    for ways in (_same, _ends, nearest):
        for own in wanted:
            if own not in matched and (name := ways(own, left)) is not None:
                matched[own] = name
                left.remove(name)
    if lacking := [own for own in wanted if own not in matched]:
        raise ConfigError(
            f"{model}: no column was found for its channel{'s' if len(lacking) > 1 else ''} {listed(lacking)}; "
            f"{found.source} has {listed([channel.name for channel in found.channels])}"
        )
    return {own: matched[own] for own in wanted}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _same(own: str, names: list[str]) -> str | None:
    return next((name for name in names if _plain(name) == _plain(own)), None)


def _ends(own: str, names: list[str]) -> str | None:
    wanted = _plain(own)
    alike = [name for name in names if _plain(name).endswith(wanted) or wanted.endswith(_plain(name) or "-")]
    return alike[0] if len(alike) == 1 else None
