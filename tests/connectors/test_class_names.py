"""Names of classes in place of numbers: in payloads of every codec, and in files."""

from __future__ import annotations

import io
import json
import math

import cbor2
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from streamrde.connectors.columns import ColumnKeys, Columns
from streamrde.connectors.files.reading import read
from streamrde.connectors.registry import CODECS
from streamrde.errors import DataError, PayloadError

CLASSES = ("walk", "Walk", "none", "12", "a, b")
COLUMNS = Columns(channels=("ax", "kind"), stream=None, classes={"kind": CLASSES})
NAMES = [*CLASSES, " walk ", None, "unknown", ""]
PLACES = [0, 1, 2, 3, 4, 0, math.nan, math.nan, math.nan]


def arrow(rows):
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def lines(rows):
    quoted = (f'm ax={row["ax"]},kind="{row["kind"]}" {round(row["t"] * 1e9)}' for row in rows if row["kind"])
    return "\n".join(quoted).encode()


ENCODERS = {
    "json": lambda rows: json.dumps(rows).encode(),
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
    "arrow": arrow,
    "lines": lines,
}


@pytest.mark.parametrize("codec", ENCODERS)
def test_a_name_is_the_place_of_its_class(codec):
    columns = msgspec.structs.replace(COLUMNS, time_unit="ns" if codec == "lines" else "s")
    reader = CODECS.find(codec).configured(columns, layout=None, max_bytes=1 << 20)
    rows = [{"t": float(i), "ax": 0.5, "kind": name} for i, name in enumerate(NAMES)]
    t, x = reader.decode(ENCODERS[codec](rows))
    expected = dict(zip(map(float, range(len(NAMES))), PLACES, strict=True))
    if codec == "lines":
        expected = {t: place for t, place in expected.items() if NAMES[int(t)]}
    np.testing.assert_array_equal(t, list(expected))
    np.testing.assert_array_equal(x[:, 1], list(expected.values()))
    with pytest.raises(PayloadError, match=r"'?kind.*none of the classes 'walk', 'Walk', 'none', '12', 'a, b'"):
        reader.decode(ENCODERS[codec]([{"t": 0.0, "ax": 0.5, "kind": "WALK"}]))
    # Words are numbers in other columns only.
    assert codec in ("arrow", "lines") or reader.decode(ENCODERS[codec]([{"t": 0, "ax": "on"}]))[1][0, 0] == 1.0


def test_numbers_stay_numbers_and_single_payloads_are_the_usual_ones():
    reader = CODECS.find("json").configured(COLUMNS, layout=None, max_bytes=1 << 20)
    assert reader.decode(b'{"t": 1, "kind": 2}')[1][0, 1] == 2.0
    with pytest.raises(PayloadError, match="field 'kind' is text, 'run': it is none of the classes"):
        reader.decode(b'{"t": 1, "kind": "run"}')


def test_the_classes_follow_columns_that_are_named_otherwise():
    columns = ColumnKeys(channels=("acc", "what")).columns_for(("ax", "kind"), classes={"kind": CLASSES})
    assert columns.classes == {"what": CLASSES}
    assert columns.only(("acc",)).classes == {}


@pytest.mark.parametrize("form", ["csv", "parquet", "dictionary", "long"])
def test_files_have_names_of_classes_too(form, tmp_path):
    path = tmp_path / f"labels.{'csv' if form in ('csv', 'long') else 'parquet'}"
    columns = COLUMNS
    if form == "csv":
        path.write_text("t,ax,kind\n" + "".join(f'{i},0.5,"{name or ""}"\n' for i, name in enumerate(NAMES)))
    elif form == "long":
        path.write_text("t,name,value\n" + "".join(f'{i},kind,"{name or ""}"\n' for i, name in enumerate(NAMES)))
        columns = msgspec.structs.replace(columns, name="name")
    else:
        names = pa.array(NAMES, pa.string())
        names = names.dictionary_encode() if form == "dictionary" else names
        table = pa.table({"t": np.arange(float(len(NAMES))), "ax": np.full(len(NAMES), 0.5), "kind": names})
        pa.parquet.write_table(table, path)
    x = np.concatenate([samples.x for samples in read(path, columns)])
    np.testing.assert_array_equal(x[:, 1], PLACES)
    if form == "csv":
        path.write_text("t,ax,kind\n0,0.5,walk\n1,0.5,WALK\n")
        with pytest.raises(DataError, match=r"kind.*WALK.*none of the classes 'walk', 'Walk', 'none', '12', 'a, b'"):
            list(read(path, columns))
