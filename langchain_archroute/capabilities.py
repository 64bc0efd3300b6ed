"""What all targets of a router can do together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from archroute.errors import SettingError
from langchain_archroute.route import AnyRunnable, Change


def bound_to(tools: Sequence[Any], arguments: dict[str, Any]) -> Change:
    """Gives a chat model tools."""

    def change(target: AnyRunnable, place: str) -> AnyRunnable:
        return _called(target, place, "bind_tools", "tools", lambda bind: bind(tools, **arguments))

    return change


def structured(schema: Any, arguments: dict[str, Any]) -> Change:
    """Makes a chat model answer in a schema, in its own way."""

    def change(target: AnyRunnable, place: str) -> AnyRunnable:
        return _called(target, place, "with_structured_output", "schema", lambda bind: bind(schema, **arguments))

    return change


def common_profile(targets: Sequence[AnyRunnable]) -> dict[str, Any] | None:
    """What the profiles of all targets grant: abilities that all have, the smallest limits, and what they agree on.

    None if a target has no profile: nothing is known of it.
    """
    profiles: list[dict[str, Any]] = [getattr(target, "profile", None) or {} for target in targets]
    if not all(profiles):
        return None
    common: dict[str, Any] = {}
    for key in set.intersection(*(set(profile) for profile in profiles)):
        values = [profile[key] for profile in profiles]
        if all(isinstance(value, bool) for value in values):
            common[key] = all(values)
        elif all(isinstance(value, int) for value in values):
            common[key] = min(values)
        elif all(value == values[0] for value in values):
            common[key] = values[0]
    return common


def _called(
    target: AnyRunnable, place: str, method: str, what: str, call: Callable[[Callable[..., AnyRunnable]], AnyRunnable]
) -> AnyRunnable:
    refused = SettingError(
        f"no {what} can be bound to {place}, a {type(target).__name__}", hint="bind a chat model that takes them"
    )
    bind = getattr(target, method, None)
    if bind is None:
        raise refused
    try:
        return call(bind)
    except NotImplementedError as error:
        raise refused from error
