"""Text files in dialects: read as they are described, and recognised."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamrde.connectors.dialect import Dialect
from streamrde.connectors.files.reading import SampleReader, read
from streamrde.connectors.files.recogniser import dialect_of
from streamrde.connectors.files.recordings import find_recordings
from streamrde.connectors.files.text_files import line_of
from streamrde.connectors.samples import Columns
from streamrde.errors import DataError


def columns(dialect: Dialect, *channels: str, time: str = "t") -> Columns:
    return Columns(channels=channels or ("ax", "ay"), stream=None, time=time, csv=dialect)


def rows_of(path: Path, own: Columns) -> list[list[float]]:
    return [[t, *x] for samples in read(path, own) for t, x in zip(samples.t.tolist(), samples.x.tolist(), strict=True)]


ROWS = [[0.0, 1.5, -2.25], [0.02, 1e-3, np.nan], [0.04, 1234.5, 7.0]]
DIALECTS = {
    "semicolons and commas": (
        "t;ax;ay\n0,000;1,5;-2,25\n0,020;1e-3;\n0,04;1234,5;7\n",
        Dialect(delimiter=";", decimal=","),
    ),
    "thousands by points": (
        "t;ax;ay\n0,000;1,5;-2,25\n0,020;1e-3;\n0,04;1.234,5;7\n",
        Dialect(delimiter=";", decimal=",", thousands="."),
    ),
    "thousands by commas in quotes": (
        't,ax,ay\n0.000,1.5,-2.25\n0.020,1e-3,\n0.04,"1,234.5",7\n',
        Dialect(thousands=","),
    ),
    "a preamble": (
        "Logger;ACME\nRate [Hz];50;;;\n\nt,ax,ay\n0.000,1.5,-2.25\n0.020,1e-3,\n0.04,1234.5,7\n",
        Dialect(skip=3),
    ),
    "units": (
        "t,ax,ay\ns,m/s2,[g]\n0.000,1.5,-2.25\n0.020,1e-3,\n0.04,1234.5,7\n",
        Dialect(units_row=True),
    ),
    "remarks above and among": (
        "# made by me\nt,ax,ay\n0.000,1.5,-2.25\n# a pause\n0.020,1e-3,\n0.04,1234.5,7\n",
        Dialect(comment="#"),
    ),
    "a header that is a remark": (
        "# made by me\n# t ax ay\n 0.000   1.5\t-2.25\n0.020 1e-3 nan  \n0.04 1234.5 7\n",
        Dialect(delimiter=" ", comment="#"),
    ),
    "tabs": ("t\tax\tay\n0.000\t1.5\t-2.25\n0.020\t1e-3\t\n0.04\t1234.5\t7\n", Dialect(delimiter="\t")),
    "bars": ("t|ax|ay\n0.000|1.5|-2.25\n0.020|1e-3|\n0.04|1234.5|7\n", Dialect(delimiter="|")),
    "a delimiter at the end of rows": (
        "t;ax;ay\n0.000;1.5;-2.25;\n0.020;1e-3;;\n0.04;1234.5;7;\n",
        Dialect(delimiter=";"),
    ),
    "excel's first line": (
        "sep=;\nt;ax;ay\n0.000;1.5;-2.25\n0.020;1e-3;\n0.04;1234.5;7\n",
        Dialect(delimiter=";", skip=1),
    ),
    "apostrophes": ("t,ax,ay,'note'\n0.000,1.5,-2.25,'a'\n0.020,1e-3,,'b,c'\n0.04,1234.5,7,'d'\n", Dialect(quote="'")),
}  # fmt: skip
ENDS = {"\n": "unix", "\r\n": "windows", "\r": "old mac"}


@pytest.mark.parametrize("end", ENDS, ids=ENDS.values())
@pytest.mark.parametrize("case", DIALECTS)
def test_a_described_dialect_is_read(tmp_path: Path, case: str, end: str) -> None:
    text, dialect = DIALECTS[case]
    path = tmp_path / "a.csv"
    path.write_bytes(text.replace("\n", end).encode())
    np.testing.assert_array_equal(rows_of(path, columns(dialect)), ROWS)


@pytest.mark.parametrize("case", DIALECTS)
def test_a_dialect_is_recognised_and_named_with_its_evidence(tmp_path: Path, case: str) -> None:
    text, dialect = DIALECTS[case]
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = dialect_of(path)
    assert found.dialect == dialect
    assert found.names[:3] == ["t", "ax", "ay"]
    assert found.doubts == []
    said = " ".join(found.evidence)
    for key in ("delimiter", "decimal", "thousands", "skip", "units_row", "comment"):
        assert (f"{key}: " in said) == (getattr(dialect, key) != getattr(Dialect(), key)), key


@pytest.mark.parametrize("case", ["semicolons and commas", "thousands by points", "a preamble", "tabs", "bars"])
def test_the_error_names_the_keys_to_write(tmp_path: Path, case: str) -> None:
    text, dialect = DIALECTS[case]
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        list(read(path, columns(Dialect())))
    assert f"set {dialect.toml()} in [columns]" in str(caught.value)


def test_a_row_of_units_is_named_with_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(DIALECTS["units"][0])
    with pytest.raises(DataError, match=r"line 2: '.*' is not a number but .* set csv.units_row = true"):
        list(read(path, columns(Dialect(), time="")))


def test_units_are_kept_by_column(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(DIALECTS["units"][0])
    assert dialect_of(path).units == {"t": "s", "ax": "m/s2", "ay": "[g]"}


def test_columns_without_a_header_have_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("0.0,1.5,-2.25\n0.02,1e-3,\n0.04,1234.5,7\n")
    assert dialect_of(path).dialect == Dialect(header=False)
    np.testing.assert_array_equal(rows_of(path, columns(Dialect(header=False), "1", "2", time="0")), ROWS)
    with pytest.raises(
        DataError, match=r"has no header: .* call columns 0, 1, 2, \.\.\. and set csv = { header = false }"
    ):
        list(read(path, columns(Dialect())))


@pytest.mark.parametrize(
    ("text", "dialect", "names"),
    [
        ("--- made by X ---\nSerial: 1\nat 30 Hz\n\nt,ax,ay\n0.5,1.5,-2\n", Dialect(skip=4), ["t", "ax", "ay"]),
        ("1709287200.000000, IBI\n12.5,0.84\n13.25,0.83\n", Dialect(skip=1, header=False), ["0", "1"]),
        ("t,0,1\n0,1.5,2\n1,2.5,3\n", Dialect(), ["t", "0", "1"]),
        (
            "TOA5,CR1000\nTIMESTAMP,RECORD,T\nTS,RN,Deg C\n,,Avg\n2024-03-01 10:00:00,0,21.5\n2024-03-01 10:01:00,1,2",
            Dialect(skip=1, units_row=2),
            ["TIMESTAMP", "RECORD", "T"],
        ),
        ("X\tV\tComment\n0.0\t1.5\n0.1\t1.25\n0.2\t1.5\n", Dialect(delimiter="\t"), ["X", "V"]),
        ("%remark\nt, ax\n 0, 1.5\n 1, 2.5\n", Dialect(comment="%"), ["t", "ax"]),
        ("t\n0\n1\n", Dialect(), ["t"]),
        ("0,1\n0.5,1\n1.5,2\n", Dialect(), ["0", "1"]),
        ("ip,t,ax\n192.168.100.200,0.5,1\n192.168.100.201,1.5,2\n", Dialect(), ["ip", "t", "ax"]),
        ("colour,t,ax\n#ff0000,0,1\n#00ff00,1,2\n#0000ff,2,3\n", Dialect(), ["colour", "t", "ax"]),
        ("t,ax,ay\n0,na,on\n1,1,2\n2,3,4\n", Dialect(), ["t", "ax", "ay"]),
        ("at,ax\n2024-03-05T12:00:00Z,off\n2024-03-05T12:00:01Z,1\n2024-03-05T12:00:02Z,2\n", Dialect(), ["at", "ax"]),
        ("t,ax\n0,1\n", Dialect(), ["t", "ax"]),
    ],
)
def test_small_and_odd_files_are_recognised(tmp_path: Path, text: str, dialect: Dialect, names: list[str]) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    found = dialect_of(path)
    assert (found.dialect, found.names) == (dialect, names)
    own = Columns(channels=(names[-1],), stream=None, time="", csv=dialect)
    last = float(text.split()[-1].split(",")[-1])
    assert [one[-1] for one in rows_of(path, own)][-1] == last


@given(st.text(st.sampled_from("ab1.,;\t |#%'\"-:\n"), max_size=60))
@settings(deadline=None)
def test_any_text_is_recognised_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "a.csv"
    path.write_text(text)
    try:
        found = dialect_of(path)
    except DataError:
        return
    assert found.names or not text.strip()


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("case", ["semicolons and commas", "remarks above and among", "a header that is a remark"])
def test_encodings_are_read_and_recognised(tmp_path: Path, encoding: str, case: str) -> None:
    text, dialect = DIALECTS[case]
    text = text.replace("ay", "größe")
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode(encoding))
    named = "utf-8" if encoding == "utf-8-sig" else encoding
    own = Dialect(delimiter=dialect.delimiter, decimal=dialect.decimal, comment=dialect.comment, encoding=named)
    np.testing.assert_array_equal(rows_of(path, columns(own, "ax", "größe")), ROWS)
    assert dialect_of(path).dialect == own
    assert dialect_of(path).doubts == []


def test_commas_with_three_digits_alone_are_doubtful(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("t;ax;ay\n0;1,234;2\n1;2,500;3\n")
    found = dialect_of(path)
    assert found.dialect == Dialect(delimiter=";", decimal=",")
    assert found.doubts == ["decimal: the commas of '1,234' and others may part thousands instead"]


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda data: pa.compress(data, "zstd", asbytes=True),  # type: ignore[no-any-return]
}


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("kind", [".csv", ".tsv", ".txt", ".dat"])
def test_compressed_text_is_read_by_its_name(tmp_path: Path, kind: str, suffix: str) -> None:
    text, dialect = DIALECTS["a header that is a remark"] if kind in (".txt", ".dat") else DIALECTS["tabs"]
    path = tmp_path / f"a{kind}{suffix}"
    path.write_bytes(PACK[suffix](text.encode()))
    own = Dialect() if kind == ".tsv" else dialect
    np.testing.assert_array_equal(rows_of(path, columns(own)), ROWS)
    assert find_recordings(path)[0].stream == "a"


@pytest.mark.parametrize("suffix", list(PACK)[1:])
def test_a_name_that_says_another_compression_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(PACK[suffix](b"t,ax,ay\n0,1,2\n"))
    with pytest.raises(DataError, match=rf"is compressed with \w+; call it \.csv\{suffix}"):
        list(read(path, columns(Dialect())))
    other = tmp_path / f"b.csv{suffix}"
    other.write_text("t,ax,ay\n0,1,2\n")
    with pytest.raises(DataError, match=r"is not compressed with \w+; call it \.csv"):
        list(read(other, columns(Dialect())))


@pytest.mark.parametrize("suffix", list(PACK)[1:])
def test_a_cut_compressed_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.csv{suffix}"
    text = "t,ax,ay\n" + "".join(f"{i},{i * 0.37 % 1:.9f},{i * 0.61 % 1:.9f}\n" for i in range(200_000))
    packed = PACK[suffix](text.encode())
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=r"a\.csv"):
        list(read(path, columns(Dialect())))


def test_text_files_in_a_folder_count_if_there_are_no_other_recordings(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Read me.\n")
    (tmp_path / "a.dat").write_text("t,ax\n0,1\n")
    assert [one.stream for one in find_recordings(tmp_path)] == ["README", "a"]
    (tmp_path / "b.csv").write_text("t,ax\n0,1\n")
    assert [one.stream for one in find_recordings(tmp_path)] == ["b"]


LINES = 'x\n# a\nt;ax;ay\n# b\ns;g;g\n0,0;1;2\n# "c\n\n0,1;"2";3\n0,2;oops;4\n'


def test_errors_name_the_row_and_the_line_of_a_described_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(LINES)
    own = Dialect(delimiter=";", decimal=",", skip=1, units_row=True, comment="#")
    assert [line_of(path, row, own) for row in range(4)] == [6, 9, 10, None]
    with pytest.raises(DataError, match=r"column 'ax', row 2 \(the first is 0\), line 10: 'oops' is not a number"):
        list(read(path, columns(own)))
    reader = SampleReader(columns(own), faults="drop")
    (recording,) = find_recordings(path)
    assert [t for _, one in reader.read(recording) for t in one.t.tolist()] == [0, 0.1]
    assert sum(reader.dropped.values()) == 1


def test_a_line_of_another_length_is_named_below_a_preamble(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(LINES.replace("oops;4", "4"))
    own = Dialect(delimiter=";", decimal=",", skip=1, units_row=True, comment="#")
    with pytest.raises(DataError, match=r"line 10: Expected 3 columns, got 2"):
        list(read(path, columns(own)))


@pytest.mark.parametrize("end", ENDS, ids=ENDS.values())
def test_tables_below_one_another_with_remarks_and_headers_are_one(tmp_path: Path, end: str) -> None:
    table = "#group,false,true\n#datatype,double,double\n,t,ax,größe\n"
    text = f"{table},0,1,2\n,1,3,4\n\n{table},2,5,6\n,3,oops,8\n"
    path = tmp_path / "a.csv"
    path.write_bytes(text.replace("\n", end).encode())
    own = columns(Dialect(comment="#"), "ax", "größe")
    with pytest.raises(DataError, match=r"column 'ax', row 3 .*line 11: 'oops'"):
        rows_of(path, own)
    path.write_bytes(text.replace("\n", end).replace("oops", "7").encode())
    assert rows_of(path, own) == [[0, 1, 2], [1, 3, 4], [2, 5, 6], [3, 7, 8]]
    assert dialect_of(path).dialect == Dialect(comment="#")


def test_a_comment_sign_within_a_quoted_value_is_no_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('t,ax,ay,note\n0,1,2,"a\n# not a remark"\n# a remark with "one quote\n1,2,3,b\n')
    own = Dialect(comment="#")
    np.testing.assert_array_equal(rows_of(path, columns(own)), [[0, 1, 2], [1, 2, 3]])
    assert line_of(path, 1, own) == 5


@pytest.mark.parametrize(
    ("text", "dialect", "match"),
    [
        ("1.5", Dialect(decimal=",", delimiter=";"), "has a decimal point, and csv.decimal is"),
        ("1.234", Dialect(decimal=",", delimiter=";"), "its point may part thousands; set csv.thousands"),
        ("12.34", Dialect(decimal=",", delimiter=";", thousands="."), "is not a number"),
        ("1.23.456", Dialect(decimal=",", delimiter=";", thousands="."), "is not a number"),
        ("1,5", Dialect(delimiter=";"), 'has a decimal comma; set csv.decimal = ","'),
        ("1,234", Dialect(delimiter=";"), "its comma may part thousands or be a decimal sign; set csv.thousands"),
        ("1 234", Dialect(delimiter=";"), "is not a number"),
    ],
)
def test_numbers_of_another_dialect_are_not_misread(tmp_path: Path, text: str, dialect: Dialect, match: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"t;ax;ay\n0;1;2\n1;{text};3\n")
    with pytest.raises(DataError, match=rf"column 'ax', row 1 .*{match}"):
        list(read(path, columns(dialect)))


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=32) | st.integers(-(10**9), 10**9).map(float)


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=20),
    st.sampled_from([";", "\t", "|", " ", ","]),
    st.sampled_from([".", ","]),
    st.sampled_from(["", ".", ",", "'", " "]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_what_is_written_in_a_dialect_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    values: list[tuple[float, float]],
    delimiter: str,
    decimal: str,
    thousands: str,
    remarks: bool,
) -> None:
    if thousands == decimal:
        thousands = ""

    def text(value: float) -> str:
        plain = repr(value)
        if "e" not in plain and thousands:
            plain = f"{value:,.9f}"
            written = plain.replace(",", "T").replace(".", decimal).replace("T", thousands)
        else:
            written = plain.replace(".", decimal)
        return f'"{written}"' if delimiter in written else written

    def value_of(value: float) -> float:
        plain = repr(value)
        return value if "e" in plain or not thousands else float(f"{value:.9f}")

    dialect = Dialect(delimiter=delimiter, decimal=decimal, thousands=thousands, comment="#" if remarks else "")
    lines = [f"t{delimiter}ax{delimiter}ay"]
    for i, (a, b) in enumerate(values):
        lines.append(delimiter.join((str(i), text(a), text(b))))
        lines += ["# a remark"] * (remarks and i % 3 == 0)
    path = tmp_path_factory.mktemp("dialect") / "a.csv"
    path.write_text("\n".join(lines) + "\n")
    expected = [[float(i), value_of(a), value_of(b)] for i, (a, b) in enumerate(values)]
    np.testing.assert_allclose(rows_of(path, columns(dialect)), expected, rtol=1e-15)
