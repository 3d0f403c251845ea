"""Values that are not plain numbers: words, numbers as text, spellings of no value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamrde.connectors.columns import Columns, Missing
from streamrde.connectors.files.cells import numbers_of
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.values import NO_VALUE, WORDS, NotANumberError, Values, spellings
from streamrde.errors import DataError

NAN = math.nan
USUAL = [
    *[("1.5", 1.5), (" -2e3 ", -2000.0), ("+.5", 0.5), ("7", 7.0), ("On", 1.0), ("OFF", 0.0), ("true", 1.0)],
    *[("False", 0.0), ("yes", 1.0), ("no", 0.0), ("", NAN), ("NaN", NAN), ("N/A", NAN), ("null", NAN), ("None", NAN)],
    *[("unavailable", NAN), ("unknown", NAN), ("---", NAN), ("-", NAN), (None, NAN)],
]


def columns(missing: Missing = (), words: dict[str, float] | None = None) -> Columns:
    return Columns(channels=("ax", "ay"), stream=None, missing=missing, words=words or {})


def write(path: Path, ax: pa.Array) -> Path:
    table = pa.table({"t": np.arange(len(ax), dtype=float), "ax": ax, "ay": np.arange(len(ax)) / 2})
    if path.suffix == ".parquet":
        pa.parquet.write_table(table, path)
    elif path.suffix == ".feather":
        pa.feather.write_feather(table, path)
    else:
        cells = ["" if value is None else value for value in ax.to_pylist()]
        path.write_text("t,ax,ay\n" + "".join(f"{i},{value},{i / 2}\n" for i, value in enumerate(cells)))
    return path


def ax_of(path: Path, own: Columns) -> list[float]:
    return [value for samples in read(path, own) for value in samples.x[:, 0].tolist()]


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_usual_words_and_spellings_are_read_in_any_format(tmp_path: Path, suffix: str, encoded: bool) -> None:
    text = pa.array([text for text, _ in USUAL])
    path = write(tmp_path / f"a{suffix}", text.dictionary_encode() if encoded else text)
    np.testing.assert_array_equal(ax_of(path, columns()), [value for _, value in USUAL])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_words_and_missing_values_of_ones_own(tmp_path: Path, suffix: str) -> None:
    text = pa.array(["open", "Closed", "-9999", "-9999.0", "ERR", "1", "unknown", "off"])
    own = columns(("err", -9999), {"open": 1, "closed": 0, "unknown": 0.5})
    path = write(tmp_path / f"a{suffix}", text)
    np.testing.assert_array_equal(ax_of(path, own), [1, 0, NAN, NAN, NAN, 1, 0.5, 0])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_missing_numbers_are_those_of_their_channel(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", pa.array(["0.5", "2", "1"]))
    (samples,) = read(path, columns({"ax": (0.5,), "*": ("1.0",)}))
    np.testing.assert_array_equal(samples.x, [[NAN, 0], [2, 0.5], [NAN, NAN]])


def test_a_word_that_looks_like_a_number_or_no_value_is_a_word(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", pa.array(["1", "2", "NA"]))
    assert ax_of(path, columns(words={"1": 10, "na": 3})) == [10, 2, 3]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".feather"])
def test_other_text_is_named_or_counted(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", pa.array(["1", "open", "unavailable", "2"]))
    with pytest.raises(DataError, match=r"column 'ax', row 1 .*'open' is not a number; .*columns.words"):
        ax_of(path, columns())
    reader = SampleReader(columns(), faults="drop")
    found = [t for _, samples in reader.read(find_recordings(path)[0]) for t in samples.t.tolist()]
    assert found == [0, 2, 3]
    assert dict(reader.dropped) == {"column 'ax': a text that is not a number": 1}


def test_booleans_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pa.array([True, False, None]))
    np.testing.assert_array_equal(ax_of(path, columns()), [1, 0, NAN])


def naive(text: str | None, missing: list[str | float], words: dict[str, float]) -> float | None:
    """Return a text's number by the rules as docs/messy-data.md has them, None where there is none."""
    if text is None:
        return NAN
    text = text.strip().lower()
    number: float | None = None
    if text in [one.strip().lower() for one in missing if isinstance(one, str)]:
        return NAN
    if text in words:
        number = words[text]
    elif text in NO_VALUE:
        return NAN
    elif text in WORDS:
        number = WORDS[text]
    elif text.isascii() and "_" not in text and not any(sign in text for sign in " \n\t\x00\x1f\x0b\x0c\x1c\x1d\x1e"):
        try:
            number = float(text)
        except ValueError:
            return None
    return number


TEXTS = st.text(max_size=4) | st.sampled_from([
    *["1", "-9999", "-9999.0", "1e3", "1E-3", ".5", "5.", "+2", "1_0", "0x1F", "1,5", "inf", "-Infinity", "infin"],
    *["e5", "--1", "open", "OPEN", "closed", "on", "yes", "No", "unknown", "Unavailable", "-", "---", "NaN", "", " "],
    *["٣", "1 2"],
])  # fmt: skip


@given(
    st.lists(TEXTS | st.none(), max_size=20),
    st.lists(st.sampled_from(["err", "open", "-9999", "NO"]), max_size=3, unique=True),
    st.dictionaries(st.sampled_from(["open", "closed", "unknown", "yes"]), st.sampled_from([0.0, 1.0, 2.5])),
)
def test_columns_of_text_agree_with_texts_one_by_one_and_with_payloads(
    texts: list[str | None], missing: list[str | float], words: dict[str, float]
) -> None:
    columns = Columns(channels=("ax",), missing=tuple(missing), words=words)
    own = spellings(columns, "ax")
    values, bad = numbers_of(pa.array(texts, pa.string()), own)
    texts_missing = [one for one in missing if one != "-9999"]
    for text, value, is_bad in zip(texts, values.tolist(), bad.tolist(), strict=True):
        expected = naive(text, texts_missing, words)
        assert is_bad == (expected is None), text
        if expected is not None:
            np.testing.assert_equal(value, expected)
    payloads = Values(columns)
    for text, value, is_bad in zip(texts, values.tolist(), bad.tolist(), strict=True):
        try:
            np.testing.assert_equal(payloads.number("ax", text), value)
        except NotANumberError:
            assert is_bad, text
        else:
            assert not is_bad, text
    assert own.numbers == ((-9999.0,) if "-9999" in missing else ())
