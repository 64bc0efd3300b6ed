"""Whether a target can take a request at all."""

from __future__ import annotations

from dataclasses import dataclass

from archroute.serving import ModelInfo

_CHARACTERS_PER_TOKEN = 4  # of English prose and code, as most frameworks estimate it


@dataclass(frozen=True)
class Needs:
    """What a request asks of its target.

    Attributes:
        images: Whether it has pictures in it.
        tools: Whether tools are to be called.
        tokens: About how long it is, in tokens.
    """

    images: bool = False
    tools: bool = False
    tokens: int = 0


def obstacle(info: ModelInfo, needs: Needs) -> str | None:
    """Why a target with these abilities can't take the request; None if nothing that is known speaks against it."""
    if needs.images and info.images is False:
        return "it takes no images"
    if needs.tools and info.tools is False:
        return "it calls no tools"
    if info.context is not None and needs.tokens > info.context:
        return f"about {needs.tokens} tokens are more than its {info.context}"
    return None


def estimated_tokens(characters: int) -> int:
    """About how many tokens a text of so many characters has; no tokenizer of the target's is at hand."""
    return -(-characters // _CHARACTERS_PER_TOKEN)
