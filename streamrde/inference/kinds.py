"""Find the classes of a registry whose kinds are modules of one package, named after their tags."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType
from typing import TypeVar

T = TypeVar("T")


def defined_in(module: ModuleType, contract: type[T]) -> type[T]:
    """Return the one class of a module that fulfils a contract and is defined there."""
    (found,) = (
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, contract) and kind.__module__ == module.__name__
    )
    return found


def kinds_in(package: str, path: list[str], contract: type[T], *, default: str) -> dict[str, type[T]]:
    """Return the kinds of a package by tag, the default one first.

    Args:
        package: name of the package.
        path: its ``__path__``.
        contract: class that the kinds fulfil.
        default: tag of the kind that comes first wherever kinds are listed.
    """
    names = sorted((module.name for module in pkgutil.iter_modules(path)), key=lambda name: (name != default, name))
    return {name: defined_in(import_module(f"{package}.{name}"), contract) for name in names}
