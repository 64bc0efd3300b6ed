"""What is said to routers in the tests, and what is heard of them."""

from __future__ import annotations

from collections import Counter

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import tool

REQUESTS = ["write a python function", "retouch this photo", "a flight to Lisbon", "how are you?"]
ANSWERED_BY = ["coder", "painter", "guide", "generalist"]


def who(answer):
    """The label of the fake that answered."""
    return answer.text.split(":")[0]


@tool
def bookings(count: int) -> str:
    """List the bookings."""
    return f"{count} bookings"


class Told(BaseCallbackHandler):
    """Counts what callbacks are told."""

    def __init__(self):
        self.count = Counter()
        self.tokens = []

    def on_chat_model_start(self, *args, **kwargs):
        self.count["chat_model_start"] += 1

    def on_llm_new_token(self, token, **kwargs):
        self.tokens.append(token)

    def on_llm_end(self, *args, **kwargs):
        self.count["llm_end"] += 1

    def on_custom_event(self, name, data, **kwargs):
        self.count[name] += 1


def ask(agent, text, config=None):
    """An agent's state after one user message."""
    return agent.invoke({"messages": [("human", text)]}, config)


def answers(state):
    """What the models of an agent said, in order."""
    return [message.text for message in state["messages"] if message.type == "ai"]
