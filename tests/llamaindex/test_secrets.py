"""Nothing that is printed, dumped, traced or pickled holds a target's key."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage

from archroute import SettingError
from llamaindex_archroute import ArchRouterLLM
from tests.engines import KeywordEngine
from tests.llamaindex.recording import Events, Spans
from tests.llamaindex.targets import SECRET, WORDS, Answer, Target, routed


@pytest.mark.parametrize(
    "shown",
    [
        repr,
        str,
        lambda llm: repr(vars(llm)),
        lambda llm: json.dumps(llm.model_dump(mode="json")),
        lambda llm: json.dumps(llm.to_dict()),
        lambda llm: json.dumps(llm.to_payload()),
        lambda llm: json.dumps(ArchRouterLLM.model_json_schema()),
        lambda llm: repr(llm.as_structured_llm(Answer)),
        lambda llm: repr(llm.as_structured_llm(Answer).model_dump()),
        lambda llm: str(pickle.dumps(llm)),
        lambda llm: str(pickle.dumps(llm.as_structured_llm(Answer))),
        lambda llm: repr(llm._now()) + repr(llm._now().table),
        lambda llm: repr(llm.stats()),
        lambda llm: repr(llm.chat([ChatMessage("VAT")])),
        lambda llm: repr(llm._prepare_chat_with_tools([], "VAT")),
    ],
)
def test_no_form_of_the_router_shows_a_targets_key(shown: Callable[[ArchRouterLLM], str]) -> None:
    assert SECRET in repr(Target("bare"))
    assert SECRET not in shown(routed())


def test_no_event_or_span_shows_a_targets_key(events: Events, spans: Spans) -> None:
    routed().chat([ChatMessage("VAT")])
    routed().structured_predict(Answer, *_prompt())
    assert events.events
    assert SECRET not in json.dumps([event.model_dump(mode="json") for event in events.decision_events()])
    assert SECRET not in repr(spans.completed_spans)


def _prompt() -> tuple[Any]:
    from llama_index.core.prompts import PromptTemplate

    return (PromptTemplate("VAT"),)


class TestPickle:
    def test_keeps_policies_and_settings(self) -> None:
        llm = routed(min_confidence=0.25, history=3)
        copied = pickle.loads(pickle.dumps(llm))
        assert copied.policies == llm.policies
        router = copied._now().router
        assert (router.min_confidence, router.history) == (0.25, 3)

    def test_wants_its_targets_bound_again(self) -> None:
        copied = pickle.loads(pickle.dumps(routed()))
        with pytest.raises(SettingError, match="no targets"):
            copied.chat([ChatMessage("VAT")])
        bound = copied.bind({"tax": Target("new-llm")}, default=Target("default-llm"))
        assert bound.chat([ChatMessage("VAT")]).message.content == "answer of new-llm"
        assert bound.chat([ChatMessage("a flight")]).message.content == "answer of default-llm"


def test_bind_refuses_routes_that_do_not_exist() -> None:
    with pytest.raises(SettingError, match="no route taxes"):
        routed().bind({"taxes": Target("a")}, default=Target("b"))


def test_copies_share_the_targets() -> None:
    engine = KeywordEngine(WORDS)
    llm = routed(model=engine)
    for copied in (copy.copy(llm), copy.deepcopy(llm), llm.model_copy()):
        assert copied.chat([ChatMessage("VAT")]).message.content == "answer of tax-llm"
    assert len(engine.calls) == 3
