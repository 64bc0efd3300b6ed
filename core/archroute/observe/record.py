"""What is told of a turn once it is over."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from archroute.decision import Decision, Outcome


class Usage(BaseModel):
    """Tokens that a target read and wrote, as it says itself."""

    model_config = ConfigDict(frozen=True)

    input_tokens: int = 0
    output_tokens: int = 0

    def added(self, other: Usage | None) -> Usage:
        """Of two pieces of one answer, where each tells what it alone took."""
        if other is None:
            return self
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens, output_tokens=self.output_tokens + other.output_tokens
        )

    def joined(self, other: Usage | None) -> Usage:
        """Of two pieces of one answer: providers tell a number once, or ever growing."""
        if other is None:
            return self
        return Usage(
            input_tokens=max(self.input_tokens, other.input_tokens),
            output_tokens=max(self.output_tokens, other.output_tokens),
        )


class Counterfactual(BaseModel):
    """What another target would have taken for the same turn, as far as can be said when the turn is over.

    Attributes:
        target: Its name.
        role: The other arm of the split, or a shadow.
        latency_ms: Its mean so far on this route, in milliseconds; None if it has not served here yet.
        cost: What the turn's tokens would have cost there; None where tokens or prices are not known.
    """

    model_config = ConfigDict(frozen=True)

    target: str
    role: Literal["arm", "shadow"]
    latency_ms: float | None
    cost: float | None


class TurnRecord(BaseModel):
    """One turn. `model_dump_json()` is its line in a JSONL file.

    Attributes:
        id: Of the turn; shadows' records have it too.
        started: Seconds since the epoch, when the decision began.
        session: The session's key, if there is one.
        route: The route that served.
        rule: The rule that chose it, `Decision.reason`; `tool_loop` if the turn's earlier decision was kept.
        target: The name of the target that served; None if none did.
        outcome: How the turn ended: `served`, `failed` or `left`.
        cause: The kind of the error it ended in.
        decision: The decision, with all attempts.
        latency_ms: From the decision's begin to the answer's end, in milliseconds.
        usage: Tokens, as far as the target tells them.
        cost: What they cost, if the target's prices are known.
        counterfactual: What others would have taken and cost.
        text: The user's turn, if records were asked to hold it.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["turn"] = "turn"
    id: str
    started: float
    session: str | None
    route: str
    rule: str
    target: str | None
    outcome: Outcome
    cause: str | None
    decision: Decision
    latency_ms: float
    usage: Usage | None
    cost: float | None
    counterfactual: tuple[Counterfactual, ...]
    text: str | None


class ShadowRecord(BaseModel):
    """What became of a target that was asked beside the one that served.

    Attributes:
        turn: The id of the turn.
        started: Seconds since the epoch.
        route: The turn's route.
        target: The shadow's name.
        outcome: `served`, `failed`, `timed_out`, or `passed_over` if too many shadows were under way.
        cause: The kind of its error.
        latency_ms: How long its whole answer took, in milliseconds.
        usage: Tokens, as far as it tells them.
        cost: What they cost, if its prices are known.
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["shadow"] = "shadow"
    turn: str
    started: float
    route: str
    target: str
    outcome: Outcome
    cause: str | None
    latency_ms: float
    usage: Usage | None
    cost: float | None


class Observer:
    """Is told of turns. What it raises is logged and goes no further; it should be quick, for turns wait for it."""

    def turn_began(self) -> Any:
        """Called when a turn is decided; what it returns comes back with the turn's record."""

    def turn_ended(self, record: TurnRecord, began: Any) -> None:
        """Called when the answer, or the stream of it, is over."""

    def shadow_ended(self, record: ShadowRecord) -> None:
        """Called when a shadow has answered or failed."""
