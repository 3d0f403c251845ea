"""Read from a module's graph that it is a chain of linear layers and activations, or why it is not.

The graph decides, never a comparison of outputs: functions that agree on some inputs may differ on others. torch.export
records the graph, with the functions that forward calls, parametrizations of weights and hooks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from streamrde.errors import ParameterError

_BATCHES = (7, 1)


class Step(NamedTuple):
    """A linear layer and the activation after it."""

    weight: Tensor
    bias: Tensor
    activation: str
    """A key of inference.activations.ACTIVATIONS."""


class UnprovenError(Exception):
    """The module is not known to be a chain of layers. The message gives the reason."""


def chain(module: nn.Module, inputs: tuple[Tensor, ...], size: int) -> list[Step]:
    """Return the layers that a module applies to its last input, row by row.

    Args:
        module: a wrapper of the module, in evaluation mode, with it as `inner`. It takes `inputs` and ``x (N, size)``.
        inputs: arguments before x, which it must not use.
        size: numbers in a row of x.
    Raises:
        UnprovenError: it is not a chain of layers, or it cannot be exported.
        ParameterError: it uses `inputs`, or draws random numbers.
    """
    plain = getattr(module, "inner", None)
    if not inputs and type(plain) is nn.Linear and not _is_altered(plain):
        bias = torch.zeros_like(plain.weight[:, 0]) if plain.bias is None else plain.bias
        return [Step(plain.weight.detach(), bias.detach(), "identity")]
    reference = next(iter(module.parameters()), torch.zeros(0))
    found = []
    # A graph holds for one batch size, since lengths are plain numbers to Python.
    for count in _BATCHES:
        x = torch.zeros(count, size, dtype=reference.dtype, device=reference.device)
        found.append(_Reader(_exported(module, (*inputs, x)), len(inputs), x).steps())
    first, other = found
    if len(first) != len(other) or not all(
        torch.equal(a.weight, b.weight) and torch.equal(a.bias, b.bias) and a.activation == b.activation
        for a, b in zip(first, other, strict=True)
    ):
        raise UnprovenError("it treats one row differently from several")
    return first


def _is_altered(module: nn.Module) -> bool:
    """Return True if calling the module does more than its class: it has hooks, or a forward of its own."""
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module))


def _exported(module: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    try:
        with torch.no_grad(), _quietly():
            return torch.export.export(module, inputs, strict=False)
    except Exception as error:  # torch.export raises whatever the module or the tracer does
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UnprovenError(f"its graph cannot be written down ({lines[0][:120]})") from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence torch while it fails to export a graph. The error gives the reason."""
    names = ("torch", *(name for name in logging.root.manager.loggerDict if name.startswith("torch.")))
    before = {name: logging.getLogger(name).disabled for name in names}
    try:
        for name in names:
            logging.getLogger(name).disabled = True
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, disabled in before.items():
            logging.getLogger(name).disabled = disabled


