"""Arch-Router as a decision model of LangChain, which answers typed questions; langchain-core 1.8 has the protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.decisions import (
    BaseDecisionModel,
    Choice,
    ChoiceAnswer,
    ClassifierResponse,
    Noul,
    NoulAnswer,
    Question,
    State,
)
from langchain_core.messages import BaseMessage
from pydantic import ConfigDict, Field, SkipValidation, model_validator

from archroute.conversation import Conversation, History, check_history
from archroute.engines.base import Engine, Scores
from archroute.errors import SettingError
from archroute.models import load_engine
from archroute.policy import OTHER, Policy
from langchain_archroute.arguments import check_arguments
from langchain_archroute.reading import is_message, read_conversation

_NONE_FITS = (OTHER, "none_of_the_above")  # labels that say what the model's own answer `other` says
_YES, _NO = "yes", "no"


class ArchRouterDecisionModel(BaseDecisionModel):
    """Answers `Choice` questions about a conversation: the labels are the policies, with exact probabilities for all of them.

    A label `other` or `none_of_the_above` gets the model's own probability that nothing fits; without such a label the
    probabilities are those of the labels among themselves. `confidence` is the chosen label's probability. `instructions` are
    not read: the model knows one task, which is to choose the description that fits the latest turn.

    A `Noul` whose yes and no are both described is answered as a choice between them. Others, and `Score` and `Box`, are refused:
    the model tells what fits, and can neither judge an instruction nor grade.

    Example:
        >>> from langchain_core.decisions import Choice
        >>> model = ArchRouterDecisionModel(model="embedded")
        >>> question = Choice(instructions="Which team?", criteria={"tax": "Tax law and returns", "travel": "Planning trips"})
        >>> asked = {"state": "Which flights go to Lisbon on Friday?", "questions": {"team": question}}
        >>> model.invoke(asked).choices["team"].choice
        'travel'

    Args:
        model: `"embedded"`, a model hub id, a local directory, or an engine; see `archroute.Router`.
        history: How much of the conversation in the state is read: `"all"`, `"last_user"`, or the last n user turns.

    Raises:
        SettingError: An argument is not valid.
        ModelError: The model can't be loaded.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, hide_input_in_errors=True, protected_namespaces=())

    engine: SkipValidation[Engine] = Field(exclude=True, repr=False)
    history: SkipValidation[History] = "all"

    @model_validator(mode="before")
    @classmethod
    def _load(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        engine = values.get("engine") or load_engine(values.get("model"))
        check_history(values.get("history", "all"))
        return check_arguments(cls, {**values, "engine": engine, "model": engine.name})

    @property
    def _provider(self) -> str:
        return "archroute"

    def _classify(self, state: State, questions: dict[str, Question]) -> ClassifierResponse:
        """Answer all questions about `state`; the engine gets them together.

        Raises:
            SettingError: A question is of a kind the model can't answer.
            ConversationError: The state holds no user message.
            EngineError: The model failed.
        """
        conversation = _conversation(state).window(self.history)
        asked = {name: _Asked(name, question) for name, question in questions.items()}
        told = [(each.policies, conversation) for each in asked.values() if each.policies]
        scores = iter(self.engine.score_each(told))
        answers, tokens = {}, 0
        for name, each in asked.items():
            found = next(scores) if each.policies else Scores({OTHER: 1.0}, 1.0, 0, False)
            answers[name] = _answer(questions[name], each.shares(found.probabilities))
            tokens += found.prompt_tokens
        usage = {"input_tokens": tokens, "output_tokens": 0, "total_tokens": tokens}
        return ClassifierResponse.model_validate({"model": self.model, "answers": answers, "usage": usage})


class _Asked:
    """A question as policies.

    Attributes:
        labels: What it chooses between, in its order.
        none_fits: The label that says what the model's own answer `other` says, if there is one.
        policies: All other labels.
    """

    def __init__(self, name: str, question: Question) -> None:
        described = _labels(name, question)
        self.labels = tuple(described)
        self.none_fits = next((label for label in self.labels if label.lower() in _NONE_FITS), None)
        self.policies = [Policy(label, text) for label, text in described.items() if label != self.none_fits]

    def shares(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """The labels' probabilities among themselves."""
        found = {label: probabilities[OTHER if label == self.none_fits else label] for label in self.labels}
        total = sum(found.values())
        even = 1 / len(found)  # where the model is sure that nothing fits, no label is ahead of another
        return {label: value / total if total else even for label, value in found.items()}


def _labels(name: str, question: Question) -> dict[str, str]:
    """The labels a question chooses between, with their descriptions."""
    if isinstance(question, Choice):
        return {label: label if text is None else _text(text) for label, text in question.criteria.items()}
    if isinstance(question, Noul) and question.criteria is not None:
        described = {_YES: question.criteria.true, _NO: question.criteria.false}
        if all(text is not None for text in described.values()):
            return {label: _text(text) for label, text in described.items()}
    raise SettingError(
        f"question {name!r} is a {type(question).__name__} that a router can't answer",
        hint="ask a Choice, or a Noul whose criteria describe both true and false",
    )


def _answer(question: Question, probabilities: dict[str, float]) -> ChoiceAnswer | NoulAnswer:
    if isinstance(question, Noul):
        return NoulAnswer(type="noul", noul=min(1.0, probabilities[_YES]))
    best = max(probabilities, key=lambda label: probabilities[label])
    confidence = min(1.0, probabilities[best])  # a sum of shares may be a hair above 1
    return ChoiceAnswer(type="choice", choice=best, probabilities=probabilities, confidence=confidence)


def _conversation(state: State) -> Conversation:
    """The conversation in a state; of structured data without messages, its JSON as the user's message."""
    if isinstance(state, str | BaseMessage) or is_message(state):
        return read_conversation(state)
    if isinstance(state, Mapping) and ("messages" in state or "input" in state):
        return read_conversation(state)
    if isinstance(state, Sequence) and all(isinstance(part, str | tuple) or is_message(part) for part in state):
        return read_conversation(state)
    return read_conversation(_text(state))


def _text(content: Any) -> str:
    return content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
