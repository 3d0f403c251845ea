"""Configure a fit, so that a TOML file repeats it."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal

import msgspec

from streamrde import toml
from streamrde.connectors.columns import ColumnKeys, given_keys
from streamrde.disk import read_toml, replace_file
from streamrde.errors import ConfigError

Minutes = Annotated[float, msgspec.Meta(gt=0)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[int, msgspec.Meta(ge=0)]


class FitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Say what is fitted, and how."""

    data: str | tuple[str, ...]
    """Recorded files: a file, folder or glob, or several, relative to the current working directory."""
    target: str | tuple[str, ...]
    """Column to predict. Several columns of numbers are predicted together."""
    task: Literal["auto", "classification", "regression"] = "auto"
    """Kind of target: classes, or numbers. "auto": text and few whole numbers are classes."""
    stream: str | tuple[str, ...] | None = None
    """Column of the stream's name. Several are joined by "/". "": each file is one stream. Left out: it is found."""
    time: str | tuple[str, str] | None = None
    """Column of the time. Two are the date and the time of day. "": rows are a second apart. Left out: it is found."""
    time_unit: str = "s"
    """Unit of times that are numbers."""
    columns: ColumnKeys | None = None
    """Columns of the data, and how they are read. The keys are the same in payloads; each is given there or above."""
    channels: tuple[str, ...] = ()
    """Columns of the channels. []: all other columns of numbers."""
    drop: tuple[str, ...] = ()
    """Columns that are no channels."""
    group: str | None = None
    """Column of what is kept together, such as a person. "": none. Left out: it is found."""
    split: str | None = None
    """Column that marks a test part, or folds. "": none. Left out: it is found."""
    horizon: float | str = 0.0
    """Time by which the targets lie ahead: seconds, or text such as "24h"."""
    class_weights: Literal["equal", "balanced"] | dict[str, AboveZero] = "equal"
    """Cost of an error by class: the same for each stream, "balanced" (the same for each class, however rare), or a
    table of factors by class, 1 for those not named."""
    seed: NotNegative = 0
    """Seed of the random features and of the folds."""
    choice: str = ""
    """Name of the candidate to fit, as the table of an earlier fit has it. "": the best of all."""
    minutes: Minutes | None = None
    """Minutes after which no further candidate is tried. After all others, PyTorch trains stacks and a Neural RDE while
    there is time (extra `train`). Left out: all candidates but these are tried."""
    memory: int | str | None = None
    """Memory that the fit may use: bytes, or text such as "2GB". Of data that need more, a sample of streams chooses
    the model, and all streams teach its readout. Left out: a quarter of the machine's."""
    out: str = "model.safetensors"
    """The model's file."""

    @classmethod
    def prepared(cls, tables: dict[str, Any]) -> dict[str, Any]:
        """Return the tables with those keys of [columns] at the top that stand there too.

        Raises:
            ConfigError: a key has different values in both places.
        """
        if not (columns := tables.get("columns")):
            return tables
        both = {key: value for key, value in columns.items() if key in cls.__struct_fields__}
        for key, value in both.items():
            if tables.get(key, value) != value:
                raise ConfigError(f"{key} is in [columns] and at the top of the file: give it once")
        return {**tables, **both, "columns": {key: value for key, value in columns.items() if key not in both}}

    def arguments(self) -> dict[str, Any]:
        """Return all but `out` as arguments of `streamrde.fit`."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if name != "out"}


def read_config(path: str | os.PathLike[str]) -> FitConfig:
    """Read a TOML file.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, missing or of a wrong type.
    """
    config = read_toml(path, FitConfig)
    if not config.data or not config.target:
        name = "target" if config.data else "data"
        raise ConfigError(f"{path}: {name} = {toml.value(getattr(config, name))}: give at least one")
    return config


def write_config(path: str | os.PathLike[str], config: FitConfig) -> None:
    """Write a TOML file that `read_config` reads. See `text_of`."""
    replace_file(path, text_of(config).encode())


def text_of(config: FitConfig) -> str:
    """Return TOML with the seed, the model's file, and every key that differs from its default."""
    from streamrde import __version__

    usual = {field.name: field.default for field in msgspec.structs.fields(FitConfig)}
    columns = None if config.columns is None else given_keys(config.columns)
    values = {
        name: value
        for name, value in msgspec.structs.asdict(config).items()
        if name in ("seed", "out") or value != usual[name]
    } | {"columns": columns or None}
    head = (
        f"# Written by streamrde {__version__}. `streamrde fit` with this file makes the same model again,\n"
        "# in the folder where it was made: paths are relative to it.\n"
    )
    return head + toml.dumps(values)
