"""Every tolerance of the tests, with its reason."""

ORACLE = 1e-10
"""float64 against signatory and torchcde, values of order 1: both round differently, some hundred operations deep."""
LAW = 1e-11
"""float64 identities (Chen, log exp) on values of order 1 to 10."""
STEPPER32 = 1e-5
"""float32, NumPy against torch: order of summation differs over a few hundred terms per stage."""
EXACT = 1e-12
"""float64 against exact rational arithmetic, relative to the largest coefficient: some hundred roundings of 1e-16."""
