"""What LlamaIndex's agents write in the user's name, and is no turn of the user's."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llama_index.core.base.llms.types import ChatMessage, MessageRole, TextBlock

# ReActAgent: what a tool gave back, and complaints about an answer that could not be parsed.
_OBSERVATION, _ACTION = "Observation:", "Action:"
_COMPLAINTS = ("Error while parsing the output:", "FAILURE: Your previous response was empty.")

# All agents with an `output_cls`: the whole conversation again, as tags in one user message, a text block each.
_WRAPPED = "<current_conversation>\n"
_ROLE = re.compile(r"\t<(\w+)>\n")
_TEXT = re.compile(r"\t\t<message>(.*)</message>\n", re.DOTALL)


def is_agents_own(messages: Sequence[ChatMessage], number: int) -> bool:
    """Whether the message at `number`, with the user's role, is an agent's own."""
    before = messages[number - 1] if number else None
    if before is None or before.role != MessageRole.ASSISTANT:
        return False
    text = messages[number].content or ""
    return text.startswith(_COMPLAINTS) or (text.startswith(_OBSERVATION) and _ACTION in (before.content or ""))


def unwrapped(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """`messages`, or the conversation that an agent has put into the last of them to ask for structured output."""
    blocks = messages[-1].blocks if messages else []
    if not blocks or not isinstance(blocks[0], TextBlock) or blocks[0].text != _WRAPPED:
        return messages
    conversation: list[ChatMessage] = []
    for block in blocks:
        if not isinstance(block, TextBlock):
            continue
        if role := _ROLE.fullmatch(block.text):
            conversation.append(ChatMessage(role=MessageRole(role[1])))
        elif (text := _TEXT.fullmatch(block.text)) and conversation:
            conversation[-1].blocks.append(TextBlock(text=text[1]))
    return conversation
