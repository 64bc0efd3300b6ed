"""Routing in agents and graphs: a `create_agent` agent with middleware, and a LangGraph graph with conditional edges. Runs offline.

    python examples/langgraph_agent.py

The chat models stand for real ones, such as `init_chat_model("openai:gpt-5-mini")`. Leave out `model="embedded"` once
`archroute pull` has installed Arch-Router.
"""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph

from archroute import Policy, Router
from langchain_archroute import ArchRouterMiddleware, Decider, Route

FLIGHTS = "Which flights go to Lisbon on Friday?"
TAX = "Can I deduct my home office from my income tax?"


class Scripted(GenericFakeChatModel):
    """A chat model that says what it was told to, and takes tools as real ones do."""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        """Itself: what it says is fixed."""
        return self


def says(*messages: str | AIMessage) -> Scripted:
    """A model with these answers, in order."""
    return Scripted(messages=iter([AIMessage(text) if isinstance(text, str) else text for text in messages]))


@tool
def search_flights(destination: str) -> str:
    """Find flights to a destination."""
    return f"LX 2084 to {destination}, 09:10"


def agent() -> None:
    """The model of the fitting policy goes through the whole tool loop; the next turn may go to another."""
    call = AIMessage("", tool_calls=[{"name": "search_flights", "args": {"destination": "Lisbon"}, "id": "1"}])
    routes = [
        Route("tax", "Tax law, tax returns and deductions", target=says("the tax model: yes, within limits")),
        Route(
            "travel",
            "Planning trips, flights and hotels",
            target=says(call, "the travel model: LX 2084 at 09:10"),
            tools=[search_flights],
            prompt="You plan trips.",
        ),
    ]
    router = ArchRouterMiddleware(routes=routes, model="embedded", history="last_user")
    routed = create_agent(says("the general model"), middleware=[router], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    for question in (FLIGHTS, TAX):
        state = routed.invoke({"messages": [("human", question)]}, thread)
        print(f"{question}\n  → {state['messages'][-1].text}  (route {state['archroute']['route']})")


def graph() -> None:
    """The decision alone leads to the node that serves it; a checkpointer keeps the conversation."""

    def desk(name: str) -> Any:
        def answer(state: MessagesState) -> dict[str, list[BaseMessage]]:
            turns = sum(message.type == "human" for message in state["messages"])
            return {"messages": [AIMessage(f"the {name} desk, turn {turns}")]}

        return answer

    policies = [
        Policy("tax", "Tax law, tax returns and deductions"),
        Policy("travel", "Planning trips, flights and hotels"),
    ]
    # A RunnableRouter has its own as `router.decider`.
    decider = Decider(Router(policies, model="embedded", history="last_user"))
    builder = StateGraph(MessagesState)
    nodes = {"tax": "tax_desk", "travel": "travel_desk", "other": "general_desk"}
    for name in nodes.values():
        builder.add_node(name, desk(name.removesuffix("_desk")))
        builder.add_edge(name, END)
    builder.add_conditional_edges(START, decider, nodes)
    desks = builder.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    for question in (FLIGHTS, TAX):
        state = desks.invoke({"messages": [("human", question)]}, thread)
        print(f"{question}\n  → {state['messages'][-1].text}")


def main() -> None:
    """Run both."""
    print("An agent with middleware")
    agent()
    print("A graph with conditional edges")
    graph()


if __name__ == "__main__":
    main()
