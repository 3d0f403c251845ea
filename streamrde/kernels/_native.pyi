# The compiled kernels. Arrays are C-contiguous and of exactly the dtype that stands here, or a TypeError says so.
# Shapes stand at line ends: C channels of the path with time, S = C + ... + C^depth, B words, H hidden.

from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Floats, Indices, Ints, Reals
from streamrde.kernels.outcome import Outcome

Bytes: TypeAlias = NDArray[np.uint8]
Offsets: TypeAlias = NDArray[np.int32]
Singles: TypeAlias = NDArray[np.float32]
Layer: TypeAlias = tuple[Reals, Reals, int]  # weight (outputs, inputs), bias (outputs,), number of the activation
LastLayer: TypeAlias = tuple[Reals, Reals]  # weight (H * B, width), bias (H * B,)
Tableau: TypeAlias = tuple[  # of an explicit method of at most 4 stages
    int,  # order
    int,  # parts of a step at whose ends the nodes lie
    tuple[int, ...],  # node of each stage, in parts
    tuple[tuple[float, ...], ...],  # row i: i coefficients
    tuple[float, ...],  # weight of each stage
]

LAYOUT: dict[str, str]  # text of the declarations that Python has too; see layout.py

# Variants: "baseline", "avx2", "avx512". `choose` takes None for the best one.
def choose(variant: str | None, /) -> str: ...
def variant() -> str: ...
def variants() -> tuple[str, ...]: ...  # those that this processor has, the best first

# The same functions as in reference.py.
def fold(
    signatures: Floats,  # (rows, S), changed in place
    increments: Floats,  # (pieces, C)
    starts: Indices,  # (rows,)
    lengths: Indices,  # (rows,)
    depth: int,
    /,
) -> None: ...
def join(
    left: Floats,  # (rows, S)
    right: Floats,  # (rows, S)
    channels: int,
    depth: int,
    /,
) -> Floats: ...
def path_signatures(
    points: Floats,  # (paths, L, C)
    depth: int,
    places: Indices | None,  # (places,)
    /,
) -> tuple[bool, Floats]: ...  # (paths, S) or (paths, places)
def log_words(
    signatures: Floats,  # (rows, S)
    channels: int,
    depth: int,
    places: Indices,  # (places,)
    /,
) -> Floats: ...  # (rows, places)
def kalman(
    rows: Floats,  # (slots, columns), changed in place
    slots: Indices,  # (n,)
    start: int,  # column
    phi: Floats,  # (n, outputs, features)
    residual: Floats,  # (n, outputs)
    noise: Floats,  # (n, outputs)
    keep: Floats,  # (n, outputs)
    prior: Floats,  # (outputs, features)
    clip: float,
    most: float,
    /,
) -> None: ...
def observe(
    marks: NDArray[np.uint32],  # (slots, 2 + 3 channels), changed in place
    slots: Indices,  # (n,)
    x: Floats,  # (n, channels)
    bounds: Floats,  # (4, channels)
    sentinels: Floats,  # (k,)
    after: NDArray[np.uint32],  # (3, channels)
    /,
) -> Ints | None: ...  # (events, 3)

# Training: all windows of N rows, K windows each, in float32 or float64. See models/compiled_sequence.py.
def sequence_forward(
    first: Reals,  # (N, H)
    logsigs: Reals,  # (N, K, B), scaled
    seconds: Reals | None,  # (N, K); read where the state decays
    mask: Reals | None,  # (N, width): factors on the last hidden layer's outputs
    before: Reals | None,  # (N, B): drives the first stage of the first window
    layers: list[Layer],
    last: LastLayer,
    rates: Reals | None,  # (H,): decay per second
    tableau: Tableau,
    substeps: int,
    keep: bool,
    threads: int,
    /,
) -> tuple[Reals, Reals]: ...  # states (N, K + 1, H), tape (n,) or, unless kept, (0,)
def sequence_backward(
    gradient: Reals,  # (N, K + 1, H)
    states: Reals,  # (N, K + 1, H)
    tape: Reals,
    logsigs: Reals,
    seconds: Reals | None,
    mask: Reals | None,
    before: Reals | None,
    layers: list[Layer],
    last: LastLayer,
    rates: Reals | None,
    tableau: Tableau,
    substeps: int,
    threads: int,
    /,
) -> tuple[
    Reals,  # gradient of `first`
    list[tuple[Reals, Reals]],  # of the layers' weights and biases
    Reals,  # of the last weight
    Reals,  # of the last bias
    Reals | None,  # of the rates
]: ...

class Accumulator:
    """Twin of reference.Accumulator."""

    def __init__(self, channels: int, depth: int, indices: Indices, brackets: bool, /) -> None: ...
    def push(self, x: Any, /) -> None: ...  # (channels,)
    def push_many(self, X: Any, /) -> None: ...  # (n, channels)
    def _take(self, samples: Floats, /) -> None: ...  # (n, channels), finite
    def value(self, out: Floats | None = None) -> Floats: ...  # (B,)
    def words(self, out: Floats | None = None, /) -> Floats: ...  # (B,)
    def reset(self) -> None: ...
    def state(self) -> tuple[bool, Floats]: ...  # (channels + S,)
    def set_state(self, started: bool, state: Floats, /) -> None: ...  # (channels + S,)

