"""From the tools that a selector chooses among to policies."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llama_index.core.tools.types import ToolMetadata

from archroute import OTHER, Domain, Policy, PolicyError, PolicySet, SettingError


@dataclass(frozen=True)
class ChoiceSet:
    """The policies of some choices, and which choice serves each.

    Attributes:
        policies: One for each choice, or the user's own.
        indices: Route name → index of the choice. A domain that no choice is named after is absent: the default serves it.
        default: Index of the choice for what fits none.
    """

    policies: PolicySet
    indices: Mapping[str, int]
    default: int

    @classmethod
    def of(
        cls,
        choices: Sequence[ToolMetadata],
        default: int | str,
        policies: PolicySet | None = None,
        *,
        enrich: bool = False,
        default_is_choice: bool = True,
    ) -> ChoiceSet:
        """The policies of `choices`.

        Args:
            choices: What is chosen among.
            default: Index or name of the choice for what fits none.
            policies: The user's own; each takes the place of the description of the choice it names. An action that no choice is
                named after belongs to its domain's choice.
            enrich: Whether a choice's own description is kept behind the user's.
            default_is_choice: Whether the default is decided on like the others, if no policy of the user's names it.

        Raises:
            PolicyError: There are no choices, or a policy names none of them.
            SettingError: The default is none of them.
        """
        if not choices:
            raise PolicyError("there are no choices to select from", hint="give the router at least one tool")
        names = unique_names([choice.name for choice in choices])
        own = {name: _description(choice, name) for name, choice in zip(names, choices, strict=True)}
        index_of = {name: number for number, name in enumerate(names)}
        default_index = _index_of(default, names)

        def described(policy: Policy) -> Policy:
            kept = enrich and policy.name in own
            return Policy(policy.name, f"{policy.description}\n{own[policy.name]}") if kept else policy

        chosen: list[Policy | Domain] = []
        indices: dict[str, int] = {}
        for policy in policies.policies if policies else ():
            if isinstance(policy, Domain):
                actions = [described(action) for action in policy.actions]
                chosen.append(Domain(policy.name, described(policy.route).description, actions))
            else:
                chosen.append(described(policy))
        for route in policies.routes if policies else ():
            domain = policies.domain_of(route.name) if policies else None
            served_by = route.name if route.name in index_of else domain.name if domain else None
            if served_by in index_of:
                indices[route.name] = index_of[served_by]
            elif domain is None or domain.name != route.name:
                raise PolicyError(
                    f"policy {route.name!r} names no choice", hint=f"the choices are {', '.join(map(repr, names))}"
                )
        for name in names:
            if name not in indices and (default_is_choice or index_of[name] != default_index):
                chosen.append(Policy(name, own[name]))
                indices[name] = index_of[name]
        serving = policies.serving if policies else None  # a route's own min_confidence is in it
        return cls(PolicySet(chosen, serving=serving), indices, default_index)


def unique_names(names: Sequence[str | None]) -> list[str]:
    """`names` as policies may be named: present, unique, not `other`, on one line. Given names go before made ones."""
    given = [_valid(name or "") for name in names]
    taken: set[str] = set()
    result = []
    for number, name in enumerate(given, start=1):
        wanted = name or f"choice_{number}"
        free, count = wanted, 1
        while free in taken or (free != name and free in given):
            count += 1
            free = f"{wanted}_{count}"
        taken.add(free)
        result.append(free)
    return result


def _valid(name: str) -> str:
    printable = _printable(name, keep="").strip()
    return f"{printable}_choice" if printable.lower() == OTHER else printable


def _description(choice: ToolMetadata, name: str) -> str:
    """The choice's description; the name in words where there is none."""
    return _printable(choice.description or "", keep="\n\t").strip() or name.replace("_", " ")


def _printable(text: str, keep: str) -> str:
    return "".join(letter if letter in keep or unicodedata.category(letter) != "Cc" else " " for letter in text)


def _index_of(choice: int | str, names: Sequence[str]) -> int:
    """The index that an index or a name means; no other, for −1 would silently run the last choice."""
    if isinstance(choice, str) and choice in names:
        return names.index(choice)
    if isinstance(choice, int) and 0 <= choice < len(names):
        return choice
    raise SettingError(
        f"default={choice!r} is none of the {len(names)} choices",
        hint=f"use an index from 0, or one of {', '.join(map(repr, names))}",
    )
