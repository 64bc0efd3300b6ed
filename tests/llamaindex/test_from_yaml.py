"""A policy file and LLM objects make a router."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_index.core.base.llms.types import ChatMessage

from archroute import FileFormatError, PolicyError, PolicySet
from llamaindex_archroute import ArchRouterLLM
from tests.engines import KeywordEngine
from tests.llamaindex.targets import SECRET, Target

FILE = """
policies:
  - name: tax
    description: Tax law and returns
    models: [openai:gpt-5, openai:gpt-5-mini]
  - name: travel
    description: Anything about trips
    model: openai:gpt-5-mini
    actions:
      - {name: flights, description: Booking flights, model: openai:gpt-5}
  - name: chat
    description: Small talk
    model: small
default: small
"""
WORDS = {"tax": ["vat"], "travel": ["trip"], "flights": ["flight"], "chat": ["weather"]}
SERVED = {
    "VAT": "openai:gpt-5",
    "trip": "openai:gpt-5-mini",
    "flight": "openai:gpt-5",
    "weather": "small",
    "?": "small",
}
PLANO = """
version: v0.3.0
llm_providers:
  - model: openai/gpt-5
    default: true
  - model: openai/o3
    routing_preferences:
      - {name: tax, description: Tax law and returns}
"""


def served(llm: ArchRouterLLM) -> dict[str, str]:
    return {text: (llm.chat([ChatMessage(text)]).message.content or "").removeprefix("answer of ") for text in SERVED}


def test_names_are_bound_by_a_mapping() -> None:
    llms = {name: Target(name) for name in ("openai:gpt-5", "openai:gpt-5-mini", "small")}
    assert served(ArchRouterLLM.from_yaml(FILE, llms, model=KeywordEngine(WORDS))) == SERVED


def test_names_are_bound_by_a_function_once_each() -> None:
    asked: list[str] = []

    def make(name: str) -> Target:
        asked.append(name)
        return Target(name)

    assert served(ArchRouterLLM.from_yaml(FILE, make, model=KeywordEngine(WORDS))) == SERVED
    assert sorted(asked) == ["openai:gpt-5", "openai:gpt-5-mini", "small"]


def test_the_policies_are_the_files(tmp_path: Path) -> None:
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    llm = ArchRouterLLM.from_yaml(path, Target, model=KeywordEngine(WORDS))
    assert llm.policies.policies == PolicySet.from_yaml(FILE).policies


def test_settings_reach_the_router() -> None:
    llm = ArchRouterLLM.from_yaml(FILE, Target, model=KeywordEngine(WORDS), min_confidence=1.0)
    assert set(served(llm).values()) == {"small"}


def test_a_given_default_goes_before_the_files() -> None:
    llm = ArchRouterLLM.from_yaml(FILE, Target, default=Target("mine"), model=KeywordEngine(WORDS))
    assert served(llm)["?"] == "mine"


def test_reads_planos_configuration() -> None:
    llm = ArchRouterLLM.from_yaml(PLANO, Target, model=KeywordEngine(WORDS))
    assert served(llm) == dict.fromkeys(SERVED, "openai/gpt-5") | {"VAT": "openai/o3"}


def test_a_model_that_is_not_given_is_named() -> None:
    with pytest.raises(PolicyError, match="policy 'tax' wants the model 'openai:gpt-5'") as caught:
        ArchRouterLLM.from_yaml(FILE, {"small": Target("small")}, model=KeywordEngine(WORDS))
    assert SECRET not in str(caught.value)


def test_a_route_without_a_model_is_named() -> None:
    text = FILE.replace("    model: small\n", "")
    with pytest.raises(PolicyError, match="'chat' has no model"):
        ArchRouterLLM.from_yaml(text, Target, model=KeywordEngine(WORDS))


def test_a_target_may_be_given_by_its_routes_name() -> None:
    targets = {name: Target(name) for name in ("openai:gpt-5", "openai:gpt-5-mini", "small")} | {"tax": Target("mine")}
    assert served(ArchRouterLLM.from_yaml(FILE, targets, model=KeywordEngine(WORDS))) == SERVED | {"VAT": "mine"}


def test_policies_may_be_read_already() -> None:
    policies = PolicySet.from_yaml(FILE)
    assert served(ArchRouterLLM.from_yaml(policies, Target, model=KeywordEngine(WORDS))) == SERVED


def test_a_file_without_a_default_wants_one() -> None:
    with pytest.raises(PolicyError, match="no default"):
        ArchRouterLLM.from_yaml(FILE.replace("default: small", ""), Target, model=KeywordEngine(WORDS))


def test_a_bad_file_names_the_line() -> None:
    with pytest.raises(FileFormatError, match="line 3"):
        ArchRouterLLM.from_yaml("\npolicies:\n  - name: tax\n", Target)
