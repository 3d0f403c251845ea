"""A polars frame in, predictions out as one: how sure is the model as a recording goes on?

Needs: pip install polars

usage: python examples/score_with_polars.py
"""

import polars as pl

import streamrde as sr
from streamrde.demo.watch_data import FOLDER, MODEL

samples = pl.read_parquet(f"{FOLDER}/subject-0[89].parquet").filter(pl.col("subject") == 8)
predictions = pl.from_arrow(sr.score(samples, MODEL, truth=["label"]))

print(
    predictions.with_columns(
        seconds=(pl.col("t_end") - pl.col("t_start").min().over("stream")) // 5 * 5,
        confidence=pl.col("value").arr.max(),
        right=pl.col("label") == pl.col("true_label"),
    )
    .group_by("seconds")
    .agg(pl.len().alias("windows"), pl.col("right").mean().round(3), pl.col("confidence").mean().round(3))
    .sort("seconds")
    .head(8)
)
