"""Named objects that can be added from outside the package: losses, families, tasks, readouts, pools.

Three ways to add one; all end in `Registry.register`:

    @losses.register("name")                            in code that runs before the name is looked up
    Q_ALIGN_PLUGINS=my_losses,my_tasks                  modules on PYTHONPATH; worker processes inherit the variable
    [project.entry-points."q_align.losses"]             in an installed package's pyproject.toml
    name = "my_package.my_module:my_object"             (or the module alone, which registers the name itself)
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import entry_points
from threading import RLock
from types import ModuleType
from typing import Any, Generic, TypeVar, overload

from q_align.errors import ConfigError, nearest

PLUGINS = "Q_ALIGN_PLUGINS"  # environment variable: comma-separated module names

T = TypeVar("T")
# One lock for all registries: the modules of one register in another, and two locks could wait for each other.
_lock = RLock()
_plugins: dict[str, ConfigError | None] = {}  # modules of PLUGINS that were imported, with the error of the broken ones


class Registry(Generic[T]):
    """Objects of one kind by name, in the order of their registration.

    `name in registry`, `registry[name]`, `registry.items()` and `registry.names()` first import, once, the package's
    own modules, the modules in PLUGINS, and the entry points of the group.
    """

    def __init__(
        self, kind: str, group: str, *, key: str = "", package: str = "", of: type | tuple[type, ...] = object
    ) -> None:
        """Args:
        kind: what one of them is called in messages, such as "loss".
        group: entry points, such as "q_align.losses".
        key: where users write the name, such as "loss.name".
        package: all modules in it are imported before the first look-up.
        of: class of the objects.
        """
        self.kind, self.group, self.key, self.package = kind, group, key, package
        self.of: Any = of
        self._objects: dict[str, T] = {}
        self._loaded = False
        self._broken: ConfigError | None = None

    @overload
    def register(self, name: str) -> Callable[[T], T]: ...
    @overload
    def register(self, name: str, found: T) -> T: ...
    def register(self, name: str, found: Any = None) -> Any:
        """Adds an object under a name and returns it; without an object, a decorator that does so.

        Raises:
            ConfigError: when the name belongs to another object, or the object is not of the right class.
        """
        if found is None:
            return lambda found: self.register(name, found)
        if not isinstance(found, self.of):
            classes = self.of if isinstance(self.of, tuple) else (self.of,)
            wanted = " or ".join(one.__name__ for one in classes)
            raise ConfigError(f"{self.kind} {name!r} must be a {wanted}, got {type(found).__name__}")
        with _lock:
            if name in self._objects and self._objects[name] != found:
                raise ConfigError(f"{self.kind} {name!r} is registered already; choose another name")
            return self._objects.setdefault(name, found)

    def __getitem__(self, name: str) -> T:
        """Raises: ConfigError: when there is none of that name, with the nearest one."""
        self._load()
        if name not in self._objects:
            raise self.unknown(name)
        return self._objects[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._objects

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self.names())

    def names(self) -> tuple[str, ...]:
        self._load()
        return tuple(self._objects)

    def items(self) -> tuple[tuple[str, T], ...]:
        self._load()
        return tuple(self._objects.items())

    def unknown(self, name: str, *, also: tuple[str, ...] = ()) -> ConfigError:
        """The error for a name that is not registered; `also`: further names that are valid there."""
        valid = [*self.names(), *also]
        hint = nearest(name, valid) or f" (is its module in {PLUGINS}?)"
        where = f" ({self.key})" if self.key else ""
        return ConfigError(f"unknown {self.kind} {name!r}{hint}; choose from {', '.join(valid)}{where}")

    def _load(self) -> None:
        with _lock:
            if not self._loaded:
                self._loaded = True  # first: modules that are imported here may look up names themselves
                try:
                    self._import_package()
                    _import_plugins()
                    self._import_entry_points()
                except ConfigError as error:
                    self._broken = error
                except BaseException:
                    self._loaded = False
                    raise
            if self._broken is not None:  # a second attempt would fail elsewhere: half of the module has registered
                raise self._broken
            _import_plugins()

    def _import_package(self) -> None:
        if self.package:
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                importlib.import_module(f"{self.package}.{module.name}")

    def _import_entry_points(self) -> None:
        for point in sorted(entry_points(group=self.group), key=lambda point: point.name):
            known = point.name in self._objects and point.module not in sys.modules
            label = f"plug-in {point.value!r} (entry point {point.name!r} of {self.group})"
            found = _guarded(point.load, label)
            if isinstance(found, ModuleType):
                if point.name not in self._objects:
                    raise ConfigError(f"{label} registers no {self.kind} {point.name!r}")
            elif known or isinstance(found, self.of) or point.name not in self._objects:
                _guarded(partial(self.register, point.name, found), label)


def _import_plugins() -> None:
    """Imports the modules in PLUGINS that were not imported yet.

    Raises:
        ConfigError: for a broken one, at every call.
    """
    for name in filter(None, (part.strip() for part in os.environ.get(PLUGINS, "").split(","))):
        if name not in _plugins:
            _plugins[name] = None
            try:
                _guarded(partial(importlib.import_module, name), f"plug-in {name!r} ({PLUGINS})")
            except ConfigError as error:
                _plugins[name] = error
        if (broken := _plugins[name]) is not None:
            raise broken


def _guarded(call: Callable[[], Any], label: str) -> Any:
    """The result of code that is not ours; whatever it raises becomes one line that names the plug-in."""
    try:
        return call()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        raise ConfigError(f"{label} cannot be loaded: {type(error).__name__}: {lines[0]}") from error
