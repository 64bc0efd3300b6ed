"""One decision: ask the router, and let no failure lose the turn."""

from __future__ import annotations

import logging

from archroute import Conversation, Decision, Router

logger = logging.getLogger("archroute")


Readable = Conversation | Exception | Decision
"""What a router reads, why that can't be read, or what was decided on it already."""


def decide(router: Router, read: Readable) -> Decision:
    """The router's decision; a failure is a decision for the default, or raised, as `router.on_error` says."""
    if isinstance(read, Decision):
        return read
    if isinstance(read, Exception):
        return failed(router, read)
    try:
        return router.route(read)
    except Exception as error:
        return failed(router, error)


async def adecide(router: Router, read: Readable) -> Decision:
    """`decide`, without blocking the event loop."""
    if not isinstance(read, Conversation):
        return decide(router, read)
    try:
        return await router.aroute(read)
    except Exception as error:
        return failed(router, error)


def failed(router: Router, error: Exception) -> Decision:
    """The decision for a turn that could not be routed; the error itself if the router is to raise it."""
    if router.on_error == "raise":
        raise error
    logger.warning("routing failed, the turn goes to the default: %s", error, exc_info=error)
    return router.failed(error)
