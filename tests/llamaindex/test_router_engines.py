"""The selector in LlamaIndex's own routers, over real indices."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.indices.base import BaseIndex
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.response_synthesizers import TreeSummarize
from llama_index.core.retrievers import RouterRetriever
from llama_index.core.tools import QueryEngineTool, RetrieverTool

from llamaindex_archroute import ArchRouterSelector, ArchRouterSelectorResult
from tests.engines import FailingEngine, KeywordEngine
from tests.llamaindex.recording import Events

WORDS = {"tax": ["vat"], "travel": ["flight"]}
NOTES = {
    "tax": ("Tax law and tax returns", ["VAT is due every quarter.", "Income tax returns are due in July."]),
    "travel": ("Planning trips, flights and hotels", ["Flights to Lisbon leave on Friday.", "The hotel has a pool."]),
}


@pytest.fixture(scope="module")
def indices() -> dict[str, BaseIndex[Any]]:
    documents = {name: [Document(text=text) for text in texts] for name, (_, texts) in NOTES.items()}
    return {
        "tax": VectorStoreIndex.from_documents(documents["tax"], embed_model=MockEmbedding(embed_dim=8)),
        "travel": SummaryIndex.from_documents(documents["travel"]),
    }


def router(
    indices: dict[str, BaseIndex[Any]], selector: ArchRouterSelector, asked: MockLLM | None = None
) -> RouterQueryEngine:
    llm = MockLLM()
    return RouterQueryEngine(
        selector=selector,
        query_engine_tools=[
            QueryEngineTool.from_defaults(index.as_query_engine(llm=llm), name=name, description=NOTES[name][0])
            for name, index in indices.items()
        ],
        llm=asked or llm,
        summarizer=TreeSummarize(llm=llm),
    )


def sources(response: Any) -> set[str]:
    return {node.text for node in response.source_nodes}


async def test_the_embedded_model_routes_real_indices_right(indices: dict[str, BaseIndex[Any]]) -> None:
    engine = router(indices, ArchRouterSelector(default=0, model="embedded"))
    for query, name in (
        ("Which flights go to Lisbon on Friday?", "travel"),
        ("How do I file my tax return?", "tax"),
    ):
        for response in (engine.query(query), await engine.aquery(query)):
            assert sources(response) == set(NOTES[name][1])
            result = (response.metadata or {})["selector_result"]
            assert isinstance(result, ArchRouterSelectorResult)
            assert result.decision.route == name
            assert result.decision.reason == "matched"


async def test_several_engines_answer_together(indices: dict[str, BaseIndex[Any]]) -> None:
    engine = router(indices, ArchRouterSelector(model=KeywordEngine(WORDS), multi=True))
    for response in (engine.query("VAT on a flight"), await engine.aquery("VAT on a flight")):
        assert sources(response) == {text for _, texts in NOTES.values() for text in texts}


def test_a_failing_router_still_answers(indices: dict[str, BaseIndex[Any]]) -> None:
    response = router(indices, ArchRouterSelector(default="travel", model=FailingEngine())).query("VAT")
    assert sources(response) == set(NOTES["travel"][1])
    assert (response.metadata or {})["selector_result"].decision.reason == "error"


def test_an_engine_that_fails_says_so_itself() -> None:
    class Broken(CustomQueryEngine):
        def custom_query(self, query_str: str) -> str:
            raise ConnectionError("the index is gone")

    tools = [QueryEngineTool.from_defaults(Broken(), name="tax", description="Tax law")]
    engine = RouterQueryEngine(ArchRouterSelector(model=KeywordEngine(WORDS)), tools, llm=MockLLM())
    with pytest.raises(ConnectionError, match="the index is gone"):
        engine.query("VAT")


async def test_retrievers(indices: dict[str, BaseIndex[Any]]) -> None:
    retriever = RouterRetriever(
        selector=ArchRouterSelector(model=KeywordEngine(WORDS)),
        retriever_tools=[
            RetrieverTool.from_defaults(index.as_retriever(), name=name, description=NOTES[name][0])
            for name, index in indices.items()
        ],
        llm=MockLLM(),
    )
    for nodes in (retriever.retrieve("a flight"), await retriever.aretrieve("a flight")):
        assert {node.text for node in nodes} == set(NOTES["travel"][1])


def test_several_retrievers(indices: dict[str, BaseIndex[Any]]) -> None:
    retriever = RouterRetriever(
        selector=ArchRouterSelector(model=KeywordEngine(WORDS), multi=True),
        retriever_tools=[
            RetrieverTool.from_defaults(index.as_retriever(), name=name, description=NOTES[name][0])
            for name, index in indices.items()
        ],
        llm=MockLLM(),
    )
    assert {node.text for node in retriever.retrieve("VAT on a flight")} == {
        text for _, texts in NOTES.values() for text in texts
    }


def test_a_follow_up_is_routed_by_the_memory(indices: dict[str, BaseIndex[Any]]) -> None:
    memory = ChatMemoryBuffer.from_defaults(chat_history=[ChatMessage("Which flight?")])
    engine = router(indices, ArchRouterSelector(model=KeywordEngine(WORDS), history=memory))
    assert sources(engine.query("And back?")) == set(NOTES["travel"][1])


def test_the_router_asks_no_llm_to_choose(indices: dict[str, BaseIndex[Any]]) -> None:
    class Forbidden(MockLLM):
        def complete(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("the LLM was asked")

    engine = router(indices, ArchRouterSelector(model=KeywordEngine(WORDS)), asked=Forbidden())
    assert sources(engine.query("a flight")) == set(NOTES["travel"][1])


async def test_one_event_a_decision_inside_the_selectors_span(
    indices: dict[str, BaseIndex[Any]], events: Events
) -> None:
    engine = router(indices, ArchRouterSelector(model=KeywordEngine(WORDS)))
    engine.query("VAT")
    await engine.aquery("a flight")
    assert [decision.route for decision in events.decisions()] == ["tax", "travel"]
    assert [event.span_id.split("-")[0] for event in events.decision_events() if event.span_id] == [
        "ArchRouterSelector._select",
        "ArchRouterSelector._aselect",
    ]
    assert events.decision_events()[0].model_dump(mode="json")["class_name"] == "ArchRouterDecisionEvent"
