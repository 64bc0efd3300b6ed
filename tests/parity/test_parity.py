"""What the core can do is the same through LangChain and through LlamaIndex."""

from __future__ import annotations

from typing import Any

import pytest

from archroute import Decision, EngineError, FileFormatError, PolicyError, PolicySet, Router, SettingError
from tests.engines import FailingEngine, KeywordEngine
from tests.parity.behaviours import FILE, TABLE, WORDS, Behaviour, user
from tests.parity.doors import SECRET, Door


@pytest.fixture(params=["langchain", "llamaindex"])
def door(request: pytest.FixtureRequest) -> Door:
    if request.param == "langchain":
        pytest.importorskip("langchain")
        from tests.parity.langchain_door import LangChain

        return LangChain()
    pytest.importorskip("llama_index.core")
    from tests.parity.llamaindex_door import LlamaIndex

    return LlamaIndex()


def named(behaviour: Behaviour) -> str:
    return behaviour.name


@pytest.mark.parametrize("behaviour", TABLE, ids=named)
class TestTable:
    def test_sync(self, door: Door, behaviour: Behaviour) -> None:
        served, decision = door.ask(door.router(**behaviour.arguments()), behaviour.messages)
        assert (served, decision["route"], decision["reason"]) == (behaviour.served, behaviour.route, behaviour.reason)

    async def test_async(self, door: Door, behaviour: Behaviour) -> None:
        served, decision = await door.aask(door.router(**behaviour.arguments()), behaviour.messages)
        assert (served, decision["route"], decision["reason"]) == (behaviour.served, behaviour.route, behaviour.reason)

    def test_streamed(self, door: Door, behaviour: Behaviour) -> None:
        assert door.stream(door.router(**behaviour.arguments()), behaviour.messages) == behaviour.served

    def test_the_decision_is_the_cores_own(self, door: Door, behaviour: Behaviour) -> None:
        _, noted = door.ask(door.router(**behaviour.arguments()), behaviour.messages)
        core = Router(PolicySet.from_yaml(FILE), **{"on_error": "default", **behaviour.arguments()})
        decided = core.route(list(behaviour.messages)).as_dict()
        assert Decision.model_validate(noted)
        assert noted | {"latency_ms": 0} == decided | {"latency_ms": 0}


async def test_an_agents_tool_loop_stays_with_one_model(door: Door) -> None:
    engine = KeywordEngine(WORDS)
    assert await door.agent({"model": engine}, "look up VAT") == ["tax-model", "tax-model"]
    assert len(engine.calls) == 1


async def test_an_agents_tool_loop_that_began_with_a_failure_stays_with_the_default(door: Door) -> None:
    engine = FailingEngine()
    assert await door.agent({"model": engine}, "look up VAT") == ["default-model", "default-model"]
    assert engine.calls == 1


async def test_the_engines_error_can_be_raised(door: Door) -> None:
    router = door.router(model=FailingEngine(), on_error="raise")
    with pytest.raises(EngineError, match="out of order"):
        door.ask(router, [user("VAT?")])
    with pytest.raises(EngineError, match="out of order"):
        await door.aask(router, [user("VAT?")])


def test_a_targets_own_error_is_raised(door: Door) -> None:
    router = door.router(FILE.replace("tax-model", "broken-model"), model=KeywordEngine(WORDS))
    with pytest.raises(ConnectionError, match="down"):
        door.ask(router, [user("VAT?")])
    assert door.ask(router, [user("Hello")])[0] == "default-model"


def test_no_form_shows_a_targets_key(door: Door) -> None:
    router = door.router(model=KeywordEngine(WORDS))
    assert SECRET not in repr(router) + str(router) + door.dump(router)


def test_routes_are_bound_in_code_by_the_same_arguments(door: Door) -> None:
    targets = {name: door.model(f"{name}-model") for name in ("tax", "travel", "default")}
    router = door.bound(
        targets, model=KeywordEngine(WORDS), history="last_user", on_error="default", min_confidence=0.1
    )
    assert [door.ask(router, [user(text)])[0] for text in ("VAT", "a trip", "Hello")] == [
        "tax-model",
        "travel-model",
        "default-model",
    ]


@pytest.mark.parametrize(
    "arguments",
    [{"min_confidence": 1.5}, {"history": 0}, {"history": "some"}, {"on_error": "ignore"}, {"model": 7}],
    ids=str,
)
def test_impossible_arguments_are_the_same_error(door: Door, arguments: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        door.router(**{"model": KeywordEngine(WORDS)} | arguments)


def test_a_target_of_another_kind_is_the_same_error(door: Door) -> None:
    targets = {name: door.model(name) for name in ("tax", "default")}
    with pytest.raises(SettingError, match="'travel' is a str"):
        door.bound(targets | {"travel": SECRET}, model=KeywordEngine(WORDS))


@pytest.mark.parametrize(
    ("text", "error", "match"),
    [
        (FILE.replace("name: travel", "name: tax"), PolicyError, "more than once: tax"),
        (FILE.replace("name: tax", "name: other"), FileFormatError, "reserved"),
        (FILE.replace("description: Tax law and returns, ", ""), FileFormatError, "line 3"),
        (FILE.replace("default: default-model", ""), PolicyError, "no default is given"),
        (FILE.replace(", model: tax-model", ""), PolicyError, "'tax' has no model"),
    ],
    ids=["twice", "reserved", "no description", "no default", "no model"],
)
def test_a_bad_file_is_the_same_error(door: Door, text: str, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        door.router(text, model=KeywordEngine(WORDS))
