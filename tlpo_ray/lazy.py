"""Exports that are imported when they are first used: importing a package stays cheap, whatever its names need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_exports(package: str, exports: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module-level `__getattr__` that imports a package's exports on first use.

    Type checkers see the same names through imports under `if TYPE_CHECKING:`.

    Args:
        package: `__name__` of the package.
        exports: Name of each export → `module` or `module:name in it`.
    """

    def import_export(name: str) -> Any:
        if name not in exports:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = exports[name].partition(":")
        return getattr(import_module(module), attribute or name)

    return import_export
