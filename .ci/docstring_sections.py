"""Let a docstring's sections follow each other without an empty line, as they stand in this project."""

import re
from typing import Any

import griffe

_SECTION = re.compile(r"\n(?=(?:Args|Attributes|Raises|Returns|Yields|Reference):)")


class Sections(griffe.Extension):
    """Put the empty line before each section that the parser of docstrings looks for."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = _SECTION.sub("\n\n", obj.docstring.value)
