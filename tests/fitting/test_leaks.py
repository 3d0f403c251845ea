"""What gives a target away is found and said, with a remedy, and nothing else is."""

import numpy as np
import pyarrow as pa

import streamrde as sr


def table(**more):
    rng, number = np.random.default_rng(0), np.repeat(np.arange(24), 16)
    t = np.tile(np.arange(16) / 4, 24)
    columns = {
        "stream_id": [f"s{i:02}" for i in number],
        "t": t,
        "a": np.sin(t * (1 + number % 2)) + 0.2 * rng.normal(size=len(t)),
        "label": np.where(number % 2, "fast", "slow"),
    }
    return pa.table(columns | {name: make(number, t) for name, make in more.items()})


def warned(rows, target="label", **options) -> str:
    return "\n".join(sr.fit(rows, target, **options).fitted.warnings)


def test_honest_data_are_not_warned_of() -> None:
    assert not warned(table())


def test_a_constant_that_determines_the_class_is_found() -> None:
    assert "channel 'code' is constant in each stream and determines target 'label'" in warned(
        table(code=lambda number, t: 3 + number % 2)
    )
    assert not warned(table(age=lambda number, t: 20 + number % 5))


def test_a_copy_of_a_number_is_found() -> None:
    rows = table(y=lambda number, t: np.sin(t) + number, z=lambda number, t: 5 * np.sin(t) + 5 * number - 1)
    assert "channel 'z' determines target 'y' row by row" in warned(rows, "y")


def test_rows_that_are_numbered_in_order_of_the_classes_are_found() -> None:
    rows = table(
        row=lambda number, t: np.argsort(np.argsort((number % 2) * 1000 + number, kind="stable"), kind="stable")
    )
    assert "channel 'row' numbers the rows in an order that tells 'label'" in warned(rows)


def test_a_stream_that_is_there_twice_is_found() -> None:
    rows = table().to_pandas()
    twin = rows[rows.stream_id == "s03"].assign(stream_id="z")
    both = pa.table({name: np.concatenate([rows[name], twin[name]]) for name in rows})
    assert "streams of different groups, 1 times, such as s03, z" in warned(both)


def test_names_that_share_a_beginning_ask_for_groups() -> None:
    rows = table(person=lambda number, t: number // 3)
    named = rows.set_column(0, "stream_id", pa.array([f"p{n // 3}_{n}" for n in np.repeat(np.arange(24), 16)]))
    assert "the streams' names share beginnings" in warned(named, group="", drop=["person"])
    assert not warned(named, group="person")
