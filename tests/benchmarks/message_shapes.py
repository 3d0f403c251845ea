"""Generated messages of every shape through the codecs, a source and a fleet: none is misread, and the counts add up.

    python tests/benchmarks/message_shapes.py --messages 100000

Prints how many messages of each shape were used and refused; fails at the first that is used as what it is not.
"""

from __future__ import annotations

import argparse
import collections
import logging
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "connectors"))
sys.path.insert(0, str(Path(__file__).parents[1]))

from shapes import FORMATS, UNITS
from test_shapes import carry


def main() -> None:
    """Run the generator over every format and unit of time."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began, fates = time.perf_counter(), collections.Counter[str]()
    kinds = [(format, unit) for format in FORMATS for unit in UNITS]
    for i, (format, unit) in enumerate(kinds):
        count = arguments.messages // len(kinds) + (i < arguments.messages % len(kinds))
        fates += carry(count, format=format, unit=unit, seed=arguments.seed + i)
    for fate, number in sorted(fates.items()):
        print(f"{number:>8,} {fate}")
    used = sum(number for fate, number in fates.items() if fate.endswith(" used"))
    seconds = time.perf_counter() - began
    print(f"{sum(fates.values()):,} messages: {used:,} used, the others refused; none misread; {seconds:.0f} s")


if __name__ == "__main__":
    main()
