"""Policies: what people write to say which requests go where.

The form is that of Arch-Router (arXiv 2506.16655): a policy is an identifier and a description; a domain (a topic) holds actions
(operations on it) and is itself the route of what fits none of them.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from archroute.errors import PolicyError
from archroute.serving import ModelInfo, Serving

OTHER = "other"
"""The answer of a router when no policy fits. It is never listed among the policies."""


@dataclass(frozen=True)
class Policy:
    """One route: a name and what belongs there, in plain language.

    Example:
        >>> Policy("bug_fixing", "Identifying and fixing errors in source code")
        Policy(name='bug_fixing', description='Identifying and fixing errors in source code')

    Raises:
        PolicyError: The name or the description is empty, reserved or has control characters.
    """

    name: str
    description: str

    def __post_init__(self) -> None:
        for label, text in (("name", self.name), ("description", self.description)):
            if not isinstance(text, str):
                raise PolicyError(f"a policy's {label} is a {type(text).__name__}", hint=f"write the {label} as text")
            if not text.strip():
                of = f" of policy {self.name!r}" if label == "description" else ""
                raise PolicyError(f"the {label}{of} is empty", hint="name the route and say what belongs there")
            allowed = "" if label == "name" else "\n\t"
            if any(unicodedata.category(letter) == "Cc" and letter not in allowed for letter in text):
                raise PolicyError(f"the {label} {text!r} has control characters", hint="remove them")
        if self.name != self.name.strip():
            raise PolicyError(f"the name {self.name!r} begins or ends with white space", hint="remove it")
        if self.name.lower() == OTHER:
            raise PolicyError(
                f"the name {self.name!r} is reserved: it is the answer when no policy fits",
                hint="choose another name; what fits no policy goes to the default by itself",
            )


@dataclass(frozen=True)
class Domain:
    """A topic with its operations; the domain itself is the route of requests that fit none of its actions.

    Example:
        >>> coding = Domain("coding", "Programming in general", actions=[Policy("bug_fixing", "Fixing errors in code")])
        >>> [route.name for route in PolicySet([coding]).routes]
        ['bug_fixing', 'coding']
    """

    name: str
    description: str
    actions: tuple[Policy, ...] = field(default=())

    def __init__(self, name: str, description: str, actions: Iterable[Policy] = ()) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "description", description)
        object.__setattr__(self, "actions", tuple(actions))
        for action in self.actions:
            if not isinstance(action, Policy):
                raise PolicyError(f"domain {name!r} has an action that is a {type(action).__name__}", hint="use Policy")
        self.route  # noqa: B018 - checks name and description as any policy's

    @property
    def route(self) -> Policy:
        """The domain as a route of its own."""
        return Policy(self.name, self.description)


@dataclass(frozen=True)
class PolicySet:
    """The policies of one router, in the order given, with the models a file may bind them to.

    Example:
        >>> policies = PolicySet([Policy("travel", "Planning trips"), Policy("tax", "Questions on tax law")])
        >>> policies["tax"].description
        'Questions on tax law'

    Attributes:
        policies: Policies and domains as given.
        models: Route name → the names of the models bound to it, preferred first; routes bound elsewhere are absent.
        default: The name of the model for what fits no policy, if the file names one.
        serving: Route name → how its turns are served, where the file says it.
        info: Name of a model → what the file says is known of it.

    Raises:
        PolicyError: The set is empty, a name occurs twice, or `models` or `serving` names an unknown route.
    """

    policies: tuple[Policy | Domain, ...]
    models: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default: str | None = None
    serving: Mapping[str, Serving] = field(default_factory=dict)
    info: Mapping[str, ModelInfo] = field(default_factory=dict)

    def __init__(
        self,
        policies: Iterable[Policy | Domain],
        *,
        models: Mapping[str, Iterable[str]] | None = None,
        default: str | None = None,
        serving: Mapping[str, Serving] | None = None,
        info: Mapping[str, ModelInfo] | None = None,
    ) -> None:
        object.__setattr__(self, "policies", tuple(policies))
        object.__setattr__(self, "models", {name: tuple(bound) for name, bound in (models or {}).items()})
        object.__setattr__(self, "default", default)
        object.__setattr__(self, "serving", dict(serving or {}))
        object.__setattr__(self, "info", dict(info or {}))
        for policy in self.policies:
            if not isinstance(policy, Policy | Domain):
                raise PolicyError(f"a {type(policy).__name__} is no policy", hint="use Policy or Domain")
        names = [route.name for route in self.routes]
        if not names:
            raise PolicyError("there are no policies", hint="give at least one Policy(name, description)")
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise PolicyError(f"policy names occur more than once: {', '.join(twice)}", hint="make every name unique")
        unknown = sorted({*self.models, *self.serving} - set(names))
        if unknown:
            raise PolicyError(f"models are bound to unknown routes: {', '.join(unknown)}", hint="check the spelling")

    @property
    def routes(self) -> tuple[Policy, ...]:
        """Every route, in the order given; a domain follows its actions."""
        routes: list[Policy] = []
        for policy in self.policies:
            routes += [*policy.actions, policy.route] if isinstance(policy, Domain) else [policy]
        return tuple(routes)

    def domain_of(self, route: str) -> Domain | None:
        """The domain that `route` is an action of, or is."""
        for policy in self.policies:
            if isinstance(policy, Domain) and route in (policy.name, *(action.name for action in policy.actions)):
                return policy
        return None

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.routes)

    def __len__(self) -> int:
        return len(self.routes)

    def __getitem__(self, name: str) -> Policy:
        for route in self.routes:
            if route.name == name:
                return route
        raise KeyError(name)

    @classmethod
    def of(cls, source: PolicySet | Iterable[Policy | Domain]) -> PolicySet:
        """`source` itself if it is a set, else a set of what it holds."""
        return source if isinstance(source, PolicySet) else cls(source)

    @classmethod
    def from_yaml(cls, source: str | Path) -> PolicySet:
        """From a policy file, or a Plano (archgw) configuration; see `archroute.policy_file`.

        Args:
            source: A file's path, or the YAML text itself if it has more than one line.
        """
        from archroute.policy_file import read_policies

        return read_policies(source)

    def to_yaml(self) -> str:
        """The policy file that `from_yaml` reads back."""
        from archroute.policy_file import write_policies

        return write_policies(self)
