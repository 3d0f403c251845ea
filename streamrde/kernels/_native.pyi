import numpy as np
from numpy.typing import NDArray

from streamrde.kernels.reference import Accumulator as Accumulator
from streamrde.kernels.reference import Names as Names

def choose(variant: str | None) -> str: ...
def variant() -> str: ...
def variants() -> tuple[str, ...]: ...
def fold(
    signatures: NDArray[np.float64],
    increments: NDArray[np.float64],
    starts: NDArray[np.intp],
    lengths: NDArray[np.intp],
    depth: int,
) -> None: ...
def take_paths(
    points: NDArray[np.float64], depth: int, places: NDArray[np.intp] | None
) -> tuple[bool, NDArray[np.float64]]: ...
def log_words(
    signatures: NDArray[np.float64], channels: int, depth: int, places: NDArray[np.intp]
) -> NDArray[np.float64]: ...
