"""The prompt Arch-Router was trained on, byte for byte.

Two forms are in use: that of the model card of `katanemo/Arch-Router-1.5B` (the default) and that of the proxy archgw (Plano), which
has no blank lines around the parts, no trailing spaces, and compact raw-UTF-8 JSON.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, get_args

from archroute.conversation import Conversation
from archroute.errors import SettingError
from archroute.policy import Policy

PromptFormat = Literal["model_card", "archgw"]
"""Whose prompt is rendered."""

_ROUTES = "{routes}"
_CONVERSATION = "{conversation}"

# The trailing spaces are part of the format; they stand as escapes so that no editor strips them.
_MODEL_CARD = """
You are a helpful assistant designed to find the best suited route.
You are provided with route description within <routes></routes> XML tags:
<routes>

{routes}

</routes>

<conversation>

{conversation}

</conversation>

Your task is to decide which route is best suit with user intent on the conversation in <conversation></conversation> XML tags.  Follow the instruction:
1. If the latest intent from user is irrelevant or user intent is full filled, response with other route {"route": "other"}.
2. You must analyze the route descriptions and find the best match route for user latest intent.\x20
3. You only response the name of the route that best matches the user's request, use the exact name in the <routes></routes>.

Based on your analysis, provide your response in the following JSON formats if you decide to match any route:
{"route": "route_name"}\x20
"""

_ARCHGW = (
    _MODEL_CARD.replace("<routes>\n\n", "<routes>\n")
    .replace("\n\n</routes>", "\n</routes>")
    .replace("<conversation>\n\n", "<conversation>\n")
    .replace("\n\n</conversation>", "\n</conversation>")
    .replace("intent. \n", "intent.\n")
    .replace("} \n", "}\n")
)


def render(routes: Sequence[Policy], conversation: Conversation, form: PromptFormat = "model_card") -> str:
    """The text of the one user message that asks for a route.

    Args:
        routes: The policies, in the order they are to stand in.
        conversation: The turns to decide on.
        form: Whose prompt to render.

    Source: the model card of katanemo/Arch-Router-1.5B; archgw's `llm_gateway` for `"archgw"`.
    """
    listed = [{"name": route.name, "description": route.description} for route in routes]
    turns = [{"role": turn.role, "content": turn.content} for turn in conversation.turns]
    template = _MODEL_CARD if form == "model_card" else _ARCHGW
    head, rest = template.split(_ROUTES)
    middle, tail = rest.split(_CONVERSATION)
    return f"{head}{_json(listed, form)}{middle}{_json(turns, form)}{tail}"


def answers(name: str) -> tuple[str, ...]:
    """Every spelling in which the model may answer with the route `name`.

    The documented answer is JSON; public logs of the model show the same as a Python dict, with single quotes.
    """
    answer = {"route": name}
    return tuple(dict.fromkeys((json.dumps(answer), json.dumps(answer, ensure_ascii=False), str(answer))))


def check_form(form: str) -> None:
    """Raise `SettingError` if `form` is no prompt format."""
    if form not in get_args(PromptFormat):
        raise SettingError(f"prompt={form!r}", hint=f"use one of {', '.join(get_args(PromptFormat))}")


def _json(value: object, form: PromptFormat) -> str:
    if form == "archgw":
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return json.dumps(value)
