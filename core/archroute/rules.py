"""From probabilities to a route: the rules that a decision fires, in the order in which they are asked."""

from __future__ import annotations

import math
from collections.abc import Mapping

from archroute.decision import Reason
from archroute.policy import OTHER, Domain, PolicySet


def choose(
    probabilities: Mapping[str, float], policies: PolicySet, *, min_confidence: float = 0.0, min_margin: float = 0.0
) -> tuple[str, Reason]:
    """The route for these probabilities, and the rule that chose it.

    The likeliest answer stands if it is sure enough: its probability at least `min_confidence` (a route's own, if it has one), and at
    least `min_margin` ahead of the next. Otherwise the likeliest domain serves, if the sum over it and its actions is as sure against
    all that is outside of it. Otherwise the route is `other`.

    Args:
        probabilities: Of every route and of `other`.
        policies: What the routes are.
        min_confidence: A probability.
        min_margin: A difference of two.
    """

    def sure(name: str, probability: float, next_best: float) -> bool:
        own = policies.serving[name].min_confidence if name in policies.serving else None
        return probability >= (min_confidence if own is None else own) and probability - next_best >= min_margin

    best = max(probabilities, key=lambda name: probabilities[name])
    next_best = max(probability for name, probability in probabilities.items() if name != best)
    if sure(best, probabilities[best], next_best):
        return best, "other" if best == OTHER else "matched"
    summed = {
        policy.name: _inside_and_outside(policy, probabilities)
        for policy in policies.policies
        if isinstance(policy, Domain)
    }
    for name, (inside, outside) in sorted(summed.items(), key=lambda item: -item[1][0]):
        if inside > outside and sure(name, inside, outside):
            return name, "domain"
    if best == OTHER:
        return OTHER, "other"
    return OTHER, "low_margin" if sure(best, probabilities[best], -1.0) else "low_confidence"


def _inside_and_outside(domain: Domain, probabilities: Mapping[str, float]) -> tuple[float, float]:
    """The summed probability of a domain and its actions, and the largest of all other answers."""
    inside = {domain.name, *(action.name for action in domain.actions)}
    return (
        math.fsum(probabilities[name] for name in inside),  # the same in whatever order a set gives them
        max(probability for name, probability in probabilities.items() if name not in inside),
    )
