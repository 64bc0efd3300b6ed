"""The selector: Arch-Router choosing among query engines or retrievers."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from llama_index.core.base.base_selector import BaseSelector, SelectorResult, SingleSelection
from llama_index.core.prompts.mixin import PromptDictType
from llama_index.core.schema import QueryBundle
from llama_index.core.tools.types import ToolMetadata

from archroute import OTHER, Decision, Domain, Policy, PolicySet, Router, SettingError
from archroute.conversation import History
from archroute.engines.base import Engine
from archroute.models import load_engine
from archroute.router import OnError
from llamaindex_archroute.choices import ChoiceSet
from llamaindex_archroute.deciding import Readable, adecide, decide
from llamaindex_archroute.events import emit
from llamaindex_archroute.history import HistorySource, aread_history, read_history

_CHOICE_SETS = 64  # sets of choices whose policies are kept


class ArchRouterSelectorResult(SelectorResult):
    """What was selected, with the decision behind it. `RouterQueryEngine` puts it in `response.metadata["selector_result"]`.

    Example:
        >>> selector = ArchRouterSelector(default=1, model="embedded")
        >>> result = selector.select(["Tax law and returns", "Planning trips"], "How do I file my tax return?")
        >>> result.ind, result.decision.reason
        (0, 'matched')

    Attributes:
        decision: What the router decided.
    """

    decision: Decision


class ArchRouterSelector(BaseSelector):
    """Selects by what each choice is for, without a call to an LLM, and always a choice that exists.

    The choices' names and descriptions are the policies. What fits none of them, what is not sure enough, and what the router fails
    on goes to the default.

    Example:
        >>> selector = ArchRouterSelector(default=0, model="embedded")
        >>> choices = [ToolMetadata("Tax law and returns", name="tax"), ToolMetadata("Planning trips", name="travel")]
        >>> selector.select(choices, "Which flights go to Lisbon on Friday?").ind
        1

    Args:
        default: The choice for what fits none: its index, or its tool's name.
        default_is_choice: Whether the default is also decided on by its own description; False keeps it for what fits none.
        model: As for `archroute.Router`; an engine loaded once serves all selectors.
        policies: Policies of your own for some or all choices, by the tools' names; they take the place of the tools' descriptions.
        enrich: Whether a tool's description is kept behind the policy of the same name.
        history: Where the turns before the query come from: a memory, a list, or a function that returns messages.
        window: How much of the conversation is read: `"all"`, `"last_user"`, or the last n user turns.
        min_confidence: A choice is taken only from this probability on; below, the default serves.
        min_margin: A choice is taken only if its probability is so far ahead of the next.
        multi: Whether several choices may be selected: the one decided on, and all others from `multi_threshold` on.
        multi_threshold: The probability, from 0 to 1, from which on a further choice is selected.
        multi_limit: The most choices that are selected.
        on_error: `"default"`, or `"raise"`: what a failure while routing does.

    Raises:
        SettingError: An argument is not valid.
        ModelError: The model can't be loaded.
    """

    def __init__(
        self,
        default: int | str = 0,
        *,
        default_is_choice: bool = True,
        model: str | Path | Engine | None = None,
        policies: PolicySet | Iterable[Policy | Domain] | None = None,
        enrich: bool = False,
        history: HistorySource | None = None,
        window: History = "all",
        min_confidence: float = 0.0,
        min_margin: float = 0.0,
        multi: bool = False,
        multi_threshold: float = 0.2,
        multi_limit: int = 3,
        on_error: OnError = "default",
    ) -> None:
        if isinstance(default, int) and default < 0:
            raise SettingError(f"default={default}", hint="count the choices from 0")
        if not 0 <= multi_threshold <= 1:
            raise SettingError(f"multi_threshold={multi_threshold}", hint="give a probability from 0 to 1")
        if multi_limit < 1:
            raise SettingError(f"multi_limit={multi_limit}", hint="give a positive number of choices")
        self.default = default
        self.history = history
        self.multi = multi
        self.multi_threshold = multi_threshold
        self.multi_limit = multi_limit
        self._policies = None if policies is None else PolicySet.of(policies)
        self._enrich, self._default_is_choice = enrich, default_is_choice
        self._engine = load_engine(model)
        self._settings: dict[str, Any] = {
            "min_confidence": min_confidence,
            "min_margin": min_margin,
            "history": window,
            "on_error": on_error,
        }
        # An argument that is wrong for a router is refused now, not at the first query.
        self._router(PolicySet([Policy("any", "Anything")]))
        self._sets: OrderedDict[tuple[tuple[str | None, str], ...], tuple[ChoiceSet, Router]] = OrderedDict()
        self._lock = threading.Lock()

    def _select(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        chosen_among, router = self._prepared(choices)
        read: Readable
        try:
            read = read_history(self.history, query.query_str)
        except Exception as error:
            read = error
        return self._result(decide(router, read), chosen_among)

    async def _aselect(self, choices: Sequence[ToolMetadata], query: QueryBundle) -> SelectorResult:
        chosen_among, router = self._prepared(choices)
        read: Readable
        try:
            read = await aread_history(self.history, query.query_str)
        except Exception as error:
            read = error
        return self._result(await adecide(router, read), chosen_among)

    def _get_prompts(self) -> PromptDictType:
        return {}  # the router's prompt is part of the model: there is none to change

    def _update_prompts(self, prompts_dict: PromptDictType) -> None:
        pass

    def _router(self, policies: PolicySet) -> Router:
        return Router(policies, model=self._engine, **self._settings)

    def _prepared(self, choices: Sequence[ToolMetadata]) -> tuple[ChoiceSet, Router]:
        """The policies of `choices` and their router, made once for each set of choices."""
        key = tuple((choice.name, choice.description) for choice in choices)
        with self._lock:
            found = self._sets.get(key)
            if found is None:
                chosen_among = ChoiceSet.of(
                    choices,
                    self.default,
                    self._policies,
                    enrich=self._enrich,
                    default_is_choice=self._default_is_choice,
                )
                found = self._sets[key] = (chosen_among, self._router(chosen_among.policies))
            self._sets.move_to_end(key)
            while len(self._sets) > _CHOICE_SETS:
                self._sets.popitem(last=False)
        return found

    def _result(self, decision: Decision, choices: ChoiceSet) -> ArchRouterSelectorResult:
        emit(decision)
        if decision.route not in choices.indices:
            selections = [SingleSelection(index=choices.default, reason=_why_default(decision))]
        else:
            # A choice may serve several actions of a domain: the likeliest one stands for it.
            likeliest: dict[int, str] = {}
            for name in (decision.route, *(self._further(decision) if self.multi else ())):
                if name in choices.indices:
                    likeliest.setdefault(choices.indices[name], name)
            selections = [
                SingleSelection(index=index, reason=f"{name}: {_why(name, decision, choices.policies)}")
                for index, name in list(likeliest.items())[: self.multi_limit]
            ]
        return ArchRouterSelectorResult(selections=selections, decision=decision)

    def _further(self, decision: Decision) -> list[str]:
        """The routes besides the chosen one that are likely enough, likeliest first."""
        likely = [
            name
            for name, probability in decision.probabilities.items()
            if name not in (OTHER, decision.route) and probability >= self.multi_threshold
        ]
        return sorted(likely, key=lambda name: -decision.probabilities[name])


def _why(name: str, decision: Decision, policies: PolicySet) -> str:
    domain = policies.domain_of(name)
    if name != decision.route or decision.reason != "domain" or domain is None:
        return f"probability {decision.probabilities[name]:.2f}"
    whole = sum(decision.probabilities[route.name] for route in (*domain.actions, domain.route))
    return f"none of its actions is sure, all together have probability {whole:.2f}"


def _why_default(decision: Decision) -> str:
    if decision.reason == "error":
        return f"the default, because routing failed: {decision.error}"
    if decision.reason == "low_confidence":
        return f"the default, because the likeliest choice has only probability {decision.confidence:.2f}"
    if decision.reason == "low_margin":
        return f"the default, because the likeliest choice is only {decision.margin:.2f} ahead of the next"
    if decision.reason == "other":
        return f"the default, because no choice fits: probability {decision.confidence:.2f}"
    return f"the default, because no choice is named {decision.route}"
