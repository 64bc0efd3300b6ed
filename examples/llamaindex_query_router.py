"""A LlamaIndex router query engine: each question goes to the index that its description fits. Runs offline.

    python examples/llamaindex_query_router.py

The selector decides with a model in process; no LLM is asked which index to take. With real models, give the indices your own
`embed_model` and `llm`, and leave out `model="embedded"` once `archroute pull` has installed Arch-Router.
"""

from __future__ import annotations

from llama_index.core import Document, MockEmbedding, SummaryIndex, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RouterQueryEngine
from llama_index.core.tools import QueryEngineTool

from llamaindex_archroute import ArchRouterSelector

TAX = ["VAT returns are due every quarter.", "Income tax returns are due by the end of July."]
TRAVEL = ["Flights to Lisbon leave on Friday at nine.", "The hotel in Lisbon has a pool on its roof."]
QUESTIONS = [
    "Which flights go to Lisbon on Friday?",
    "How do I file my income tax return?",
    "Who won the chess championship of 1972?",
]


def main() -> None:
    """Ask three questions and print which index answered each."""
    llm = MockLLM(max_tokens=1)
    tax = VectorStoreIndex.from_documents([Document(text=text) for text in TAX], embed_model=MockEmbedding(embed_dim=8))
    travel = SummaryIndex.from_documents([Document(text=text) for text in TRAVEL])
    router = RouterQueryEngine(
        selector=ArchRouterSelector(default="tax", model="embedded"),
        query_engine_tools=[
            QueryEngineTool.from_defaults(
                tax.as_query_engine(llm=llm), name="tax", description="Tax law, tax returns and deadlines"
            ),
            QueryEngineTool.from_defaults(
                travel.as_query_engine(llm=llm), name="travel", description="Planning trips, flights and hotels"
            ),
        ],
        llm=llm,
    )
    names = ["tax", "travel"]
    for question in QUESTIONS:
        response = router.query(question)
        result = response.metadata["selector_result"]
        print(f"{question}\n  → {names[result.ind]} ({result.reason})")
        for node in response.source_nodes:
            print(f"    {node.text}")
        for name, probability in result.decision.probabilities.items():
            print(f"    {name:7} {probability:6.1%} {'█' * round(20 * probability)}")


if __name__ == "__main__":
    main()
