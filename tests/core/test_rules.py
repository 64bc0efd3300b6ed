"""The rules from probabilities to a route."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute import OTHER, Domain, Policy, PolicySet
from archroute.rules import choose
from archroute.serving import Serving

TRAVEL = Domain("travel", "Trips", [Policy("flights", "Booking flights"), Policy("hotels", "Booking hotels")])
CODE = Domain("code", "Programming", [Policy("bugs", "Fixing errors"), Policy("tests", "Writing tests")])
POLICIES = PolicySet([Policy("tax", "Tax law"), TRAVEL, CODE])


def given_to(**given: float) -> dict[str, float]:
    """The probabilities of all answers: what is not given is 0."""
    return {name: given.get(name, 0.0) for name in (*(route.name for route in POLICIES), OTHER)}


def with_own(**thresholds: float) -> PolicySet:
    serving = {name: Serving(min_confidence=threshold) for name, threshold in thresholds.items()}
    return PolicySet(POLICIES.policies, serving=serving)


@pytest.mark.parametrize(
    ("best", "reason"), [("tax", "matched"), ("flights", "matched"), ("travel", "matched"), (OTHER, "other")]
)
def test_the_likeliest_answer_stands(best: str, reason: str):
    assert choose(given_to(**{best: 0.6, "hotels": 0.4}), POLICIES) == (best, reason)


@pytest.mark.parametrize(
    ("threshold", "told"),
    [(0.6, ("tax", "matched")), (0.61, (OTHER, "low_confidence")), (1.0, (OTHER, "low_confidence"))],
)
def test_a_threshold_is_reached_by_what_equals_it(threshold: float, told: tuple[str, str]):
    assert choose(given_to(tax=0.6, other=0.4), POLICIES, min_confidence=threshold) == told


@pytest.mark.parametrize(("margin", "told"), [(0.25, ("tax", "matched")), (0.26, (OTHER, "low_margin"))])
def test_a_margin_is_the_distance_to_the_next(margin: float, told: tuple[str, str]):
    assert choose(given_to(tax=0.5, bugs=0.25, other=0.25), POLICIES, min_margin=margin) == told


def test_of_both_the_threshold_is_told():
    assert choose(given_to(tax=0.5, other=0.5), POLICIES, min_confidence=0.6, min_margin=0.1) == (
        OTHER,
        "low_confidence",
    )


def test_a_domain_serves_when_none_of_its_actions_is_sure():
    probabilities = given_to(flights=0.3, hotels=0.25, travel=0.2, other=0.25)
    assert choose(probabilities, POLICIES, min_confidence=0.7) == ("travel", "domain")
    assert choose(probabilities, POLICIES, min_confidence=0.8) == (OTHER, "low_confidence")


def test_a_domain_serves_when_none_of_its_actions_is_far_enough_ahead():
    probabilities = given_to(flights=0.4, hotels=0.35, other=0.25)
    assert choose(probabilities, POLICIES, min_margin=0.4) == ("travel", "domain")
    assert choose(probabilities, POLICIES, min_margin=0.55) == (OTHER, "low_margin")


def test_a_domain_serves_before_an_unsure_other():
    probabilities = given_to(flights=0.3, hotels=0.3, other=0.4)
    assert choose(probabilities, POLICIES) == (OTHER, "other")
    assert choose(probabilities, POLICIES, min_confidence=0.5) == ("travel", "domain")
    assert choose(probabilities, POLICIES, min_confidence=0.7) == (OTHER, "other")


def test_of_two_domains_the_likelier_serves():
    probabilities = given_to(flights=0.3, bugs=0.25, tests=0.25, other=0.2)
    assert choose(probabilities, POLICIES, min_confidence=0.4) == ("code", "domain")


def test_no_domain_serves_below_an_answer_outside_of_it():
    probabilities = given_to(tax=0.5, flights=0.2, hotels=0.2, other=0.1)
    assert choose(probabilities, with_own(tax=0.9)) == (OTHER, "low_confidence")


@pytest.mark.parametrize(
    ("own", "told"), [(0.5, ("tax", "matched")), (0.6, (OTHER, "low_confidence")), (0.0, ("tax", "matched"))]
)
def test_the_threshold_of_a_route_stands_before_the_common_one(own: float, told: tuple[str, str]):
    probabilities = given_to(tax=0.5, other=0.5)
    assert choose(probabilities, with_own(tax=own), min_confidence=0.55) == told


def test_a_domain_has_the_threshold_of_its_own_route():
    probabilities = given_to(flights=0.4, hotels=0.4, other=0.2)
    assert choose(probabilities, with_own(travel=0.9), min_confidence=0.5) == (OTHER, "low_confidence")
    assert choose(probabilities, with_own(flights=0.9, travel=0.5), min_confidence=0.9) == ("travel", "domain")


def test_a_serving_without_a_threshold_leaves_the_common_one():
    policies = PolicySet(POLICIES.policies, serving={"tax": Serving(timeout=1)})
    assert choose(given_to(tax=0.5, other=0.5), policies, min_confidence=0.6) == (OTHER, "low_confidence")


WEIGHTS = st.lists(st.integers(0, 1000), min_size=8, max_size=8).filter(any)
THRESHOLD = st.floats(0, 1)
NAMES = [*(route.name for route in POLICIES), OTHER]


def normalised(weights: list[int]) -> dict[str, float]:
    return {name: weight / sum(weights) for name, weight in zip(NAMES, weights, strict=True)}


def summed(domain: str, probabilities: dict[str, float]) -> float:
    found = POLICIES.domain_of(domain)
    assert found is not None
    return sum(probabilities[name] for name in (domain, *(action.name for action in found.actions)))


@given(WEIGHTS)
def test_without_thresholds_the_likeliest_stands(weights: list[int]):
    probabilities = normalised(weights)
    route, reason = choose(probabilities, POLICIES)
    assert probabilities[route] == max(probabilities.values())
    assert reason == ("other" if route == OTHER else "matched")


@given(WEIGHTS, THRESHOLD, THRESHOLD, st.dictionaries(st.sampled_from(NAMES[:-1]), THRESHOLD))
def test_no_route_serves_below_its_thresholds(
    weights: list[int], min_confidence: float, min_margin: float, own: dict[str, float]
):
    probabilities = normalised(weights)
    route, reason = choose(probabilities, with_own(**own), min_confidence=min_confidence, min_margin=min_margin)
    others = [probability for name, probability in probabilities.items() if name != route]
    if reason == "matched":
        assert probabilities[route] >= own.get(route, min_confidence)
        assert probabilities[route] - max(others) >= min_margin
    elif reason == "domain":
        likelihood = summed(route, probabilities)
        assert likelihood >= own.get(route, min_confidence) - 1e-9
        assert likelihood > probabilities[OTHER]
    else:
        assert route == OTHER
        assert max(others) >= probabilities[OTHER] or reason == "other"


@given(WEIGHTS, THRESHOLD, THRESHOLD)
def test_stricter_thresholds_choose_no_other_policy(weights: list[int], min_confidence: float, min_margin: float):
    probabilities = normalised(weights)
    likeliest, _ = choose(probabilities, POLICIES)
    route, reason = choose(probabilities, POLICIES, min_confidence=min_confidence, min_margin=min_margin)
    assert route in (likeliest, OTHER) or reason == "domain"
