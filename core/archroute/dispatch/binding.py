"""From the names of models in a policy file to routes over the user's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from archroute.dispatch.models import Model
from archroute.dispatch.route import Route
from archroute.dispatch.split import Split
from archroute.errors import PolicyError
from archroute.policy import Domain, Policy, PolicySet
from archroute.serving import ModelInfo, Serving


def bind(
    policies: PolicySet,
    object_of: Callable[[str, str], Any],
    *,
    targets: Mapping[str, Any],
    default: Any = None,
    route: Callable[..., Any] = Route,
) -> tuple[list[Any], Any]:
    """The routes and the default that a policy file names.

    A route's own name among the targets stands before the models that the file binds to it. A model's name stands for one object,
    however many routes share it.

    Args:
        policies: What the file holds.
        object_of: The object for a model's name; the second argument says who wants it, for errors.
        targets: Route or model names → objects.
        default: The object for what fits no policy; None: the file's.
        route: Makes a route; a framework's package has its own class.

    Returns:
        Routes in the policies' order, domains with their actions, and the default.

    Raises:
        PolicyError: A route has no model, or there is no default.
    """
    made: dict[str, Model[Any]] = {}

    def model(name: str, wanted_by: str) -> Model[Any]:
        if name not in made:
            made[name] = Model(name, object_of(name, wanted_by), policies.info.get(name, ModelInfo()))
        return made[name]

    def bound(policy: Policy, actions: tuple[Policy, ...] = ()) -> Any:
        serving = policies.serving.get(policy.name, Serving())
        wanted_by = f"policy {policy.name!r}"
        names = policies.models.get(policy.name, ())
        target: Any
        fallbacks: Iterable[str] = ()
        if policy.name in targets:
            target = targets[policy.name]
        elif serving.shares:
            target = Split({name: model(name, wanted_by) for name in serving.shares}, serving.shares)
            fallbacks = [name for name in names if name not in serving.shares]
        elif names:
            target, fallbacks = model(names[0], wanted_by), names[1:]
        else:
            raise PolicyError(
                f"{wanted_by} has no model", hint="write `model: provider:name` below it, or pass it in targets="
            )
        return route(
            policy,
            target=target,
            fallbacks=[model(name, wanted_by) for name in fallbacks],
            shadows=[model(name, wanted_by) for name in serving.shadows],
            timeout=serving.timeout,
            min_confidence=serving.min_confidence,
            on_failure=serving.on_failure,
            actions=[bound(action) for action in actions],
        )

    routes = [
        bound(policy.route, policy.actions) if isinstance(policy, Domain) else bound(policy)
        for policy in policies.policies
    ]
    if default is None:
        if policies.default is None:
            raise PolicyError(
                "no default is given", hint="write `default: provider:name` in the file, or pass default="
            )
        default = model(policies.default, "the default")
    return routes, default
