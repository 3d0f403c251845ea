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


def replace_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file under a temporary name beside `path`, sync it, and rename it: it appears whole or not at all."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink()
            raise


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
