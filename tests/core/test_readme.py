"""The README's examples run as they stand there, with stand-ins for the paid models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from archroute import Domain, PolicySet

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text]
    return str(found)


def test_langchain(offline: Path):
    pytest.importorskip("langchain_core")
    from langchain_core.language_models import FakeListChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate

    names: dict[str, object] = {name: FakeListChatModel(responses=[name]) for name in ("claude", "gemini", "gpt_mini")}
    names |= {"prompt": ChatPromptTemplate.from_template("{question}"), "StrOutputParser": StrOutputParser}
    exec(block("python", "prompt | router"), names)  # noqa: S102
    chain = names["chain"]
    assert chain.invoke({"question": "Modify this picture: retouch the sky"}) == "gemini"  # type: ignore[attr-defined]
    assert chain.invoke({"question": "Write a new Python function that sorts a list"}) == "claude"  # type: ignore[attr-defined]


def test_llamaindex(offline: Path):
    pytest.importorskip("llama_index.core")
    from llama_index.core.llms import MockLLM
    from llama_index.core.query_engine import CustomQueryEngine, RouterQueryEngine
    from llama_index.core.tools import QueryEngineTool

    class Named(CustomQueryEngine):
        name: str

        def custom_query(self, query_str: str) -> str:
            return self.name

    about = {"photos": "Modifying or retouching an existing picture", "code": "Writing new functions or scripts"}
    tools = [
        QueryEngineTool.from_defaults(Named(name=name), name=name, description=text) for name, text in about.items()
    ]
    names: dict[str, object] = {"RouterQueryEngine": RouterQueryEngine, "tools": tools, "llm": MockLLM()}
    exec(block("python", "ArchRouterSelector"), names)  # noqa: S102
    answer = names["engine"].query("Write a new Python function that sorts a list")  # type: ignore[attr-defined]
    assert str(answer) == "code"


def test_the_router_alone(offline: Path):
    names: dict[str, object] = {}
    exec(block("python", "from archroute import Policy"), names)  # noqa: S102
    assert names["decision"].route == "image_editing"  # type: ignore[attr-defined]


def test_serving_from_a_file(offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("langchain_core")
    pytest.importorskip("redis")
    from langchain_core.language_models import FakeListChatModel

    from archroute.observe import TurnRecord
    from langchain_archroute import RunnableRouter

    monkeypatch.chdir(tmp_path)
    Path("policies.yaml").write_text(block("yaml", "policies:"))
    llms = {name: FakeListChatModel(responses=[name]) for name in ("claude", "candidate", "gpt_mini", "experiment")}
    names: dict[str, object] = {"RunnableRouter": RunnableRouter, "llms": llms}
    exec(block("python", "from_yaml"), names)  # noqa: S102 - no Redis server is there: sessions fail open
    assert names["router"].stats()["routes"] == {"code_generation": 1}  # type: ignore[attr-defined]
    (turn,) = [line for line in Path("turns.jsonl").read_text().splitlines() if '"kind":"turn"' in line]
    assert TurnRecord.model_validate_json(turn).target in {"claude", "candidate"}
    Path("policies.yaml").write_text(block("yaml", "policies:").replace("0.95", "0.5").replace("0.05", "0.5"))
    names["router"].reload()  # type: ignore[attr-defined]


def test_the_policy_file():
    policies = PolicySet.from_yaml(block("yaml", "policies:"))
    assert [route.name for route in policies] == ["code_generation", "flight_booking", "travel"]
    assert isinstance(policies.domain_of("travel"), Domain)
