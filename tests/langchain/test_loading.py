"""Routers from policy files."""

from __future__ import annotations

import pytest

from archroute import FileFormatError, PolicyError
from langchain_archroute import ArchRouterChatModel, ArchRouterMiddleware, RunnableRouter, loading, read_routes
from tests.langchain.fakes import FakeModel

FILE = """
policies:
  - name: code
    description: Writing and mending programs
    models: [openai:gpt-5, "anthropic:claude/opus"]
  - name: trips
    description: Anything about trips
    model: openai:gpt-5-mini
    actions:
      - name: hotels
        description: Finding a bed
        model: ollama:llama3
default: openai:gpt-5-mini
"""
PLANO = """
version: v0.4.0
model_providers:
  - model: openai/gpt-5-mini
    default: true
  - model: ollama/llama3.2:3b
routing_preferences:
  - name: code
    description: Writing and mending programs
    models: [ollama/llama3.2:3b, openai/gpt-5-mini]
"""


@pytest.fixture
def made(monkeypatch) -> dict[str, FakeModel]:
    """The models that LangChain was asked to make; the packages of the providers are not installed."""
    models: dict[str, FakeModel] = {}

    def init_chat_model(name: str) -> FakeModel:
        return models.setdefault(name, FakeModel(label=name.replace(":", "-")))

    monkeypatch.setattr("langchain.chat_models.init_chat_model", init_chat_model)
    return models


def who(answer):
    return answer.text.split(":")[0]


def test_a_files_models_are_made_and_bound(made, engine, tmp_path):
    file = tmp_path / "policies.yaml"
    file.write_text(FILE)
    engine.words = {**engine.words, "hotels": ["hotel"], "trips": ["flight"]}
    router = RunnableRouter.from_yaml(file, model=engine)
    said = ["a bug", "a flight", "a hotel", "hm"]
    assert [who(router.invoke(text)) for text in said] == [
        "openai-gpt-5",
        "openai-gpt-5-mini",
        "ollama-llama3",
        "openai-gpt-5-mini",
    ]
    made["openai:gpt-5"].fails = True
    assert who(router.invoke("a bug")) == "anthropic-claude/opus"


def test_a_plano_configuration_is_read(made, engine):
    router = RunnableRouter.from_yaml(PLANO, model=engine)
    assert set(made) == {"ollama:llama3.2:3b", "openai:gpt-5-mini"}
    made["ollama:llama3.2:3b"].fails = True
    assert who(router.invoke("a bug")) == "openai-gpt-5-mini"


def test_objects_stand_for_names_of_models_and_of_routes(engine, models):
    targets = {"openai:gpt-5": models["coder"], "anthropic:claude/opus": models["painter"], "trips": models["guide"]}
    router = RunnableRouter.from_yaml(
        FILE,
        targets={**targets, "ollama:llama3": models["painter"]},
        default=models["generalist"],
        model=engine,
        min_confidence=0.5,
    )
    assert [who(router.invoke(text)) for text in ("a bug", "a flight", "hm")] == ["coder", "guide", "generalist"]
    assert router.min_confidence == 0.5


def test_routes_that_were_read_build_the_other_routers_too(made, engine):
    routes, default = read_routes(FILE)
    assert who(ArchRouterChatModel(routes=routes, default=default, model=engine).invoke("a bug")) == "openai-gpt-5"
    assert ArchRouterMiddleware(routes=routes, default=default, model=engine).decider.invoke("a bug").route == "code"


def test_what_is_missing_is_named(made, engine):
    with pytest.raises(PolicyError, match="'b'"):
        RunnableRouter.from_yaml("policies:\n  - {name: b, description: B}\ndefault: openai:x\n", model=engine)
    with pytest.raises(PolicyError, match="default"):
        RunnableRouter.from_yaml("policies:\n  - {name: b, description: B, model: openai:x}\n", model=engine)
    with pytest.raises(FileFormatError, match="line 2"):
        RunnableRouter.from_yaml("policies:\n  - {name: b}\n", model=engine)


@pytest.mark.parametrize(
    ("name", "langchain"),
    [
        ("openai:gpt-5", "openai:gpt-5"),
        ("openai/gpt-5", "openai:gpt-5"),
        ("groq:meta/llama", "groq:meta/llama"),
        ("ollama/llama3.2:3b", "ollama:llama3.2:3b"),
        ("gpt-5", "gpt-5"),
    ],
)
def test_names_are_spelled_langchains_way(name, langchain):
    assert loading._langchain_name(name) == langchain
