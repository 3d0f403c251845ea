"""Write the step of a reservoir as an ONNX graph. Needs the package onnx, and no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamrde.arrays import Reals
from streamrde.errors import MissingExtraError, ParameterError
from streamrde.features import FeatureSpec, Pool
from streamrde.features.spec import RIVALS
from streamrde.inference.bundle import Bundle
from streamrde.inference.fields.reservoir import Reservoir

OPSET, IR = 18, 10
"""Versions of ONNX that torch's exporter writes too."""


def reservoir_graph(bundle: Bundle) -> Any:
    """Return the model's step as an ONNX ModelProto: inputs z and logsig, outputs z_next and output.

    z, (n, hidden), is the state, which begins with zeros, and logsig, (n, B), the window's token, raw, NaN for what was
    not observed. Both are float64. z_next is (n, hidden), and output, (n, outputs), probabilities or targets. Random
    features are summed in another order than by `Predictor`: they agree to single precision.

    Raises:
        ParameterError: the model is no reservoir, or has something that the graph cannot express.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise MissingExtraError("the export to ONNX", "onnx") from None
    header, field = bundle.header, bundle.header.field
    if not isinstance(field, Reservoir):
        raise ParameterError(f"field '{field.tag}' is no reservoir: give the NeuralRDE to export_onnx")
    if field.expansion is not None:
        raise ParameterError(
            "the readout of this model takes ranks of its features, which have no ONNX graph; serve the bundle as it is"
        )
    graph = _Graph(onnx)
    z_next, pooled = _step(graph, bundle, field)
    graph.put("Identity", [z_next], "z_next")
    graph.put("Identity", [_output(graph, bundle, pooled)], "output")
    double = onnx.TensorProto.DOUBLE
    kind = onnx.helper.np_dtype_to_tensor_dtype(header.output_dtype)
    rows = [
        ("z", double, header.hidden),
        ("logsig", double, header.logsig_channels),
        ("z_next", double, header.hidden),
        ("output", kind, header.outputs),
    ]
    values = [onnx.helper.make_tensor_value_info(name, dtype, ["n", size]) for name, dtype, size in rows]
    made = onnx.helper.make_graph(graph.nodes, "step", values[:2], values[2:], graph.constants)
    model = onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR)
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants, each with a name of its own."""

    def __init__(self, onnx: Any) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def put(self, kind: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return the output's name."""
        name = name or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, array: NDArray[Any]) -> str:
        """Add a constant, and return its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value: float) -> str:
        """Add a constant number, and return its name."""
        return self.constant(np.array(value, np.float64))

    def columns(self, rows: str, start: int, stop: int) -> str:
        """Return the columns [start, stop) of rows."""
        bounds = [self.constant(np.array([bound], np.int64)) for bound in (start, stop, 1)]
        return self.put("Slice", [rows, *bounds])


def _step(graph: _Graph, bundle: Bundle, field: Reservoir) -> tuple[str, list[str]]:
    """Add the new state, and return its name and those of the pools' values, divided by their weights."""
    header, spec = bundle.header, field.features
    drawn, places = field.drawn("field", header, bundle.tensors), header.partition.places
    scaled = _scaled(graph, drawn.shift, drawn.scale, drawn.clip, spec.roots(places))
    sources = {"token": graph.put("Cast", [scaled], to=graph.onnx.TensorProto.DOUBLE)}
    if spec.blocks:
        sources["random"] = _random(graph, field, bundle, scaled)
    lives, rates = len(spec.lives), [0.5 ** (1.0 / life) if life else 1.0 for life in spec.lives]
    before = graph.columns("z", 0, lives)
    weights = graph.put("Mul", [before, graph.constant(np.array(rates))])
    weights = graph.put("Add", [weights, graph.number(1.0)])
    count, began = graph.columns(weights, 0, 1), graph.columns("z", 0, 1)
    parts, values, begin = [weights], [], lives
    for pool in spec.pools:
        source, name = spec.source(pool, places), "random" if pool.of == "random" else "token"
        if pool.kind == "best":
            name = "best"
            if name not in sources:
                sources[name] = _best(graph, spec, sources["random"])
        own = graph.columns(sources[name], source.start, source.stop)
        stop = begin + source.stop - source.start
        after = _pooled(graph, pool, own, graph.columns("z", begin, stop), count, began)
        parts.append(after)
        if pool.averages:
            weight = graph.columns(weights, place := spec.lives.index(pool.half_life), place + 1)
            if pool.rising:
                pairs = graph.put("Mul", [count, graph.put("Add", [count, graph.number(1.0)])])
                weight = graph.put("Mul", [pairs, graph.number(0.5)])
            after = graph.put("Div", [after, weight])
            after = _stretched(graph, after) if pool.stretched else after
        values.append(after)
        begin = stop
    return graph.put("Concat", parts, axis=1), values


