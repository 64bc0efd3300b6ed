"""From a decision to the user's own object: which policy is bound to which target.

The paper's mapping T from policies to models. Swapping a model changes a target here, and nothing of the routing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from archroute.decision import Decision
from archroute.errors import PolicyError
from archroute.policy import Domain, Policy, PolicySet

Target = TypeVar("Target")


class Route(Generic[Target]):
    """A policy, bound to the object that serves it.

    Example:
        >>> Route("tax", "Tax law and returns", target=print).policy
        Policy(name='tax', description='Tax law and returns')

    Args:
        name: The policy's name, or a `Policy`.
        description: The policy's description, if `name` is not a policy.
        target: The user's object.
        actions: Routes of a domain's actions; the route itself is then the domain, and serves what fits none of them.

    Raises:
        PolicyError: The policy is not valid.
    """

    def __init__(
        self,
        name: str | Policy,
        description: str | None = None,
        *,
        target: Target,
        actions: Iterable[Route[Target]] = (),
    ) -> None:
        if isinstance(name, Policy):
            if description is not None:
                raise PolicyError(f"policy {name.name!r} has a description already", hint="leave the second one out")
            self.policy = name
        else:
            self.policy = Policy(name, description or "")
        self.target = target
        self.actions = tuple(actions)
        if any(action.actions for action in self.actions):
            raise PolicyError(
                f"an action of route {self.policy.name!r} has actions", hint="domains have one level of actions"
            )

    def __repr__(self) -> str:
        # The target stays out: its repr may hold a key.
        return f"Route({self.policy.name!r}, target={type(self.target).__name__})"


class RouteTable(Generic[Target]):
    """All routes of a router, and the default that serves what fits none of them.

    Args:
        routes: In the order the policies are to stand in.
        default: The target for `other`, for decisions that are not sure enough, and for failures.

    Raises:
        PolicyError: The policies are not valid together.

    Attributes:
        policies: The routes' policies.
        targets: Route name → target.
        default: As given.
    """

    def __init__(self, routes: Iterable[Route[Target]], default: Target) -> None:
        routes = tuple(routes)
        for route in routes:
            if not isinstance(route, Route):
                raise PolicyError(
                    f"a {type(route).__name__} is no route", hint="write Route(name, description, target=…)"
                )
        self.policies = PolicySet(
            Domain(route.policy.name, route.policy.description, [action.policy for action in route.actions])
            if route.actions
            else route.policy
            for route in routes
        )
        bound = [route for outer in routes for route in (outer, *outer.actions)]
        self.targets: Mapping[str, Target] = {route.policy.name: route.target for route in bound}
        self.default = default

    def target_of(self, decision: Decision) -> Target:
        """The target that serves a decision."""
        return self.targets.get(decision.route, self.default)