class _Reader:
    """Follow x through the graph of one batch size."""

    def __init__(self, program: Any, unused: int, x: Tensor) -> None:
        self._program, self._x = program, x
        self._nodes = list(program.graph.nodes)
        given = set(program.graph_signature.user_inputs)
        inputs = [node for node in self._nodes if node.op == "placeholder" and node.name in given]
        self._unused, self._current = inputs[:unused], inputs[unused]
        self._moved = {self._current}
        self._steps: list[list[Any]] = []  # weight, bias or None, activation or None

    def steps(self) -> list[Step]:
        """Return the layers in order."""
        for node in self._unused:
            if node.users:
                raise ParameterError("it depends on t: here a field is a function of z alone; put time into the path")
        (output,) = (node for node in self._nodes if node.op == "output")
        (results,) = output.args
        if len(results) != 1:
            raise UnprovenError("it returns several tensors")
        needed = _ancestors(results[0])
        for node in self._nodes:
            if node.op != "call_function":
                continue
            # A dropout that is off draws nothing.
            random = torch.Tag.nondeterministic_seeded in node.target.tags and not _is_identity(node, _name(node))
            if node in needed and random:
                raise ParameterError(f"it draws random numbers ({_name(node)}), so that no two runs agree")
            if any(source in self._moved for source in node.all_input_nodes):
                if node in needed or node.target._schema.is_mutable:
                    self._follow(node)
                else:
                    self._moved.add(node)
            elif getattr(node.target, "_schema", None) is not None and node.target._schema.is_mutable:
                raise UnprovenError(f"it changes something in place ({_name(node)})")
        if results[0] is not self._current:
            raise UnprovenError("its result is not the end of one chain")
        steps = []
        if not self._steps:
            self._steps.append([torch.eye(self._x.shape[1], dtype=self._x.dtype, device=self._x.device), None, None])
        for weight, bias, activation in self._steps:
            zeros = torch.zeros(len(weight), dtype=weight.dtype, device=weight.device)
            steps.append(Step(weight, zeros if bias is None else bias, activation or "identity"))
        return steps

    def _follow(self, node: Any) -> None:
        sources = [source for source in node.all_input_nodes if source in self._moved]
        if sources != [self._current]:
            raise UnprovenError(f"its paths part and meet again ({_name(node)})")
        name, value = _name(node), node.meta.get("val")
        if not isinstance(value, Tensor) or value.dtype != self._x.dtype or value.shape[:1] != self._x.shape[:1]:
            raise UnprovenError(f"{name} changes the dtype or the rows")
        before = self._current.meta["val"]
        if name in _LAYERS and before.ndim == 2 and node.args[0] is self._current:
            self._steps.append([*self._layer(name, node), None])
        elif name == "addmm" and before.ndim == 2 and node.args[1] is self._current and not node.kwargs:
            self._steps.append([self._value(node.args[2]).T, self._value(node.args[0]), None])
        elif name == "add" and len(node.args) == 2 and not node.kwargs and self._steps:
            self._add(node, value)
        elif activation := _activation(node, name):
            self._activate(activation, before)
        elif not (_is_identity(node, name) or (name in _SHAPES and value.numel() == before.numel())):
            raise UnprovenError(f"{name}{_arguments(node)} is not a known activation")
        self._moved.add(node)
        self._current = node

    def _layer(self, name: str, node: Any) -> tuple[Tensor, Tensor | None]:
        weight = self._value(node.args[1])
        if weight.ndim != 2:
            raise UnprovenError(f"{name} by something else than a matrix")
        bias = node.args[2] if len(node.args) > 2 else node.kwargs.get("bias")
        return (weight, None if bias is None else self._value(bias)) if name == "linear" else (weight.T, None)

    def _add(self, node: Any, value: Tensor) -> None:
        """Take an addition as the bias of the layer before."""
        other = node.args[1] if node.args[0] is self._current else node.args[0]
        step = self._steps[-1]
        offset = self._value(other) if isinstance(other, torch.fx.Node) else None
        if step[1] is not None or step[2] is not None or offset is None or offset.shape != (len(step[0]),):
            raise UnprovenError("it adds something that is not a layer's bias")
        step[1] = offset

    def _activate(self, name: str, before: Tensor) -> None:
        if not self._steps or self._steps[-1][2] is not None:
            # An activation without a layer gets the identity as its layer.
            if before.ndim != 2:
                raise UnprovenError(f"{name} follows another activation")
            self._steps.append([torch.eye(before.shape[1], dtype=self._x.dtype, device=self._x.device), None, None])
        self._steps[-1][2] = name

    def _value(self, node: Any) -> Any:
        """Compute a tensor that does not depend on the inputs."""
        if not isinstance(node, torch.fx.Node):
            return node
        signature, program = self._program.graph_signature, self._program
        if node.op == "placeholder":
            for names, tensors in (
                (signature.inputs_to_parameters, program.state_dict),
                (signature.inputs_to_buffers, {**program.constants, **program.state_dict}),
                (signature.inputs_to_lifted_tensor_constants, program.constants),
            ):
                if node.name in names:
                    return tensors[names[node.name]].detach()
        if node.op != "call_function" or node in self._moved:
            raise UnprovenError(f"{node.name} is not a weight")
        run: Any = node.target
        if run._schema.is_mutable:
            raise UnprovenError(f"it changes something in place ({_name(node)})")
        arguments, options = torch.fx.map_arg((node.args, node.kwargs), self._value)
        with torch.no_grad():
            return run(*arguments, **options)


_LAYERS = ("linear", "matmul", "mm")
_SHAPES = ("view", "reshape", "_unsafe_view", "unflatten", "flatten", "unsqueeze", "squeeze")
_ACTIVATIONS = ("relu", "tanh", "silu")


def _ancestors(node: Any) -> set[Any]:
    found, open_ = set(), [node]
    while open_:
        if (one := open_.pop()) not in found:
            found.add(one)
            open_ += one.all_input_nodes
    return found


def _name(node: Any) -> str:
    return str(getattr(node.target, "_opname", None) or getattr(node.target, "__name__", node.target))


def _arguments(node: Any) -> str:
    """Format an operation's arguments other than tensors, for messages."""
    numbers = [repr(value) for value in node.args if isinstance(value, int | float | str)]
    numbers += [f"{key}={value!r}" for key, value in node.kwargs.items()]
    return f"({', '.join(numbers)})" if numbers else ""


def _is_identity(node: Any, name: str) -> bool:
    if name in ("dropout", "dropout_", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"):
        return len(node.args) == 3 and (node.args[2] is False or node.args[1] == 0)
    return name in ("clone", "contiguous", "detach", "alias", "lift_fresh_copy", "to", "_to_copy")


def _activation(node: Any, name: str) -> str:
    """Return the activation's name in streamrde, or "" if it is another one or has other parameters."""
    extra = dict(zip(("beta", "threshold") if name == "softplus" else (), node.args[1:], strict=False)) | node.kwargs
    if name == "softplus" and set(extra) <= {"beta", "threshold"}:
        # Beyond its threshold torch drops a term of exp(-threshold), 2e-9 at the default of 20.
        return "softplus" if extra.get("beta", 1) == 1 and extra.get("threshold", 20) >= 20 else ""
    if name == "gelu":
        return "gelu" if len(node.args) == 1 and node.kwargs.get("approximate", "none") == "none" else ""
    plain = name.removesuffix("_")
    return plain if plain in _ACTIVATIONS and len(node.args) == 1 and not node.kwargs else ""
