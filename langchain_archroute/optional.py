"""Parts of LangChain that not every installation has."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from archroute.errors import ArchRouteError


class MissingPackageError(ArchRouteError, ImportError):
    """A part of this package needs a package, or a newer one, that is not installed."""


def load(module: str, name: str, needs: str, hint: str) -> Any:
    """`name` of `module`, which imports `needs`.

    Raises:
        MissingPackageError: That is not installed.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        if error.name is None or not needs.startswith(error.name.split(".")[0]):
            raise
        raise MissingPackageError(f"{name} needs {needs}", hint=hint) from error
