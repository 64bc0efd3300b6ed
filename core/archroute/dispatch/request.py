"""What dispatch needs to know of a request, beside its decision."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from archroute.conversation import Conversation
from archroute.dispatch.feasibility import Needs

_session: ContextVar[str | None] = ContextVar("archroute_session", default=None)


@dataclass(frozen=True)
class Request:
    """One call of a router.

    Attributes:
        session: What tells the user's session from others; None if nothing does.
        turn: What tells the user's turn from others: a hash of the conversation up to it. Empty if it can't be read.
        in_loop: Whether an agent's loop over tools has gone on since the user's turn.
        needs: What it asks of its target.
        text: The user's turn itself, for records that were asked to hold it.
        target: The name of the only target that can take it, if it is in the form of that target's provider already.
    """

    session: str | None = None
    turn: str = ""
    in_loop: bool = False
    needs: Needs = field(default_factory=Needs)
    text: str = ""
    target: str | None = None

    @classmethod
    def of(
        cls,
        conversation: Conversation | None,
        *,
        session: str | None = None,
        in_loop: bool = False,
        needs: Needs | None = None,
    ) -> Request:
        """The request that a conversation makes; None: one that can't be read."""
        turns = conversation.turns if conversation else ()
        last = max((number for number, turn in enumerate(turns) if turn.role == "user"), default=None)
        session = _session.get() if session is None else session
        needs = needs or Needs()
        if last is None:
            return cls(session, in_loop=in_loop, needs=needs)
        digest = hashlib.blake2b(digest_size=16)
        for turn in turns[: last + 1]:
            digest.update(f"{turn.role}{len(turn.content)}:{turn.content}".encode(errors="surrogatepass"))
        return cls(session, digest.hexdigest(), in_loop or last + 1 < len(turns), needs, turns[last].content)

    @property
    def turn_key(self) -> str | None:
        """Under which name a store keeps what was decided on the turn, for the steps of an agent's loop."""
        return f"turn:{self.turn}:{self.session or ''}" if self.turn else None

    @property
    def session_key(self) -> str | None:
        """Under which name a store keeps what was decided last in the session."""
        return None if self.session is None else f"session:{self.session}"


@contextmanager
def session(key: str) -> Iterator[None]:
    """Every turn that a router serves inside belongs to this session, where nothing else says to which.

    Example:
        >>> with session("user-1"):
        ...     pass  # chain.invoke(…), agent.run(…), query_engine.query(…)
    """
    token = _session.set(key)
    try:
        yield
    finally:
        _session.reset(token)