def _scaled(graph: _Graph, shift: Reals, scale: Reals, clip: float, roots: int) -> str:
    """Add the standardised token, float32, with signed square roots of its first entries."""
    moved = graph.put("Mul", [graph.put("Sub", ["logsig", graph.constant(shift)]), graph.constant(scale)])
    known = graph.put("Where", [graph.put("IsNaN", [moved]), graph.number(0.0), moved])
    if roots:
        first = graph.columns(known, 0, roots)
        root = graph.put("Mul", [graph.put("Sqrt", [graph.put("Abs", [first])]), graph.put("Sign", [first])])
        known = graph.put("Concat", [root, graph.columns(known, roots, len(shift))], axis=1)
    clipped = graph.put("Clip", [known, graph.number(-clip), graph.number(clip)])
    return graph.put("Cast", [clipped], to=graph.onnx.TensorProto.FLOAT)


def _random(graph: _Graph, field: Reservoir, bundle: Bundle, scaled: str) -> str:
    """Add the random features h = W s - b, as float64."""
    drawn, places = field.drawn("field", bundle.header, bundle.tensors), bundle.header.partition.places
    found = []
    for block, weight, bias in zip(field.features.blocks, drawn.weights, drawn.biases, strict=True):
        entries = graph.constant(block.entries(places).astype(np.int64))
        seen = graph.put("Gather", [scaled, entries], axis=1)
        product = graph.put("MatMul", [seen, graph.constant(weight.T)])
        found.append(graph.put("Sub", [product, graph.constant(bias)]))
    joined = graph.put("Concat", found, axis=1)
    return graph.put("Cast", [joined], to=graph.onnx.TensorProto.DOUBLE)


def _best(graph: _Graph, spec: FeatureSpec, random: str) -> str:
    """Add 1 for the largest of neighbouring directions, and 0 for the others."""
    found, begin = [], 0
    for block in spec.blocks:
        for first in range(begin, begin + block.directions, RIVALS):
            stop = min(first + RIVALS, begin + block.directions)
            largest = graph.put("ArgMax", [graph.columns(random, first, stop)], axis=1, keepdims=1)
            here = graph.put("Equal", [largest, graph.constant(np.arange(stop - first)[None])])
            found.append(graph.put("Cast", [here], to=graph.onnx.TensorProto.DOUBLE))
        begin += block.directions
    return graph.put("Concat", found, axis=1)


def _stretched(graph: _Graph, share: str) -> str:
    """Add sqrt(p) - sqrt(1 - p) of shares p, in float32."""
    single = graph.put("Cast", [share], to=graph.onnx.TensorProto.FLOAT)
    rest = graph.put("Sub", [graph.constant(np.array(1.0, np.float32)), single])
    root = graph.put("Sub", [graph.put("Sqrt", [single]), graph.put("Sqrt", [rest])])
    return graph.put("Cast", [root], to=graph.onnx.TensorProto.DOUBLE)


def _pooled(graph: _Graph, pool: Pool, value: str, before: str, count: str, began: str) -> str:
    """Add what a window changes in a pool."""
    random = pool.of == "random"
    if pool.kind == "max":
        larger, goes_on = graph.put("Max", [value, before]), graph.put("Greater", [began, graph.number(0.0)])
        return graph.put("Where", [goes_on, larger, value])
    if pool.kind == "best":
        part = value
    elif pool.kind == "share":
        above = graph.put("Greater", [value, graph.number(0.0)])
        part = graph.put("Cast", [above], to=graph.onnx.TensorProto.DOUBLE)
    elif pool.kind in ("mean", "last"):
        part = graph.put("Max", [value, graph.number(0.0)]) if random else value
    else:
        raise ParameterError(f"a pool of kind {pool.kind!r} has no ONNX graph; serve the bundle as it is")
    if pool.kind == "last":
        return part
    if pool.rising:
        part = graph.put("Mul", [part, count])
    if pool.half_life:
        before = graph.put("Mul", [before, graph.number(0.5 ** (1.0 / pool.half_life))])
    return graph.put("Add", [before, part])


def _output(graph: _Graph, bundle: Bundle, pooled: list[str]) -> str:
    """Add the readout, and its softmax or scale."""
    header, tensors = bundle.header, bundle.tensors
    weight = tensors["readout.weight"].astype(np.float64)
    features = graph.put("Concat", pooled, axis=1)
    value = graph.put("MatMul", [features, graph.constant(weight.T)])
    value = graph.put("Add", [value, graph.constant(tensors["readout.bias"].astype(np.float64))])
    dtype = header.output_dtype
    value = graph.put("Cast", [value], to=graph.onnx.helper.np_dtype_to_tensor_dtype(dtype))
    parts, begin = [], 0
    for head in header.parts:
        stop = begin + head.outputs
        part = graph.columns(value, begin, stop)
        if head.is_binary:
            part = graph.put("Sigmoid", [part])
        elif head.task == "classification":
            part = graph.put("Softmax", [part], axis=1)
        else:
            own = (tensors[f"output.{name}"][begin:stop].astype(dtype) for name in ("scale", "shift"))
            scale, shift = (graph.constant(array) for array in own)
            part = graph.put("Add", [graph.put("Mul", [part, scale]), shift])
        parts.append(part)
        begin = stop
    return parts[0] if len(parts) == 1 else graph.put("Concat", parts, axis=1)
