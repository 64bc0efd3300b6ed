"""What a router answers: the route, how sure it is, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict

from archroute.policy import Policy

Reason = Literal["matched", "domain", "sticky", "other", "low_confidence", "low_margin", "error"]
"""The rule that a decision fired: a policy fits; no action is sure, but their domain is; the session stays where it was; no policy
fits; the likeliest answer is not sure enough, or not far enough ahead; routing failed."""

Outcome = Literal["served", "failed", "timed_out", "passed_over", "left"]
"""What became of a target's attempt: it answered; it raised; it took too long; it was not asked; the caller left before its end."""


class FrozenDict(dict[str, float]):
    """A dict that can't be changed; JSON, pickle and copy take it as a dict."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a decision can't be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, float]]]:
        return FrozenDict, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


class Attempt(BaseModel):
    """One target that was to serve a turn.

    Attributes:
        target: Its name.
        outcome: What became of it.
        cause: Why it did not serve: the kind of the error, never its text, which may hold a key; or why it was passed over.
        latency_ms: How long it took, in milliseconds; of a stream, to its first piece.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    outcome: Outcome
    cause: str | None = None
    latency_ms: float = 0.0


class Decision(BaseModel):
    """One routing decision. Immutable; `model_dump_json()` writes it.

    Attributes:
        route: The chosen policy's name, or `other`.
        policy: The chosen policy; None for `other`.
        probabilities: Every route's and `other`'s probability, in the policies' order, `other` last; they sum to 1. Empty if
            routing failed.
        confidence: The probability of the likeliest answer.
        margin: How far the likeliest answer is ahead of the next, in probability.
        coverage: The probability the model gave to all valid answers together before `probabilities` were normalised. Low: the
            model wanted to say something else. 1 for engines that can't say anything else.
        reason: The rule that fired; see `Reason`.
        model: The name of the model that decided.
        latency_ms: Time the decision took, in milliseconds; within a batch, the batch's time.
        prompt_tokens: Tokens of the prompt, in the model's own tokenizer; 0 if it was never rendered.
        truncated: Whether parts of the conversation were left out to fit the model's context.
        error: What failed, if the reason is `error`.
        target: The name of the target that served the turn; None before one has.
        attempts: All targets that were to serve it, in order, the one that did last.
    """

    model_config = ConfigDict(frozen=True, protected_namespaces=())

    route: str
    policy: Policy | None
    probabilities: Annotated[Mapping[str, float], AfterValidator(FrozenDict)]
    confidence: float
    margin: float
    coverage: float
    reason: Reason
    model: str
    latency_ms: float
    prompt_tokens: int
    truncated: bool
    error: str | None = None
    target: str | None = None
    attempts: tuple[Attempt, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The decision in plain JSON types."""
        return self.model_dump(mode="json")
