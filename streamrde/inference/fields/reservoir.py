"""Random features of tokens, pooled over a stream's life, and a linear readout that is fitted in closed form."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from streamrde.arrays import Bools, Floats, Indices, Reals
from streamrde.errors import ParameterError
from streamrde.features import Drawn, FeatureSpec, make_pooling
from streamrde.features.expansion import Expander, Expansion, Ranking
from streamrde.features.names import feature_names
from streamrde.features.pooling import Readout
from streamrde.inference.model_part import Shapes, Tensors
from streamrde.inference.vector_field import RowField, VectorField

if TYPE_CHECKING:
    from streamrde.inference.header import Header


class Reservoir(VectorField, frozen=True, kw_only=True, omit_defaults=True, tag="reservoir"):
    """Random features of tokens and their pools, see streamrde.features. The state is that of the pools.

    The readout is linear in the pooled features, in float64. The tensors ``field.i.weight`` and ``field.i.bias`` are
    the directions and biases of block i; `token.shift`, `logsig.scale` and the header's `clip` standardise tokens. The
    tensors ``field.expansion.*`` are those of `features.expansion.Ranking`.

    Reference: Dempster et al. 2020, "ROCKET"; Cuchiero et al. 2021, "Discrete-time signatures and randomness in
    reservoir computing".
    """

    exact: ClassVar[bool] = True
    trained: ClassVar[bool] = False
    in_rows: ClassVar[bool] = True
    begins_blank: ClassVar[bool] = True
    shifts_tokens: ClassVar[bool] = True
    float64: ClassVar[tuple[str, ...]] = ("readout.weight", "readout.bias")

    features: FeatureSpec
    """Random features, and what is kept of them."""
    expansion: Expansion | None = None
    """Stage between the pooled features and the readout. None: the readout takes the pooled features."""

    def check(self, name: str, header: Header) -> None:
        """Raise ParameterError if the header asks for what a reservoir does not have."""
        super().check(name, header)
        self.features.check(header.partition.places)
        size = self.features.state_size(header.partition.places)
        for field, wanted in (
            ("hidden", size),
            ("members", 1),
            ("decay", False),
            ("hidden_range", False),
            ("pooling", "state"),
            ("dtype", "float32"),
        ):
            if getattr(header, field) != wanted:
                raise ParameterError(
                    f"{field}={getattr(header, field)!r}: field 'reservoir' with these features has {wanted!r}"
                )
        if header.initial.summary(header) != "a state of zeros":
            raise ParameterError("initial: field 'reservoir' begins with zeros; use initial = Blank()")
        if header.readout.summary(header) != "linear":
            raise ParameterError("readout: that of field 'reservoir' is linear; use readout = Layers()")
        if not header.clip:
            raise ParameterError("clip=0: field 'reservoir' needs clipped tokens; set clip to 8, or another bound")

    def readout_inputs(self, header: Header) -> int:
        """Return the number of pooled features, or of what they are expanded to."""
        features = self.features.size(header.partition.places)
        return features if self.expansion is None else self.expansion.size(features)

    def state_tensors(self, header: Header) -> tuple[str, ...]:
        """Return the names of the random part and of the scale of tokens."""
        random = (name for name in self.shapes("field", header) if not name.startswith("field.expansion."))
        return ("token.shift", "logsig.scale", *random)

    def state_part(self) -> object:
        """Return the features. What they are expanded to belongs to the readout."""
        return self.features

    def feature_names(self, header: Header) -> tuple[str, ...]:
        """Return the names of what the readout takes: the pooled features, or what they are expanded to."""
        names = feature_names(self.features, header.partition, [channel.name for channel in header.channels])
        return names if self.expansion is None else self.expansion.names(names)

    def shapes(self, name: str, header: Header) -> Shapes:
        """Return name and shape of the directions and biases in the model file."""
        places = header.partition.places
        shapes: Shapes = {}
        for i, block in enumerate(self.features.blocks):
            shapes[f"{name}.{i}.weight"] = (block.directions, block.width(places))
            shapes[f"{name}.{i}.bias"] = (block.directions,)
        if self.expansion is not None:
            own = self.expansion.shapes(self.features.size(places))
            shapes |= {f"{name}.expansion.{part}": shape for part, shape in own.items()}
        return shapes

    def summary(self, header: Header) -> str:
        """Describe the features in a phrase for people."""
        features, count = self.features, self.features.size(header.partition.places)
        text = f"reservoir: {features.directions:,} random features (seed {features.seed}), {count:,} of a stream"
        if self.expansion is None:
            return text
        return f"{text}, expanded to {self.readout_inputs(header):,} curves and pairs"

    def drawn(self, name: str, header: Header, tensors: Tensors) -> Drawn:
        """Return the random part and the scale of tokens."""
        blocks = range(len(self.features.blocks))
        return Drawn(
            tensors["token.shift"].astype(np.float64),
            tensors["logsig.scale"].astype(np.float64),
            header.clip,
            tuple(tensors[f"{name}.{i}.weight"] for i in blocks),
            tuple(tensors[f"{name}.{i}.bias"] for i in blocks),
        )

    def tensors(self, name: str, drawn: Drawn, ranking: Ranking | None = None) -> dict[str, Reals]:
        """Return the tensors that `drawn` reads, the random part and the scale of tokens, and those of an expansion."""
        tensors: dict[str, Reals] = {"token.shift": drawn.shift, "logsig.scale": drawn.scale}
        for i, (weight, bias) in enumerate(zip(drawn.weights, drawn.biases, strict=True)):
            tensors |= {f"{name}.{i}.weight": weight, f"{name}.{i}.bias": bias}
        if ranking is not None:
            own = ranking._asdict().items()
            tensors |= {f"{name}.expansion.{part}": np.asarray(array, np.float32) for part, array in own}
        return tensors

    def build(self, name: str, header: Header, tensors: Tensors) -> RowField:
        """Make the pools on arrays."""
        return _Pooled(self, name, header, tensors)


class _Pooled(RowField):
    def __init__(self, spec: Reservoir, name: str, header: Header, tensors: Tensors) -> None:
        self._pooling = make_pooling(spec.features, header.partition.places, spec.drawn(name, header, tensors))
        self._readout = Readout(*(tensors[f"readout.{part}"].astype(np.float64) for part in ("weight", "bias")))
        self._expander: Expander | None = None
        if spec.expansion is not None:
            parts = (tensors[f"{name}.expansion.{part}"].astype(np.float64) for part in Ranking._fields)
            self._expander = Expander(spec.expansion, Ranking(*parts))

    def advance(self, rows: Floats, slots: Indices, tokens: Floats, *, read: bool) -> tuple[Bools, Floats | None]:
        """See RowField."""
        if self._expander is None or not read:
            return self._pooling.advance(rows, slots, tokens, self._readout if read else None)
        unusual, found = np.empty(len(slots), bool), np.empty((len(slots), len(self._readout.bias)))
        # A stream's windows are read out one after the other, those of different streams together.
        for own in _turns(slots):
            unusual[own] = self._pooling.advance(rows, slots[own], tokens[own])[0]
            found[own] = self.read(rows, slots[own])
        return unusual, found

    def read(self, rows: Floats, slots: Indices) -> Floats:
        """See RowField."""
        if self._expander is None:
            return self._pooling.read(rows, slots, self._readout)
        return self._expander.read(self._pooling.features(rows[slots]), *self._readout)

    def features(self, states: Floats) -> Floats:
        """See RowField."""
        pooled = self._pooling.features(states)
        return pooled if self._expander is None else self._expander.expand(pooled)


def _turns(slots: Indices) -> list[Indices]:
    """Return the places of each slot's first entry, then of each one's second, and so on."""
    if len(slots) == 1:
        return [np.zeros(1, np.intp)]
    order = np.argsort(slots, kind="stable")
    sizes = np.unique(slots, return_counts=True)[1]
    turn = np.empty(len(slots), np.intp)
    turn[order] = np.arange(len(slots)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    by_turn = np.argsort(turn, kind="stable")
    return np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]) if len(slots) else []
