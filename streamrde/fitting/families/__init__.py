"""Families of models that are fitted, a module each: from examples to candidates."""

from streamrde.fitting.examples import Family
from streamrde.fitting.families.reservoir import fit_reservoirs

FAMILIES: tuple[Family, ...] = (fit_reservoirs,)
"""All families, in the order in which they are fitted."""
