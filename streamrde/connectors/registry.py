"""Find what a configuration names: sources, sinks, dead letters by `kind`, codecs by the name of their format.

What has the name `x` stands in the module `x` of a folder of connectors, or in another package that announces it by
an entry point of the same name:

    [project.entry-points."streamrde.sources"]
    ticks = "my_package.ticks:TicksConfig"
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Generic, TypeAlias, TypeVar

import msgspec

from streamrde.connectors.ends import Codec
from streamrde.connectors.sections import DeadLettersConfig, SinkConfig, SourceConfig
from streamrde.errors import ConfigError

T = TypeVar("T")


class Registry(Generic[T]):
    """Find classes of one sort by name. `find` imports the one module of that name, `names` imports all.

    Args:
        base: class that all of them derive from.
        group: group of entry points that other packages use.
        folders: packages whose modules are looked at.
        name_of: the name of a class; "" for one that cannot be chosen.
        elsewhere: what to do instead, for names that are looked for here and are not here.
    """

    def __init__(
        self,
        base: type[T],
        group: str,
        folders: tuple[str, ...],
        name_of: Callable[[type[T]], str],
        elsewhere: Mapping[str, str] | None = None,
    ) -> None:
        self.elsewhere = elsewhere or {}
        self._base = base
        self._group = group
        self._folders = folders
        self._name_of = name_of

    def find(self, name: object) -> type[T] | None:
        """Return the class of a name, or None if there is none.

        Raises:
            ConfigError: a plug-in that announces the name cannot be used.
        """
        if not isinstance(name, str) or not name.isidentifier():
            return None
        for module in self._modules():
            if module.endswith(f".{name}") and (found := self._in_module(module).get(name)) is not None:
                return found
        for point in entry_points(group=self._group, name=name):
            return self._load(point)
        return None

    def names(self) -> list[str]:
        """Return all names, in alphabetical order."""
        found = {point.name for point in entry_points(group=self._group)}
        return sorted(found.union(*map(self._in_module, self._modules())))

    def classes(self) -> list[type[T]]:
        """Return the classes of all names, without those of plug-ins that cannot be used."""
        found = []
        for name in self.names():
            with contextlib.suppress(ConfigError):
                found.append(self.find(name))
        return [one for one in found if one is not None]

    def _modules(self) -> Iterator[str]:
        """Name the modules of the folders, without importing them."""
        for folder in self._folders:
            path = importlib.import_module(folder).__path__
            yield from (module.name for module in pkgutil.iter_modules(path, f"{folder}."))

    def _in_module(self, path: str) -> dict[str, type[T]]:
        module = importlib.import_module(path)
        classes = (one for one in vars(module).values() if isinstance(one, type) and issubclass(one, self._base))
        return {name: one for one in classes if (name := self._name_of(one))}

    def _load(self, point: EntryPoint) -> type[T]:
        try:
            found = point.load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"the plug-in {point.value} cannot be imported: {error}; reinstall its package") from None
        if not (isinstance(found, type) and issubclass(found, self._base) and self._name_of(found) == point.name):
            raise ConfigError(
                f"the plug-in {point.value} is no {self._base.__name__} of the name {point.name!r}; correct its package"
            )
        return found


def _kind(section: type) -> str:
    return str(section.__struct_config__.tag or "") if issubclass(section, msgspec.Struct) else ""


_CONNECTORS = ("streamrde.connectors", "streamrde.connectors.files")
_CODECS = ("streamrde.connectors.codecs",)

SOURCES: Registry[SourceConfig] = Registry(
    SourceConfig,
    "streamrde.sources",
    _CONNECTORS,
    _kind,
    {"arrow": "recorded files are scored, not run: use  streamrde score FILES --model MODEL --out PREDICTIONS"},
)
SINKS: Registry[SinkConfig] = Registry(SinkConfig, "streamrde.sinks", _CONNECTORS, _kind)
DEAD_LETTERS: Registry[DeadLettersConfig] = Registry(DeadLettersConfig, "streamrde.dead_letters", _CONNECTORS, _kind)
CODECS: Registry[Codec] = Registry(Codec, "streamrde.codecs", _CODECS, lambda codec: codec.format)  # type: ignore[type-abstract]
PREDICTION_CODECS: Registry[Codec] = Registry(
    Codec,  # type: ignore[type-abstract]
    "streamrde.codecs",
    _CODECS,
    lambda codec: codec.format if codec.carries_predictions() else "",
)

AnySource: TypeAlias = Annotated[SourceConfig, msgspec.Meta(extra={"registry": SOURCES})]
AnySink: TypeAlias = Annotated[SinkConfig, msgspec.Meta(extra={"registry": SINKS})]
AnyDeadLetters: TypeAlias = Annotated[DeadLettersConfig, msgspec.Meta(extra={"registry": DEAD_LETTERS})]
CodecName: TypeAlias = Annotated[str, msgspec.Meta(extra={"registry": CODECS})]
PredictionCodecName: TypeAlias = Annotated[str, msgspec.Meta(extra={"registry": PREDICTION_CODECS})]
