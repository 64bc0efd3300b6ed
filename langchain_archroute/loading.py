"""Routes from a policy file: the models it names become chat models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from archroute.errors import PolicyError
from archroute.policy import Domain, Policy, PolicySet
from langchain_archroute.optional import load
from langchain_archroute.route import AnyRunnable, Route, as_runnable

Targets = Mapping[str, Any]
"""Model names, or names of routes, with the Runnables that stand for them."""


def read_routes(
    source: str | Path | PolicySet, targets: Targets | None = None, default: Any = None
) -> tuple[list[Route], AnyRunnable]:
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
    targets = targets or {}
    routes = [_route(policy, policies, targets) for policy in policies.policies]
    if default is None and policies.default is None:
        raise PolicyError("no default is given", hint="write `default: provider:model` in the file, or pass default=")
    return routes, as_runnable(_model(policies.default or "", targets) if default is None else default, "the default")


def _route(policy: Policy | Domain, policies: PolicySet, targets: Targets) -> Route:
    actions = policy.actions if isinstance(policy, Domain) else ()
    named = targets.get(policy.name)
    models = [named] if named is not None else [_model(name, targets) for name in policies.models.get(policy.name, ())]
    if not models:
        raise PolicyError(
            f"policy {policy.name!r} has no model", hint="write `model: provider:name` below it, or pass it in targets="
        )
    return Route(
        policy.name,
        policy.description,
        target=models[0],
        fallbacks=models[1:],
        actions=[_route(action, policies, targets) for action in actions],
    )


def _model(name: str, targets: Targets) -> Any:
    if name in targets:
        return targets[name]
    make = load("langchain.chat_models", "init_chat_model", "langchain", 'pip install "archroute[agents]"')
    return make(_langchain_name(name))


def _langchain_name(name: str) -> str:
    """`provider/model`, as Plano writes it, as `provider:model`; a slash after a colon is the model's own."""
    provider, slash, model = name.partition("/")
    return f"{provider}:{model}" if slash and ":" not in provider else name
