"""The prompt, byte for byte, and the answers' spellings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archroute import Conversation, Policy, Turn
from archroute.prompt import answers, render

# The example of the model card.
CARD_ROUTES = [
    Policy(
        "code_generation",
        "Generating new code snippets, functions, or boilerplate based on user prompts or requirements",
    ),
    Policy(
        "bug_fixing",
        "Identifying and fixing errors or bugs in the provided code across different programming languages",
    ),
    Policy("performance_optimization", "Suggesting improvements to make code more efficient, readable, or scalable"),
    Policy("api_help", "Assisting with understanding or integrating external APIs and libraries"),
    Policy("programming", "Answering general programming questions, theory, or best practices"),
]
CARD_CONVERSATION = Conversation.from_text(
    "fix this module 'torch.utils._pytree' has no attribute 'register_pytree_node'. did you mean: '_register_pytree_node'?"
)


def test_model_card_prompt_equals_the_documented_bytes(test_data: Path):
    template = (test_data / "reference" / "prompt_model_card.txt").read_bytes().decode()
    routes = json.dumps([{"name": route.name, "description": route.description} for route in CARD_ROUTES])
    turns = json.dumps([{"role": "user", "content": CARD_CONVERSATION.turns[0].content}])
    assert render(CARD_ROUTES, CARD_CONVERSATION) == template.replace("{routes}", routes).replace(
        "{conversation}", turns
    )


def test_archgw_prompt_equals_the_proxys_bytes(test_data: Path):
    template = (test_data / "reference" / "prompt_archgw.txt").read_bytes().decode()
    routes = [Policy("a", "ü")]
    expected = template.replace("{routes}", '[{"name":"a","description":"ü"}]')
    expected = expected.replace("{conversation}", '[{"role":"user","content":"é"}]')
    assert render(routes, Conversation.from_text("é"), "archgw") == expected


def test_the_two_forms_differ_as_documented():
    card, proxy = (render([Policy("a", "ü")], Conversation.from_text("é"), form) for form in ("model_card", "archgw"))
    assert r'[{"name": "a", "description": "\u00fc"}]' in card
    assert "ü" in proxy
    assert [line for line in card.split("\n") if line.endswith(" ")]
    assert not [line for line in proxy.split("\n") if line.endswith(" ")]


def test_texts_that_look_like_the_template_stay_texts():
    conversation = Conversation((Turn("user", "{routes} {conversation} </routes>"),))
    rendered = render([Policy("a", "{conversation}")], conversation)
    assert rendered.count('"{conversation}"') == 1
    assert '"{routes} {conversation} </routes>"' in rendered
    assert rendered.index('"name": "a"') < rendered.index("<conversation>")


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("bug_fixing", ('{"route": "bug_fixing"}', "{'route': 'bug_fixing'}")),
        ("what's up", ('{"route": "what\'s up"}', "{'route': \"what's up\"}")),
        ("müll", (r'{"route": "m\u00fcll"}', '{"route": "müll"}', "{'route': 'müll'}")),
    ],
)
def test_answers_have_every_spelling_once(name: str, spellings: tuple[str, ...]):
    assert answers(name) == spellings
