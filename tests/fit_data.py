"""Recordings that a model is fitted to: streams that turn left or right, and streams that are fast or slow."""

import numpy as np
import pyarrow as pa


def turning(*, streams=24, length=60, noise=0.01):
    """Turn left in one class and right in the other; two streams per person."""
    rng, t = np.random.default_rng(3), np.arange(length) / 10
    sign = np.where(np.arange(streams) % 2, 1.0, -1.0)
    a = np.concatenate([np.cos(2 * t) + noise * rng.normal(size=length) for _ in sign])
    b = np.concatenate([s * np.sin(2 * t) + noise * rng.normal(size=length) for s in sign])
    number = np.repeat(np.arange(streams), length)
    return pa.table(
        {
            "stream_id": [f"s{i:02}" for i in number],
            "t": np.tile(t, streams),
            "a": a,
            "b": b,
            "subject": number // 2,
            "label": np.where(sign[number] > 0, "left", "right"),
            "size": 5.0 + sign[number],
        }
    )


def swinging(*, streams=12, length=20):
    """Swing fast in one class and slowly in the other."""
    rng, number = np.random.default_rng(0), np.repeat(np.arange(streams), length)
    t = np.tile(np.arange(length) / 4, streams)
    return pa.table(
        {
            "stream_id": [f"s{i:02}" for i in number],
            "t": t,
            "a": np.sin(t * (1 + number % 2)) + 0.1 * rng.normal(size=len(t)),
            "label": np.where(number % 2, "fast", "slow"),
        }
    )
