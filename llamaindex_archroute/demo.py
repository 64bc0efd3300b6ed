"""What `archroute demo` shows of LlamaIndex: a conversation through a router query engine."""

from __future__ import annotations

from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
from llama_index.core.tools import QueryEngineTool
from rich.console import Console
from rich.markup import escape

from archroute import PolicySet
from archroute.conversation import text_of
from llamaindex_archroute.messages import Message
from llamaindex_archroute.selector import ArchRouterSelector, ArchRouterSelectorResult

_SHOWN = 3  # probabilities a turn


class _Named(CustomQueryEngine):
    """Stands for a real query engine: it answers with its name."""

    name: str

    def custom_query(self, query_str: str) -> str:
        return f"answered by {self.name}"


def run(policies: PolicySet, conversation: list[dict[str, str]], console: Console) -> None:
    """Send each user turn of a conversation through a `RouterQueryEngine` and print where it went.

    Args:
        policies: Each is the name and the description of one query engine.
        conversation: `{"role": …, "content": …}` messages.
        console: Where to print.
    """
    history: list[Message] = []
    selector = ArchRouterSelector("default", default_is_choice=False, model="embedded", history=history)
    tools = [
        QueryEngineTool.from_defaults(_Named(name=name), name=name, description=description)
        for name, description in [*((policy.name, policy.description) for policy in policies), ("default", "")]
    ]
    engine = RouterQueryEngine(selector=selector, query_engine_tools=tools, llm=MockLLM())
    for message in conversation:
        if message["role"] == "user":
            response = engine.query(text_of(message["content"]))
            result = (response.metadata or {})["selector_result"]
            assert isinstance(result, ArchRouterSelectorResult)  # noqa: S101 - our selector's own
            likeliest = sorted(result.decision.probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
            console.print(f"[bold]{escape(message['content'])}[/bold]")
            console.print(f"  → {escape(str(response))}  ({', '.join(f'{name} {p:.0%}' for name, p in likeliest)})")
        history.append(message)
