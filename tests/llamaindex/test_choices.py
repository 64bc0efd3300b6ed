"""Tools become policies: named validly and uniquely, described by their own words or the user's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.tools.types import ToolMetadata

from archroute import Domain, Policy, PolicyError, PolicySet, SettingError
from llamaindex_archroute.choices import ChoiceSet, unique_names

TAX = ToolMetadata("Tax law and returns", name="tax")
TRAVEL = ToolMetadata("Planning trips", name="travel")


def test_a_choice_is_a_policy_of_its_name_and_description() -> None:
    choices = ChoiceSet.of([TAX, TRAVEL], 0)
    assert choices.policies.routes == (Policy("tax", "Tax law and returns"), Policy("travel", "Planning trips"))
    assert choices.indices == {"tax": 0, "travel": 1}


def test_missing_and_repeated_names_are_made_unique() -> None:
    assert unique_names([None, "tool", "tool", "tool_2", "", "choice_1"]) == [
        "choice_1_2",
        "tool",
        "tool_3",
        "tool_2",
        "choice_5",
        "choice_1",
    ]


@given(st.lists(st.one_of(st.none(), st.text(max_size=4), st.sampled_from(["other", "Other ", "a", "a_2"]))))
def test_any_names_make_valid_policies(names: list[str | None]) -> None:
    unique = unique_names(names)
    assert len(unique) == len(names)
    if unique:
        PolicySet(Policy(name, "text") for name in unique)


@given(st.text(max_size=8), st.one_of(st.none(), st.text(max_size=4)))
def test_any_description_makes_a_valid_policy(description: str, name: str | None) -> None:
    assert len(ChoiceSet.of([ToolMetadata(description, name=name)], 0).policies) == 1


def test_a_choice_without_a_description_is_described_by_its_name() -> None:
    assert ChoiceSet.of([ToolMetadata("", name="tax_law")], 0).policies["tax_law"].description == "tax law"


def test_no_choices_is_an_error() -> None:
    with pytest.raises(PolicyError, match="no choices"):
        ChoiceSet.of([], 0)


@pytest.mark.parametrize("default", [-1, 2, "taxes"])
def test_a_default_that_is_no_choice_is_an_error(default: int | str) -> None:
    with pytest.raises(SettingError, match="none of the 2 choices"):
        ChoiceSet.of([TAX, TRAVEL], default)


def test_the_default_may_be_named() -> None:
    assert ChoiceSet.of([TAX, TRAVEL], "travel").default == 1


def test_the_default_may_be_kept_out_of_the_decision() -> None:
    choices = ChoiceSet.of([TAX, TRAVEL], "travel", default_is_choice=False)
    assert [route.name for route in choices.policies] == ["tax"]


class TestTheUsersPolicies:
    def test_take_the_place_of_descriptions(self) -> None:
        choices = ChoiceSet.of([TAX, TRAVEL], 0, PolicySet([Policy("travel", "Journeys")]))
        assert choices.policies.routes == (Policy("travel", "Journeys"), Policy("tax", "Tax law and returns"))
        assert choices.indices == {"travel": 1, "tax": 0}

    def test_enrich_descriptions(self) -> None:
        choices = ChoiceSet.of([TRAVEL], 0, PolicySet([Policy("travel", "Journeys")]), enrich=True)
        assert choices.policies["travel"].description == "Journeys\nPlanning trips"

    def test_must_name_a_choice(self) -> None:
        with pytest.raises(PolicyError, match="'trvael' names no choice"):
            ChoiceSet.of([TRAVEL], 0, PolicySet([Policy("trvael", "Journeys")]))

    def test_actions_go_to_their_own_choice_or_their_domains(self) -> None:
        domain = Domain("travel", "Journeys", [Policy("flights", "Flights"), Policy("tax", "Tourist tax")])
        choices = ChoiceSet.of([TAX, TRAVEL], 0, PolicySet([domain]))
        assert choices.indices == {"flights": 1, "tax": 0, "travel": 1}

    def test_a_domain_without_a_choice_is_left_to_the_default(self) -> None:
        choices = ChoiceSet.of([TAX], 0, PolicySet([Domain("money", "Money", [Policy("tax", "Tax")])]))
        assert choices.indices == {"tax": 0}
        assert [route.name for route in choices.policies] == ["tax", "money"]
