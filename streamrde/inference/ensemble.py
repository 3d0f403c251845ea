"""Ensembles: several models of the same windows as one, whose outputs are the mean of theirs.

The hidden states of the members lie one after the other in one state, and so do the rows of their weights; the readout
is the mean of their readouts (for classes: of their logits). A joined model is a bundle like any other, which takes one
log-signature per window however many members it has.

Reference: Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles".
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from streamrde.arrays import Reals
from streamrde.errors import ParameterError
from streamrde.inference.bundle import Bundle
from streamrde.inference.ends import Blank, Layers
from streamrde.inference.header import header_differences

# What the members have in common: they see the same numbers, and their outputs mean the same.
_SHARED = ("x0.shift", "x0.scale", "logsig.scale", "token.shift", "output.shift", "output.scale")
# What has a row per component of the state.
_ROWS = ("initial.weight", "initial.bias", "decay", "range.low", "range.high")


def join(bundles: Sequence[Bundle]) -> Bundle:
    """Join models to one whose outputs are the mean of theirs (for classes: of their logits).

    Metrics, description and notes are those of the first one.

    Raises:
        ParameterError: there are none, or they differ in more than their weights.
    """
    if not bundles:
        raise ParameterError("there are no models to join: give at least one")
    first = bundles[0]
    if len(bundles) == 1:
        return first
    for name in ("initial", "readout"):
        if first.header.part(name) not in (Layers(), Blank()):
            raise ParameterError(f"the models' {name} is more than one linear layer: such models cannot be joined")
    for place, bundle in enumerate(bundles[1:], start=1):
        differences = header_differences(first.header, bundle.header)
        for name in ("field", "initial", "readout", "solver", "clip"):
            if getattr(first.header, name) != getattr(bundle.header, name):
                differences.append(f"{name} was {getattr(first.header, name)} and is {getattr(bundle.header, name)}")
        differences += [
            f"{name} differs"
            for name in _SHARED
            if name in first.tensors and not np.array_equal(first.tensors[name], bundle.tensors.get(name, ()))
        ]
        if differences:
            raise ParameterError(
                f"model {place} does not go with model 0: {'; '.join(differences)}; train them on the same data by the "
                "same configuration, with other seeds"
            )
    header = msgspec.structs.replace(
        first.header,
        hidden=first.header.hidden * len(bundles),
        members=first.header.members * len(bundles),
        novelty=first.header.novelty if len({bundle.novelty_fingerprint for bundle in bundles}) == 1 else None,
        learned=None,  # it is of errors that a member alone makes
        calibration=None,
    )
    tensors = {name: first.tensors[name] for name in _SHARED if name in first.tensors}
    tensors |= {
        name: np.concatenate([bundle.tensors[name] for bundle in bundles]) for name in _ROWS if name in first.tensors
    }
    weights = np.concatenate([bundle.tensors["readout.weight"].astype(np.float64) for bundle in bundles], axis=1)
    biases = np.stack([bundle.tensors["readout.bias"].astype(np.float64) for bundle in bundles])
    tensors["readout.weight"] = (weights / len(bundles)).astype(header.dtype)
    tensors["readout.bias"] = biases.mean(axis=0).astype(header.dtype)
    for place, bundle in enumerate(bundles):
        for own in range(bundle.header.members):
            for name, tensor in field_tensors(bundle, own).items():
                tensors[header.field_tensor(name, place * bundle.header.members + own)] = tensor
    if header.novelty is not None:
        tensors |= {name: tensor for name, tensor in first.tensors.items() if name.startswith("novelty.")}
    return Bundle(header, tensors)


def field_tensors(bundle: Bundle, member: int) -> dict[str, Reals]:
    """Return the tensors of a member's field, by the names that the field has in a model of its own."""
    header = bundle.header
    names = header.field.shapes("field", header)
    return {name: bundle.tensors[header.field_tensor(name, member)] for name in names}


def split(bundle: Bundle) -> list[Bundle]:
    """Return a model per member, with the member's part of the state. Their readouts add up to the model's readout."""
    header = bundle.header
    if header.members == 1:
        return [bundle]
    own = msgspec.structs.replace(
        header, members=1, hidden=header.member_hidden, novelty=None, learned=None, calibration=None
    )
    found, inputs = [], header.field.readout_inputs(own)
    for member in range(header.members):
        part = slice(member * own.hidden, (member + 1) * own.hidden)
        bias = bundle.tensors["readout.bias"]
        tensors = {name: bundle.tensors[name] for name in _SHARED if name in bundle.tensors}
        tensors |= {name: bundle.tensors[name][part] for name in _ROWS if name in bundle.tensors}
        tensors["readout.weight"] = bundle.tensors["readout.weight"][:, member * inputs : (member + 1) * inputs]
        tensors["readout.bias"] = bias if member == 0 else np.zeros_like(bias)
        found.append(Bundle(own, tensors | field_tensors(bundle, member)))
    return found
