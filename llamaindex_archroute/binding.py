"""From policies and names of models to routes over LLM objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llama_index.core.llms.llm import LLM

from archroute import Domain, Policy, PolicyError, PolicySet
from archroute.dispatch import Route

Targets = Mapping[str, LLM] | Callable[[str], LLM]
"""LLM objects by the names a policy file gives to models, or by names of routes; or a function that makes or finds a model's."""


def bind_routes(policies: PolicySet, target_of: Callable[[str], LLM]) -> list[Route[LLM]]:
    """A route for each policy, its target what `target_of` returns for its name; domains keep their actions."""

    def route(policy: Policy, actions: tuple[Policy, ...] = ()) -> Route[LLM]:
        return Route(policy, target=target_of(policy.name), actions=[route(action) for action in actions])

    return [
        route(policy.route, policy.actions) if isinstance(policy, Domain) else route(policy)
        for policy in policies.policies
    ]


def bind_file(policies: PolicySet, targets: Targets, default: LLM | None) -> tuple[list[Route[LLM]], LLM]:
    """The routes and the default that a policy file names; each route goes to the first of its models.

    Args:
        policies: What the file holds.
        targets: See `Targets`; a route's own name stands before the models that the file binds to it.
        default: The LLM for what fits no policy; None: the file's default.

    Raises:
        PolicyError: A route has no model, a model is not among the targets, or there is no default.
    """
    made: dict[str, LLM] = {}  # a name stands for one object, however many routes share it

    def model(name: str, wanted_by: str) -> LLM:
        if name not in made:
            if not callable(targets) and name not in targets:
                given = ", ".join(sorted(map(repr, targets))) or "none"
                raise PolicyError(
                    f"{wanted_by} wants the model {name!r}", hint=f"add it to the targets; given: {given}"
                )
            made[name] = targets(name) if callable(targets) else targets[name]
        return made[name]

    def target_of(route: str) -> LLM:
        if not callable(targets) and route in targets:
            return targets[route]
        for name in policies.models.get(route, ()):
            return model(name, f"policy {route!r}")
        raise PolicyError(f"policy {route!r} has no model", hint="write `model:` below it, or add it to the targets")

    if default is None:
        if policies.default is None:
            raise PolicyError("no default is given", hint="write `default:` in the file, or pass default=")
        default = model(policies.default, "the default")
    return bind_routes(policies, target_of), default
