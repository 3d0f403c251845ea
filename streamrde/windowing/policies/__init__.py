"""Window policies: how a stream's time is cut into windows. A property of the model, stored with it.

Each module here holds one policy, and its name is the policy's tag in a model's header: a new policy is a new file.
"""

from __future__ import annotations

from functools import reduce
from importlib import import_module
from operator import or_
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias

from streamrde.windowing.policies.adaptive import Adaptive
from streamrde.windowing.policies.count import Count
from streamrde.windowing.policies.every import Every
from streamrde.windowing.policies.policy import OpenWindow, WindowPolicy


def _find_policies() -> dict[str, type[WindowPolicy]]:
    found: dict[str, type[WindowPolicy]] = {}
    for name in sorted(module.name for module in iter_modules(__path__)):
        for kind in vars(import_module(f"{__name__}.{name}")).values():
            if isinstance(kind, type) and issubclass(kind, WindowPolicy) and kind.__struct_config__.tag == name:
                found[name] = kind
    return found


POLICIES = _find_policies()
"""The policies that are built in, by their tag."""


def built_in(windows: WindowPolicy) -> bool:
    """Return True if the policy is one of this package, which its tag and fields say all about."""
    return type(windows) in POLICIES.values()


if TYPE_CHECKING:
    Windows: TypeAlias = WindowPolicy
else:
    # What a file may name; a policy of the user's own is handed over as an object.
    Windows = reduce(or_, POLICIES.values())

__all__ = ["POLICIES", "Adaptive", "Count", "Every", "OpenWindow", "WindowPolicy", "Windows", "built_in"]
