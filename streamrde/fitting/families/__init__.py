"""Families of models that are fitted, a module each: from examples to candidates."""

from streamrde.fitting.examples import Family
from streamrde.fitting.families.along import fit_along
from streamrde.fitting.families.bands import fit_bands
from streamrde.fitting.families.reservoir import fit_reservoirs
from streamrde.fitting.families.summaries import fit_summaries

FAMILIES: tuple[Family, ...] = (fit_bands, fit_reservoirs, fit_summaries, fit_along)
"""All families, in the order in which they are fitted."""