class Names:
    """Twin of reference.Names. Name i is the bytes offsets[i] to offsets[i + 1], UTF-8."""

    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def find(self, offsets: Offsets, data: Bytes, /) -> Indices: ...  # (names + 1,) -> (names,)
    def add(self, offsets: Offsets, data: Bytes, /) -> tuple[Indices, Indices]: ...  # slots (names,), new ones (added,)
    def names(self, slots: Indices, /) -> tuple[Offsets, Bytes]: ...
    def release(self, slots: Indices, /) -> None: ...
    def live(self) -> Indices: ...  # (live,)

class Loop:
    """Twin of windowing.loop.ReferenceLoop. Its methods release the GIL."""

    def __init__(
        self,
        layout: tuple[int, int, int, int],  # width of a row; where x, seen and the signature begin
        sizes: tuple[int, bool, bool, bool, int],  # data channels, time, counts, elapsed, depth
        words: Indices,  # places of the words in a signature, (B,)
        fills: Floats,  # (channels,)
        windows: tuple[str, Floats],  # tag of the policy, and the numbers that its twin in C++ is made of
        gap: tuple[bool, float, float, bool, bool],  # hold, longest gap, seconds that values hold, carry, resumes
        wait: tuple[int, float],  # samples and seconds for which a channel is waited for
        order: tuple[float, int, int, int, bool, int],  # of windowing.Order, and restart_after
        # Of a token: where rings, sums, waves and pulses begin, ends, summaries, speeds of bands (3, count + 1) and of
        # pulses (3, 2 x count + 1), parts (n, 7), scales (n, 2), and each scale's words.
        token: tuple[int, int, int, int, bool, bool, Floats, Floats, Indices, Indices, tuple[Indices, ...]],
        /,
    ) -> None: ...
    def push(
        self,
        rows: Floats,  # (slots, width), changed in place
        slots: Indices,  # (n,)
        t: Floats,  # (n,)
        x: Floats,  # (n, channels)
        drop: bool,
        threads: int = 1,
        windows: int = -1,
        /,
    ) -> Outcome: ...
    def push_one(self, rows: Floats, slot: int, t: Any, x: Any, drop: bool, /) -> Outcome | Literal[False] | None: ...
    def limit(self, low: Floats, high: Floats, /) -> None: ...  # (channels,)
    def advance(self, rows: Floats, slots: Indices, t: Floats, windows: int = -1, share: int = -1, /) -> Outcome: ...
    def flush(self, rows: Floats, slots: Indices, windows: int = -1, share: int = -1, /) -> Outcome: ...
    def go_on(self, rows: Floats, slots: Indices, windows: int = -1, share: int = -1, /) -> Outcome: ...
    def pass_time(self, rows: Floats, slots: Indices, t: Floats, /) -> Outcome: ...
    def close(self, rows: Floats, slots: Indices, /) -> Outcome: ...
    def held(self, slot: int, /) -> Floats: ...  # (n, entry)
    def hold(self, slot: int, entries: Floats, pending: int, /) -> None: ...  # (n, entry)

class Stepper:
    """Twin of inference.steppers.ArrayStepper for MLP fields, in float32, or in float64 if is_double."""

    def __init__(
        self,
        is_double: bool,
        initial: Layer,
        readout: Layer,
        layers: list[Layer],
        last: LastLayer,
        scale: Floats,  # (B,)
        decay: Reals | None,  # (H,)
        tableau: Tableau,
        substeps: int,  # 0: as many as the tolerance asks for
        tolerance: float,
        most_substeps: int,
        shift: Floats | None,  # (B,)
        clip: float,  # 0: nothing is clipped
        summaries: int,  # place from which NaN becomes 0
        /,
    ) -> None: ...
    def initial(self, x0: Reals, /) -> Reals: ...  # (n, C) -> (n, H)
    def output(self, z: Reals, probabilities: bool, /) -> Reals: ...  # (n, H) -> (n, outputs)
    @overload
    def step(
        self, z: Reals, logsigs: Floats, previous: Floats | None, error: Literal[False], threads: int, /
    ) -> Reals: ...  # z (n, H), logsigs and previous (n, B) -> (n, H)
    @overload
    def step(
        self, z: Reals, logsigs: Floats, previous: Floats | None, error: Literal[True], threads: int, /
    ) -> tuple[Reals, Floats]: ...  # (n, H), (n,)

# Training: half a block of a stack over K tokens of N streams. See models/compiled_residual.py.
TokenData: TypeAlias = tuple[
    Reals,  # x (K, N, width)
    Reals | None,  # keep (N, width): factors on the branch's output
    Reals | None,  # time (K, N) in usual windows, and
    Reals | None,  # state (N, S) before the first token, where the branch has a state
]
TorchLayer: TypeAlias = tuple[Reals, Reals | None]  # weight (out, in), bias (out,)
TorchLayers: TypeAlias = tuple[TorchLayer | None, TorchLayer | None, TorchLayer | None]

