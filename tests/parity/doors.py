"""The two frameworks behind one face."""

from __future__ import annotations

from typing import Any, Protocol

from tests.parity.behaviours import FILE, Messages

SECRET = "sk-the-key-of-a-target"


class Door(Protocol):
    """What the table needs of a framework."""

    def router(self, source: Any = FILE, **arguments: Any) -> Any:
        """A router whose models answer with their names; `broken…` ones raise ConnectionError, `slow…` ones take half a second."""

    def bound(self, targets: dict[str, Any], **arguments: Any) -> Any:
        """A router of two policies, `tax` and `travel`, over `targets` and the target under `default`."""

    def model(self, name: str) -> Any:
        """One of those models."""

    def ask(self, router: Any, messages: Messages, session: str | None = None) -> tuple[str, dict[str, Any]]:
        """The name of the model that answered, and the decision on its answer; the session as the framework tells it."""

    async def aask(self, router: Any, messages: Messages, session: str | None = None) -> tuple[str, dict[str, Any]]:
        """`ask`, asynchronous."""

    def stream(self, router: Any, messages: Messages) -> str:
        """The streamed answer."""

    def dump(self, router: Any) -> str:
        """The router as the framework writes it."""

    async def agent(self, arguments: dict[str, Any], question: str) -> list[str]:
        """The models that an agent with one tool called for a question, in order."""
