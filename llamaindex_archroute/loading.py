"""From the names in a policy file to LLM objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from llama_index.core.llms.llm import LLM

from archroute import PolicyError, PolicySet
from archroute.dispatch import Model, Route, bind

Targets = Mapping[str, LLM] | Callable[[str], LLM]
"""LLM objects by the names a policy file gives to models, or by names of routes; or a function that makes or finds a model's."""


class Binder:
    """Binds the policies of a file, or of one version of it after another; a name stands for the same object in all of them.

    Args:
        targets: See `Targets`.
        default: The LLM for what fits no policy; None: the one the file names.
    """

    def __init__(self, targets: Targets, default: LLM | None) -> None:
        self._targets, self._default = targets, default
        self._made: dict[str, LLM] = {}

    def __call__(self, policies: PolicySet) -> tuple[list[Route[LLM]], LLM | Model[LLM]]:
        """The routes and the default.

        Raises:
            PolicyError: A route has no model, a model is not among the targets, or there is no default.
        """
        targets = {} if callable(self._targets) else self._targets
        return bind(policies, self._object, targets=targets, default=self._default)

    def _object(self, name: str, wanted_by: str) -> LLM:
        if not callable(self._targets):
            if name in self._targets:
                return self._targets[name]
            given = ", ".join(sorted(map(repr, self._targets))) or "none"
            raise PolicyError(f"{wanted_by} wants the model {name!r}", hint=f"add it to the targets; given: {given}")
        if name not in self._made:
            self._made[name] = self._targets(name)
        return self._made[name]
