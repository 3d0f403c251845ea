"""Files that are read or written whole."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from streamrde.errors import ConfigError, StreamRDEError
from streamrde.settings import convert

S = TypeVar("S", bound=msgspec.Struct)


def replace_file(path: str | os.PathLike[str], data: bytes, *, mode: int = 0o644) -> None:
    """Write a file atomically: under a temporary name beside `path`, then synced and renamed. `mode` is its rights."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(target)
        except BaseException:
            temporary.unlink()
            raise


def prepare_file(path: str | os.PathLike[str] | None, key: str) -> None:
    """Create the folder of a file that will be written, and check that the file can be.

    Args:
        path: the file. None: there is nothing to write.
        key: the setting or option that has the path, for the error.
    Raises:
        ConfigError: the path is a folder, or its folder cannot be created or written to.
    """
    if path is None:
        return
    target = Path(path)
    if target.is_dir() or str(path).endswith(("/", os.sep)):
        raise ConfigError(f"{key} = '{path}': is a folder; give the path of a file")
    prepare_folder(target.parent, key)
    if target.exists() and not os.access(target, os.W_OK):
        raise ConfigError(f"{key} = '{path}': the file cannot be written; choose another path")


def prepare_folder(path: str | os.PathLike[str], key: str) -> None:
    """Create a folder, and check that files can be written in it.

    Raises:
        ConfigError: it cannot be created or written to; names `key`, the setting or option that has the path.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".streamrde."):
            pass
    except OSError as error:
        raise ConfigError(
            f"{key}: nothing can be written in '{path}': {error.strerror or error}; choose another path"
        ) from None


def read_toml(path: str | os.PathLike[str], kind: type[S]) -> S:
    """Read a TOML file into a struct of the given kind.

    Raises:
        ConfigError: the file is missing or no TOML, a key is unknown, missing or of a wrong type, or a value cannot
            work; names the file and the key.
    """
    tables = read_tables(path)
    try:
        return convert(tables, kind)
    except StreamRDEError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_tables(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file into plain tables.

    Raises:
        ConfigError: the file is missing or no TOML; names the file.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}; give the path of a TOML file") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; give the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
