"""The selector, bare: always a choice that exists, and the decision behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from llama_index.core.base.base_selector import SelectorResult
from llama_index.core.tools.types import ToolMetadata

from archroute import Conversation, Domain, EngineError, Policy, PolicyError, PolicySet, SettingError
from archroute.engines.base import Engine, Scores
from archroute.serving import Serving
from llamaindex_archroute import ArchRouterSelector, ArchRouterSelectorResult
from llamaindex_archroute.choices import ChoiceSet
from tests.engines import FailingEngine, KeywordEngine

FRUIT = ["apple", "pear", "peach"]
WORDS = {"choice_1": ["apple"], "choice_2": ["pear"], "choice_3": ["peach"], "tax": ["vat"], "travel": ["flight"]}
TOOLS = [ToolMetadata("Tax law", name="tax"), ToolMetadata("Planning trips", name="travel")]


def selector(default: int | str = 0, **arguments: Any) -> ArchRouterSelector:
    return ArchRouterSelector(default, **{"model": KeywordEngine(WORDS)} | arguments)


class _Gate(KeywordEngine):
    """Waits, while it scores, to be let through by the event loop: a loop that is blocked never does."""

    def __init__(self) -> None:
        super().__init__(WORDS)
        self.entered, self.open = threading.Event(), threading.Event()

    def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
        self.entered.set()
        if not self.open.wait(10):
            raise EngineError("nobody opened the gate")
        return super().score(routes, conversations)


class TestSingle:
    @pytest.mark.parametrize(("query", "index"), [("an apple, please", 0), ("a pear", 1), ("the peach!", 2)])
    def test_plain_strings_are_choices(self, query: str, index: int) -> None:
        assert selector().select(FRUIT, query).ind == index

    async def test_async_selects_the_same(self) -> None:
        assert (await selector().aselect(FRUIT, "a pear")).ind == 1

    async def test_the_event_loop_runs_on_while_the_engine_works(self) -> None:
        engine = _Gate()
        selecting = asyncio.create_task(selector(model=engine).aselect(FRUIT, "a pear"))
        while not engine.entered.is_set():
            await asyncio.sleep(0)
        engine.open.set()
        assert (await selecting).ind == 1
        assert engine.threads != [threading.get_ident()]

    def test_the_decision_rides_in_the_result(self) -> None:
        result = selector().select(TOOLS, "a flight to Lisbon")
        assert isinstance(result, ArchRouterSelectorResult)
        assert isinstance(result, SelectorResult)
        assert result.decision.route == "travel"
        assert sum(result.decision.probabilities.values()) == pytest.approx(1)
        assert "travel" in result.reason
        assert result.model_dump(mode="json")["decision"]["route"] == "travel"

    def test_choices_of_one_name_are_told_apart(self) -> None:
        engine = KeywordEngine({"tool": ["vat"], "tool_2": ["flight"]})
        choices = [ToolMetadata("Tax law", name="tool"), ToolMetadata("Planning trips", name="tool")]
        assert selector(model=engine).select(choices, "flight").ind == 1

    def test_the_users_policies_reach_the_engine(self) -> None:
        class Reading(KeywordEngine):
            def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
                self.read = [route.description for route in routes]
                return super().score(routes, conversations)

        engine = Reading(WORDS)
        selector(model=engine, policies=[Policy("travel", "Journeys")], enrich=True).select(TOOLS, "flight")
        assert engine.read == ["Journeys\nPlanning trips", "Tax law"]


class TestDefault:
    @pytest.mark.parametrize("default", [1, "travel"])
    def test_takes_what_fits_no_choice(self, default: int | str) -> None:
        result = selector(default).select(TOOLS, "hello")
        assert result.ind == 1
        assert isinstance(result, ArchRouterSelectorResult)
        assert result.decision.reason == "other"

    def test_takes_what_is_not_sure_enough(self) -> None:
        result = selector(1, min_confidence=0.99).select(TOOLS, "vat")
        assert result.ind == 1
        assert "default" in result.reason
        assert isinstance(result, ArchRouterSelectorResult)
        assert result.decision.reason == "low_confidence"

    def test_takes_what_is_too_close_to_the_next(self) -> None:
        result = selector(1, min_margin=0.1).select(TOOLS, "vat on a flight")
        assert (result.ind, result.reason) == (
            1,
            "the default, because the likeliest choice is only 0.00 ahead of the next",
        )

    def test_is_left_alone_where_a_domain_is_sure_as_a_whole(self) -> None:
        domain = Domain("travel", "Trips", [Policy("flights", "Flights"), Policy("hotels", "Hotels")])
        engine = KeywordEngine({"flights": ["flight"], "hotels": ["hotel"]})
        result = selector(0, policies=[domain], model=engine, min_margin=0.1).select(TOOLS, "a flight and a hotel")
        assert result.ind == 1
        assert result.reason == "travel: none of its actions is sure, all together have probability 0.96"

    def test_takes_what_is_below_a_policys_own_threshold(self) -> None:
        policies = PolicySet([Policy("tax", "Tax")], serving={"tax": Serving(min_confidence=0.99)})
        assert selector(1, policies=policies).select(TOOLS, "vat").ind == 1

    async def test_takes_the_turn_when_the_engine_fails(self) -> None:
        failing = selector(1, model=FailingEngine())
        for result in (failing.select(TOOLS, "vat"), await failing.aselect(TOOLS, "vat")):
            assert result.ind == 1
            assert isinstance(result, ArchRouterSelectorResult)
            assert result.decision.reason == "error"
            assert "out of order" in result.reason

    async def test_an_engine_error_can_be_raised(self) -> None:
        failing = selector(1, model=FailingEngine(), on_error="raise")
        with pytest.raises(EngineError, match="out of order"):
            failing.select(TOOLS, "vat")
        with pytest.raises(EngineError, match="out of order"):
            await failing.aselect(TOOLS, "vat")

    def test_takes_the_turn_when_an_engine_breaks_its_own_contract(self) -> None:
        class Silent(Engine):
            name = "silent"

            def score(self, routes: Sequence[Policy], conversations: Sequence[Conversation]) -> list[Scores]:
                return []

        result = selector(1, model=Silent()).select(TOOLS, "vat")
        assert result.ind == 1

    @pytest.mark.parametrize("query", ["", "  "])
    def test_takes_an_empty_query(self, query: str) -> None:
        earlier = [{"role": "user", "content": "flight"}]
        result = selector(0, history=earlier).select(TOOLS, query)
        assert isinstance(result, ArchRouterSelectorResult)
        assert (result.ind, result.decision.reason) == (0, "error")

    def test_takes_a_domain_that_has_no_choice(self) -> None:
        engine = KeywordEngine({"money": ["coin"]})
        policies = [Domain("money", "Money", [Policy("tax", "Tax")])]
        assert selector(1, model=engine, policies=policies).select(TOOLS, "a coin").ind == 1

    def test_minus_one_is_refused_at_once(self) -> None:
        with pytest.raises(SettingError, match="-1"):
            selector(-1)

    def test_out_of_range_is_a_clear_error(self) -> None:
        with pytest.raises(SettingError, match="default=2 is none of the 2 choices"):
            selector(2).select(TOOLS, "vat")

    def test_no_choices_is_a_clear_error(self) -> None:
        with pytest.raises(PolicyError, match="no choices"):
            selector().select([], "vat")


class TestMulti:
    def test_selects_every_choice_that_is_likely_enough(self) -> None:
        assert selector(multi=True).select(FRUIT, "peach, peach, apple and pear").inds == [2, 0, 1]

    def test_is_capped(self) -> None:
        assert selector(multi=True, multi_limit=2).select(FRUIT, "peach, peach, apple and pear").inds == [2, 0]

    def test_leaves_out_what_is_not_likely_enough(self) -> None:
        result = selector(multi=True, multi_threshold=0.3).select(FRUIT, "peach, peach, apple and pear")
        assert result.inds == [2]

    def test_takes_the_default_alone_if_none_fits(self) -> None:
        assert selector(1, multi=True, multi_threshold=0.0).select(FRUIT, "bread").inds == [1]

    def test_selects_a_choice_once_though_several_of_its_actions_fit(self) -> None:
        engine = KeywordEngine({"flights": ["flight"], "hotels": ["room"]})
        policies = [Domain("travel", "Journeys", [Policy("flights", "Flights"), Policy("hotels", "Hotels")])]
        result = selector(model=engine, multi=True, policies=policies).select(TOOLS, "flight and room")
        assert result.inds == [1]


@pytest.mark.parametrize(
    "arguments",
    [
        {"multi_threshold": 1.5},
        {"multi_limit": 0},
        {"min_confidence": 2.0},
        {"min_margin": 2.0},
        {"window": "some"},
        {"on_error": "ignore"},
        {"model": 7},
    ],
)
def test_impossible_arguments_are_refused_at_once(arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        selector(**arguments)


def test_has_no_prompts_to_change() -> None:
    bare = selector()
    assert bare.get_prompts() == {}
    bare.update_prompts({})


def test_policies_are_embedded_once_for_a_set_of_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    from archroute.engines.embedded import EmbeddedEngine

    engine = EmbeddedEngine()
    read: list[str] = []
    original = engine._reader.policy
    monkeypatch.setattr(engine._reader, "policy", lambda policy: read.append(policy.name) or original(policy))
    embedded = selector(model=engine)
    for query in ("When is VAT due?", "Which flights go to Lisbon on Friday?"):
        embedded.select(TOOLS, query)
    assert read == ["tax", "travel"]


def test_choices_are_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Sequence[ToolMetadata]] = []
    original = ChoiceSet.of
    monkeypatch.setattr(
        ChoiceSet, "of", lambda choices, *rest, **named: prepared.append(choices) or original(choices, *rest, **named)
    )
    monkeypatch.setattr("llamaindex_archroute.selector._CHOICE_SETS", 2)
    bare, changed = selector(), [TOOLS[0], ToolMetadata("Journeys", name="travel")]
    for choices in (TOOLS, TOOLS, changed, TOOLS, [ToolMetadata("Tax law", name="tax")], TOOLS, changed):
        bare.select(choices, "vat")
    # The third set drops the one that was not used for longest, which comes back last.
    assert [len(choices) for choices in prepared] == [2, 2, 1, 2]
    assert prepared[-1][1].description == "Journeys"


def test_the_embedded_model_selects() -> None:
    embedded = selector(model="embedded")
    assert embedded.select(TOOLS, "Which flights go to Lisbon on Friday?").ind == 1
    assert embedded.select(["Tax law and returns", "Planning trips"], "How do I file my tax return?").ind == 0
