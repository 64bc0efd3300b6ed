"""A LangChain chain whose model is a router: prompt | router | parser. Runs offline.

    python examples/lcel_chain.py

The chat models stand for real ones, such as `init_chat_model("openai:gpt-5-mini")`. Leave out `model="embedded"` once
`archroute pull` has installed Arch-Router.
"""

from __future__ import annotations

from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from langchain_archroute import Route, RunnableRouter

QUESTIONS = [
    "Which flights go to Lisbon on Friday?",
    "Can I deduct my home office from my income tax?",
    "Who won the chess championship of 1972?",
]


def main() -> None:
    """Send three questions through the chain, one with its tokens as they come, and print who answered."""
    router = RunnableRouter(
        routes=[
            Route("tax", "Tax law, tax returns and deductions", target=FakeListChatModel(responses=["the tax model"])),
            Route(
                "travel", "Planning trips, flights and hotels", target=FakeListChatModel(responses=["the travel model"])
            ),
        ],
        default=FakeListChatModel(responses=["the general model"]),
        model="embedded",
    )
    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("human", "{question}")])
    chain = prompt | router | StrOutputParser()

    answers = chain.batch([{"question": question} for question in QUESTIONS])
    for question, answer in zip(QUESTIONS, answers, strict=True):
        print(f"{question}\n  → {answer}")
        decision = router.decider.invoke(question)
        for name, probability in decision.probabilities.items():
            print(f"    {name:7} {probability:6.1%} {'█' * round(20 * probability)}")

    print(f"streamed: {'|'.join(chain.stream({'question': QUESTIONS[0]}))}")


if __name__ == "__main__":
    main()
