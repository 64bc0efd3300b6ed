"""Routes from a policy file: the models it names become chat models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archroute.dispatch import bind
from archroute.errors import SettingError
from archroute.policy import PolicySet
from archroute.reload import Reloaded
from langchain_archroute.optional import load
from langchain_archroute.route import Route, RouteTable, as_runnable

Targets = Mapping[str, Any]
"""Model names, or names of routes, with the Runnables that stand for them."""


def read_routes(
    source: str | Path | PolicySet, targets: Targets | None = None, default: Any = None
) -> tuple[list[Route], Any]:
    """The routes and the default of a policy file or a Plano configuration.

    A name of a model is looked up in `targets`; one that isn't there is made by LangChain's `init_chat_model`, from
    `"openai:gpt-5-mini"` as well as from Plano's `"openai/gpt-5-mini"`. Of several models, those after the first are fallbacks.

    Args:
        source: The file, its text, or policies read already.
        targets: See `Targets`; a name of a route stands before the models that the file binds to it.
        default: What serves where no policy fits; None: the file's default.

    Raises:
        FileFormatError: The file can't be read.
        PolicyError: A route has no model, or there is no default.
        MissingPackageError: A model is to be made, and `langchain` isn't installed.
    """
    policies = source if isinstance(source, PolicySet) else PolicySet.from_yaml(source)
    return _bound(policies, targets or {}, default, {})


def loaded(
    source: str | Path | PolicySet, targets: Targets | None, default: Any, *, reload: bool, own: Any = None
) -> dict[str, Any]:
    """The arguments of a router that is read from a file.

    Args:
        source: The file; if it is to be read anew when it changes, its path.
        targets: As `read_routes`.
        default: As `read_routes`.
        reload: Whether the file is read anew when it changes.
        own: The default where neither `default` nor the file names one.

    Raises:
        SettingError: `source` is no path, and is to be read anew; else as `read_routes`.
    """
    made: dict[str, Any] = {}  # a model that stays in the file stays the same object

    def table(policies: PolicySet) -> RouteTable:
        fallen = own if default is None and policies.default is None else default
        return RouteTable(*_bound(policies, targets or {}, fallen, made))

    if not reload:
        read = table(source if isinstance(source, PolicySet) else PolicySet.from_yaml(source))
        return {"routes": read.routes, "default": read.default}
    if isinstance(source, PolicySet) or "\n" in str(source):
        raise SettingError("only a file can be read anew", hint="give its path, or leave reload out")
    tables = Reloaded(source, table)
    read = tables.current()
    return {"routes": read.routes, "default": read.default, "tables": tables}


def _bound(policies: PolicySet, targets: Targets, default: Any, made: dict[str, Any]) -> tuple[list[Route], Any]:
    def object_of(name: str, wanted_by: str) -> Any:
        if name not in made:
            made[name] = as_runnable(targets[name] if name in targets else _made(name), wanted_by)
        return made[name]

    return bind(policies, object_of, targets=targets, default=default, route=Route)


def _made(name: str) -> Any:
    make = load("langchain.chat_models", "init_chat_model", "langchain", 'pip install "archroute[agents]"')
    return make(_langchain_name(name))


def _langchain_name(name: str) -> str:
    """`provider/model`, as Plano writes it, as `provider:model`; a slash after a colon is the model's own."""
    provider, slash, model = name.partition("/")
    return f"{provider}:{model}" if slash and ":" not in provider else name
