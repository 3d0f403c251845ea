"""The map of foreign errors about files: each becomes a DataError that names the file and says what to do."""

from __future__ import annotations

import errno
import gzip
import os
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from streamrde.connectors.files.errors import FOREIGN, mapped_errors
from streamrde.connectors.files.reading import read
from streamrde.connectors.samples import Columns
from streamrde.errors import ConfigError, DataError

MAP: dict[str, tuple[Exception, str]] = {
    "ArrowInvalid": (
        pa.ArrowInvalid("Invalid: magic bytes\nmore"),
        r"cannot be read \(Invalid: magic bytes\); copy it",
    ),
    "ArrowNotImplementedError": (pa.ArrowNotImplementedError("no such type"), "cannot be read .*no such type"),
    "ArrowKeyError": (pa.lib.ArrowKeyError("no field"), "cannot be read"),
    "ArrowTypeError": (pa.lib.ArrowTypeError("type"), "cannot be read"),
    "ArrowIndexError": (pa.lib.ArrowIndexError("index"), "cannot be read"),
    "ArrowSerializationError": (pa.lib.ArrowSerializationError("flatbuffer"), "cannot be read"),
    "ArrowCapacityError": (pa.lib.ArrowCapacityError("2 GiB"), "cannot be read"),
    "ArrowMemoryError": (pa.lib.ArrowMemoryError("malloc of size 2**60 failed"), "a size in it is damaged"),
    "MemoryError": (MemoryError(), r"cannot be read \(MemoryError\): a size in it is damaged"),
    "OverflowError": (OverflowError("int too large"), "cannot be read"),
    "FileNotFoundError": (FileNotFoundError(errno.ENOENT, "gone"), "the file was deleted; run again"),
    "PermissionError": (PermissionError(errno.EACCES, "Permission denied"), "give this user the right"),
    "IsADirectoryError": (IsADirectoryError(errno.EISDIR, "Is a directory"), "Is a directory"),
    "disk full": (OSError(errno.ENOSPC, "No space left on device"), "check the disk's space"),
    "OSError": (OSError("ZSTD decompression failed"), "ZSTD decompression failed"),
    "BadGzipFile": (gzip.BadGzipFile("CRC check failed"), "CRC check failed"),
    "EOFError": (EOFError("ended before the end-of-stream marker"), "ended before"),
    "zlib.error": (zlib.error("invalid block type"), "invalid block type"),
    "struct.error": (struct.error("unpack requires 4 bytes"), "unpack requires"),
    "UnicodeDecodeError": (UnicodeDecodeError("utf-8", b"\xb0", 0, 1, "invalid start byte"), "is not UTF-8"),
}


@pytest.mark.parametrize("name", MAP)
def test_a_foreign_error_becomes_one_that_names_file_and_column(name: str) -> None:
    foreign, match = MAP[name]
    with (
        pytest.raises(DataError, match=rf"^a\.parquet: column 'ax': .*{match}") as caught,
        mapped_errors("a.parquet", "ax"),
    ):
        raise foreign
    assert (caught.value.path, caught.value.column) == ("a.parquet", "ax")
    assert "\n" not in str(caught.value)


def test_every_foreign_error_is_in_the_map() -> None:
    for kind in FOREIGN:
        assert any(isinstance(error, kind) for error, _ in MAP.values()), kind


@pytest.mark.parametrize(
    "own", [ConfigError("ours"), DataError("ours", path="b"), KeyboardInterrupt(), KeyError("a bug")]
)
def test_own_errors_interrupts_and_bugs_pass_through(own: BaseException) -> None:
    with pytest.raises(type(own)) as caught, mapped_errors("a.parquet"):
        raise own
    assert caught.value is own


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t,ax\n0,1\n")
    path.chmod(0)
    with pytest.raises(DataError, match=r"a\.csv: cannot be read .*give this user the right"):
        list(read(path, Columns(channels=("ax",), stream=None)))


@pytest.mark.parametrize("name", ["a.parquet", "a.feather", "a.arrows"])
def test_a_folder_called_as_a_file_is_looked_into(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="the folder has no file"):
        list(read(tmp_path / name, Columns(channels=("ax",), stream=None)))


def test_a_path_that_no_system_takes_is_an_error() -> None:
    for path in ("x" * 5000 + ".csv", "a\0b.csv"):
        with pytest.raises(DataError, match=r"no such file or folder|cannot be read"):
            list(read(path, Columns(channels=("ax",), stream=None)))
