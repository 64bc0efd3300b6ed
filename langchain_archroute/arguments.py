"""Checks of the keyword arguments that the routers' constructors take."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from archroute.errors import SettingError


def check_arguments(model: type[BaseModel], values: Any, *, ignored: frozenset[str] = frozenset()) -> Any:
    """`values` as they are, if they are arguments of `model`.

    Pydantic would say it too, but with the values, some of which hold keys, in the message.

    Args:
        model: The class that is being built.
        values: Its keyword arguments.
        ignored: Names to take and leave unread.

    Raises:
        SettingError: A name is unknown, or a required one is missing.
    """
    if not isinstance(values, dict):
        return values
    fields = {name: field.alias or name for name, field in model.model_fields.items()}
    known = set(fields) | set(fields.values())
    unknown = sorted(set(values) - known - ignored)
    if unknown:
        raise SettingError(
            f"{model.__name__} has no argument {', '.join(unknown)}",
            hint=f"it takes {', '.join(sorted(fields.values()))}",
        )
    missing = [
        alias
        for name, alias in fields.items()
        if model.model_fields[name].is_required() and not {name, alias} & values.keys()
    ]
    if missing:
        raise SettingError(f"{model.__name__} needs {' and '.join(missing)}", hint="give it as a keyword argument")
    return values
