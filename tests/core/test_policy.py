"""Policies, domains and sets of them."""

from __future__ import annotations

import pytest

from archroute import ArchRouteError, Domain, Policy, PolicyError, PolicySet


@pytest.mark.parametrize(
    ("name", "description", "told"),
    [
        ("", "x", "name is empty"),
        ("  ", "x", "name is empty"),
        ("a", "", "description of policy 'a' is empty"),
        ("other", "x", "reserved"),
        ("Other", "x", "reserved"),
        ("a\x00b", "x", "control characters"),
        ("a\nb", "x", "control characters"),
        ("a", "x\x07", "control characters"),
        (" a", "x", "white space"),
        (3, "x", "name is a int"),
    ],
)
def test_invalid_policies_are_refused_with_a_hint(name: str, description: str, told: str):
    with pytest.raises(PolicyError, match=told) as caught:
        Policy(name, description)
    assert isinstance(caught.value, ArchRouteError)
    assert caught.value.hint
    assert caught.value.hint in str(caught.value)


def test_descriptions_may_have_several_lines():
    assert Policy("a", "one\ntwo").description == "one\ntwo"


def test_order_is_kept_and_a_domain_follows_its_actions():
    coding = Domain("coding", "Programming", actions=[Policy("fix", "Fixing"), Policy("write", "Writing")])
    policies = PolicySet([Policy("z", "last letter"), coding, Policy("a", "first letter")])
    assert [route.name for route in policies] == ["z", "fix", "write", "coding", "a"]
    assert len(policies) == 5
    assert policies.domain_of("fix") is coding
    assert policies.domain_of("coding") is coding
    assert policies.domain_of("z") is None
    assert policies["coding"].description == "Programming"


def test_sets_refuse_what_is_not_valid_together():
    with pytest.raises(PolicyError, match="no policies"):
        PolicySet([])
    with pytest.raises(PolicyError, match="more than once: a"):
        PolicySet([Policy("a", "x"), Domain("d", "y", actions=[Policy("a", "z")])])
    with pytest.raises(PolicyError, match="unknown routes: b"):
        PolicySet([Policy("a", "x")], models={"b": ["gpt"]})
    with pytest.raises(PolicyError, match="dict is no policy"):
        PolicySet([{"name": "a", "description": "x"}])  # type: ignore[list-item]
    with pytest.raises(PolicyError, match="action"):
        Domain("d", "y", actions=["fix"])  # type: ignore[list-item]
    with pytest.raises(PolicyError, match="reserved"):
        Domain("other", "y")


def test_unknown_names_are_key_errors():
    with pytest.raises(KeyError):
        PolicySet([Policy("a", "x")])["b"]
