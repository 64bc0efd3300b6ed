"""What `archroute demo` shows of LangChain: a conversation through a router between chat models."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import SimpleChatModel
from langchain_core.messages import BaseMessage
from rich.console import Console
from rich.markup import escape

from archroute.conversation import text_of
from archroute.policy import PolicySet
from langchain_archroute.route import Route
from langchain_archroute.runnable_router import RunnableRouter

_SHOWN = 3  # probabilities a turn


class NamedChatModel(SimpleChatModel):
    """Stands for a paid chat model: it answers with its name.

    Example:
        >>> NamedChatModel(label="a-coding-model").invoke("Mend this bug").text
        'answered by a-coding-model'
    """

    label: str

    @property
    def _llm_type(self) -> str:
        return "named"

    def _call(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> str:
        return f"answered by {self.label}"


def run(policies: PolicySet, conversation: list[dict[str, str]], console: Console) -> None:
    """Send each user turn of a conversation, with the turns before it, through a `RunnableRouter` and print where it went.

    Args:
        policies: Each is bound to a chat model of its name.
        conversation: `{"role": …, "content": …}` messages.
        console: Where to print.
    """
    router = RunnableRouter(
        routes=[Route(policy, target=NamedChatModel(label=policy.name)) for policy in policies],
        default=NamedChatModel(label="default"),
        model="embedded",
    )
    for number, message in enumerate(conversation):
        if message["role"] != "user":
            continue
        answer = router.invoke(conversation[: number + 1])
        probabilities: dict[str, float] = answer.response_metadata["archroute"]["probabilities"]
        likeliest = sorted(probabilities.items(), key=lambda item: -item[1])[:_SHOWN]
        console.print(f"[bold]{escape(text_of(message['content']))}[/bold]")
        console.print(f"  → {escape(answer.text)}  ({', '.join(f'{name} {p:.0%}' for name, p in likeliest)})")
