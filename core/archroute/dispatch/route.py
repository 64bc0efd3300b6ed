"""Which policy is bound to which of the user's objects.

The paper's mapping T from policies to models. Swapping a model changes a target here, and nothing of the routing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any, ClassVar, Generic, Self

from archroute.dispatch.models import Model, Target
from archroute.dispatch.split import Split
from archroute.errors import PolicyError
from archroute.observe.record import Usage
from archroute.policy import Domain, Policy, PolicySet
from archroute.serving import ModelInfo, OnFailure, Serving


class Route(Generic[Target]):
    """A policy, bound to the object that serves it.

    Example:
        >>> Route("tax", "Tax law and returns", target=print).policy
        Policy(name='tax', description='Tax law and returns')
        >>> Route("code", "Writing code", target=Split({"gpt-5": print, "new": len}, {"gpt-5": 0.95, "new": 0.05}), fallbacks=[str])
        Route('code', target=Split({'gpt-5': 0.95, 'new': 0.05}))

    Args:
        name: The policy's name, or a `Policy`.
        description: The policy's description, if `name` is not a policy.
        target: The user's object, a `Model` that names it, or a `Split` of several.
        fallbacks: Tried in order when the target fails or takes too long.
        shadows: Asked beside the one that serves; their answers are dropped, their time and errors recorded.
        timeout: Seconds until an answer, or the first piece of a streamed one, must be there; then the next target is tried.
        min_confidence: This route's own, instead of the router's.
        on_failure: `"default"`: when all of these have failed, the router's default serves; `"raise"`: the last error is raised.
        actions: Routes of a domain's actions; the route itself is then the domain, and serves what fits none of them.

    Raises:
        PolicyError: The policy or a setting is not valid.
    """

    def __init__(
        self,
        name: str | Policy,
        description: str | None = None,
        *,
        target: Target | Model[Target] | Split[Target],
        fallbacks: Iterable[Target | Model[Target]] = (),
        shadows: Iterable[Target | Model[Target]] = (),
        timeout: float | None = None,
        min_confidence: float | None = None,
        on_failure: OnFailure = "default",
        actions: Iterable[Route[Target]] = (),
    ) -> None:
        if isinstance(name, Policy):
            if description is not None:
                raise PolicyError(f"policy {name.name!r} has a description already", hint="leave the second one out")
            self.policy = name
        else:
            self.policy = Policy(name, description or "")
        self.target = target
        self.fallbacks = tuple(fallbacks)
        self.shadows = tuple(shadows)
        self.serving = Serving(timeout=timeout, min_confidence=min_confidence, on_failure=on_failure)
        self.actions = tuple(actions)
        if any(action.actions for action in self.actions):
            raise PolicyError(
                f"an action of route {self.policy.name!r} has actions", hint="domains have one level of actions"
            )

    def __repr__(self) -> str:
        # The target stays out: its repr may hold a key.
        target = self.target.target if isinstance(self.target, Model) else self.target
        shown = target if isinstance(target, Split) else type(target).__name__
        return f"Route({self.policy.name!r}, target={shown})"

    @property
    def targets(self) -> tuple[Target | Model[Target], ...]:
        """The target, or those of the split."""
        return tuple(self.target.models.values()) if isinstance(self.target, Split) else (self.target,)

    def mapped(self, change: Callable[[Target | Model[Target], str], Model[Target]]) -> Self:
        """The same route with `change(object, what it is)` in place of every object that it holds."""
        place = f"route {self.policy.name!r}"
        route = copy(self)
        if isinstance(self.target, Split):
            route.target = self.target.mapped(lambda model: change(model, f"target {model.name!r} of {place}"))
        else:
            route.target = change(self.target, place)
        route.fallbacks = tuple(change(fallback, f"fallback of {place}") for fallback in self.fallbacks)
        route.shadows = tuple(change(shadow, f"shadow of {place}") for shadow in self.shadows)
        route.actions = tuple(action.mapped(change) for action in self.actions)
        return route


class RouteTable(Generic[Target]):
    """All routes of a router, and the default that serves what fits none of them.

    A framework's package says in a subclass what it knows of its objects: `describe`, `usage_of`, and `signals`, the framework's
    exceptions that are no failure of a target and pass through at once.

    Args:
        routes: In the order the policies are to stand in.
        default: The target for `other`, for decisions that are not sure enough, and for failures.

    Raises:
        PolicyError: The policies are not valid together, or two different targets have the same name.

    Attributes:
        routes: As given.
        policies: The routes' policies.
        bound: Route name → route, a domain behind its actions.
        default: As given, named.
        models: Every object that may serve or shadow, once each, the default last.
    """

    signals: ClassVar[tuple[type[Exception], ...]] = ()
    usages_add_up: ClassVar[bool] = False
    """Whether each piece of a stream tells the tokens that it alone took, not those so far."""

    def __init__(self, routes: Iterable[Route[Target]], default: Target | Model[Target]) -> None:
        self.routes = tuple(routes)
        for route in self.routes:
            if not isinstance(route, Route):
                raise PolicyError(
                    f"a {type(route).__name__} is no route", hint="write Route(name, description, target=…)"
                )
        self.bound: Mapping[str, Route[Target]] = {
            route.policy.name: route for outer in self.routes for route in (*outer.actions, outer)
        }
        self.policies = PolicySet(
            (
                Domain(route.policy.name, route.policy.description, [action.policy for action in route.actions])
                if route.actions
                else route.policy
                for route in self.routes
            ),
            serving={name: route.serving for name, route in self.bound.items()},
        )
        # By the object's identity, so that one that stands in several places is one, and by the name that it was given.
        self._objects: dict[int, Model[Target]] = {}
        self._named: dict[tuple[int, str], Model[Target]] = {}
        given = [one for route in self.bound.values() for one in (*route.targets, *route.fallbacks, *route.shadows)]
        for model in sorted(
            [*given, default], key=lambda one: not isinstance(one, Model)
        ):  # names that are given come first
            self._name(model)
        self.default = self.model_of(default)
        served = {id(model): model for model in map(self.model_of, given) if model is not self.default}
        self.models: tuple[Model[Target], ...] = (*served.values(), self.default)

    def describe(self, target: Target) -> tuple[str, ModelInfo]:
        """The name and the abilities of an object that nobody named; a framework's package knows better."""
        return getattr(target, "__name__", type(target).__name__), ModelInfo()

    def usage_of(self, answer: Any) -> Usage | None:
        """The tokens that an answer, or a piece of one, says it took."""
        return None

    def model_of(self, given: Target | Model[Target]) -> Model[Target]:
        """The named form of an object of this table."""
        if isinstance(given, Model):
            return self._named[id(given.target), given.name]
        return self._objects[id(given)]

    def named(self, name: str) -> Model[Target] | None:
        """The object that goes by this name."""
        return next((model for model in self.models if model.name == name), None)

    def serving(self, route: str, key: str) -> list[Model[Target]]:
        """Who serves a route, in the order in which they are tried; the default alone where there is no such route.

        Args:
            route: Its name.
            key: Of the session; it chooses the side of a split.
        """
        bound = self.bound.get(route)
        if bound is None:
            return [self.default]
        if isinstance(bound.target, Split):
            order = [self.model_of(bound.target.models[name]) for name in bound.target.shares.ranked(key)]
        else:
            order = [self.model_of(bound.target)]
        order += [self.model_of(fallback) for fallback in bound.fallbacks]
        if bound.serving.on_failure == "default":
            order.append(self.default)
        return list({id(model): model for model in order}.values())

    def shadows(self, route: str) -> list[Model[Target]]:
        """Who is asked beside."""
        bound = self.bound.get(route)
        return [self.model_of(shadow) for shadow in bound.shadows] if bound else []

    def arms(self, route: str) -> list[Model[Target]]:
        """The targets of a route's split; none where it has no split."""
        bound = self.bound.get(route)
        if bound is None or not isinstance(bound.target, Split):
            return []
        return [self.model_of(model) for model in bound.targets]

    def members(self, route: str) -> list[Model[Target]]:
        """The targets of a route and behind them its fallbacks, whatever the shares are."""
        bound = self.bound[route]
        return [self.model_of(given) for given in (*bound.targets, *bound.fallbacks)]

    def change_shares(self, route: str, shares: Mapping[str, float]) -> None:
        """Change the shares of a route's split while turns are served.

        Raises:
            PolicyError: There is no such route, it has no split, or the shares are not valid.
        """
        bound = self.bound.get(route)
        if bound is None or not isinstance(bound.target, Split):
            raise PolicyError(
                f"route {route!r} has no split", hint="bind it to a Split, or give its models shares in the file"
            )
        bound.target.shares.change(shares)

    def mapped(self, change: Callable[[Target, str], Target]) -> Self:
        """The same routes and default with `change(object, what it is)` in place of every object, their names as they are.

        An object that stands in several places is changed once.
        """
        changed: dict[int, Model[Target]] = {}

        def once(given: Target | Model[Target], place: str) -> Model[Target]:
            model = self.model_of(given)
            if id(model) not in changed:
                changed[id(model)] = model.mapped(lambda target: change(target, place))
            return changed[id(model)]

        return type(self)([route.mapped(once) for route in self.routes], once(self.default, "the default"))

    def _name(self, given: Target | Model[Target]) -> None:
        if isinstance(given, Model):
            target, name, key = given.target, given.name, (id(given.target), given.name)
            info = given.info.over(self.describe(target)[1])
            if key in self._named:
                return
        elif id(given) in self._objects:
            return
        else:
            target, (name, info) = given, self.describe(given)
        taken = {model.name for model in self._named.values()}
        if name in taken and isinstance(given, Model):
            raise PolicyError(f"two targets are named {name!r}", hint="give each its own name")
        number, plain = 2, name
        while name in taken:
            name, number = f"{plain}#{number}", number + 1
        model = Model(name, target, info)
        self._named[id(target), name] = model
        self._objects.setdefault(id(target), model)