def residual_forward(
    data: TokenData,
    cell: int,  # of inference.steppers.stack.CELLS
    option: int,
    norm: Reals,  # (width,)
    layers: TorchLayers,  # on the token, on the state before, and out of the state
    vectors: tuple[Reals, ...],
    keep: bool,
    threads: int,
    /,
) -> tuple[Reals, Reals, Reals]: ...  # y (K, N, width), states (K, N, S), tape (n,) or, unless kept, (0,)
def residual_backward(
    data: TokenData,
    cell: int,
    option: int,
    norm: Reals,
    layers: TorchLayers,
    vectors: tuple[Reals, ...],
    of_y: Reals,  # (K, N, width)
    of_states: Reals | None,  # (K, N, S)
    states: Reals,
    tape: Reals,
    threads: int,
    /,
) -> tuple[
    Reals,  # gradient of x
    Reals,  # of the state
    Reals,  # of norm
    tuple[tuple[Reals | None, Reals | None], ...],  # of the layers' weights and biases
    tuple[Reals, ...],  # of the vectors
]: ...
def closing_forward(
    x: Reals,  # (K, N, width)
    z: Reals,  # (N, H)
    norm: Reals | None,  # (width,)
    states: tuple[Reals, ...],  # of each block, (K, N, S)
    mean: bool,
    last: bool,
    memory: float,
    /,
) -> Reals: ...  # (N, K + 1, H)
def closing_backward(
    x: Reals,
    z: Reals,
    norm: Reals | None,
    states: tuple[Reals, ...],
    mean: bool,
    last: bool,
    memory: float,
    gradient: Reals,  # (N, K + 1, H)
    through: bool,
    /,
) -> tuple[Reals, Reals, Reals, tuple[Reals, ...]]: ...  # gradients of x, z, norm and, if through, states

class Stack:
    """Twin of inference.fields.stack, in float32, or in float64 if is_double."""

    def __init__(
        self,
        is_double: bool,
        cell: int,  # of inference.steppers.stack.CELLS
        sizes: tuple[int, int, int],  # numbers in a row of the state, the recurrence's option, and the perceptron
        mean: bool,
        last: bool,  # what is pooled
        memory: float,  # windows that the mean goes back
        unit: float,  # seconds that count as 1; 0: every token counts as 1
        scaling: tuple[Floats, Floats | None, float, int, float],  # scale, shift (B,), clip, summaries, gain
        ends: tuple[Layer, Layer],  # the layer that takes tokens, and the readout
        norm: Reals | None,  # (width,)
        blocks: list[tuple[Reals, Reals, tuple[Layer, ...], tuple[Reals, ...], Layer, Layer | None, Layer]],
        /,
    ) -> None: ...
    def output(self, pooled: Reals, probabilities: bool, /) -> Reals: ...  # (n, pooled) -> (n, outputs)
    def step(self, z: Reals, tokens: Floats, threads: int, /) -> Reals: ...  # z (n, H), tokens (n, B) -> (n, H)

class Novelty:
    """Twin of inference.novelty.Novelty, whose `__init__` says what each array is."""

    def __init__(
        self,
        level: Indices,
        coefficient: Indices,
        size: Indices,
        scale: Floats,
        center: Floats,
        spread: Floats,
        rest: Floats,
        tails: Floats,
        log_p: Floats,
        slope: Floats,
        axes: list[Floats],
        floor: float,
        least_p: float,
        /,
    ) -> None: ...
    def p(self, logsigs: Floats, /) -> Floats: ...  # (n, B) -> (n,)

class Pooling:
    """Twin of features.pooling.ReferencePooling. Columns of a state: weights of the lives, then the pools."""

    def __init__(
        self,
        shift: Floats,  # (T,)
        scale: Floats,  # (T,)
        clip: float,
        summaries: int,  # place from which NaN means that a channel was not observed
        roots: int,  # place up to which signed square roots are taken
        blocks: list[tuple[Indices, Singles, Singles]],  # entries (E,), weight (directions, E), bias (directions,)
        pools: list[
            tuple[int, bool, int, int, int, bool]
        ],  # kind, of random features, source from and to, life, stretched
        rates: Floats,  # (lives,)
        /,
    ) -> None: ...
    def advance(
        self,
        rows: Floats,  # (slots, columns), changed in place; may be columns of wider rows
        slots: Indices,  # (n,)
        tokens: Floats,  # (n, T)
        weight: Floats | None,  # (outputs, P)
        bias: Floats | None,  # (outputs,)
        /,
    ) -> tuple[NDArray[np.bool_], Floats | None]: ...  # (n,), (n, outputs)
    def read(self, rows: Floats, slots: Indices, weight: Floats, bias: Floats, /) -> Floats: ...  # (n, outputs)
    def pool(self, tokens: Floats, stops: Indices, at: Indices | None, /) -> Floats: ...  # (streams or places, P)
