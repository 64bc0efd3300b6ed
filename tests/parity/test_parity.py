"""What the core can do is the same through LangChain and through LlamaIndex."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from archroute import Decision, EngineError, FileFormatError, PolicyError, PolicySet, Router, SettingError
from archroute.dispatch import Dispatch, Shares
from tests.engines import FailingEngine, KeywordEngine
from tests.parity.behaviours import FILE, SERVINGS, TABLE, WORDS, Behaviour, Serving, user
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


def named(behaviour: Behaviour | Serving) -> str:
    return behaviour.name


@pytest.mark.parametrize("behaviour", TABLE, ids=named)
class TestTable:
    def test_sync(self, door: Door, behaviour: Behaviour) -> None:
        served, decision = door.ask(door.router(behaviour.file, **behaviour.arguments()), behaviour.messages)
        assert (served, decision["route"], decision["reason"]) == (behaviour.served, behaviour.route, behaviour.reason)

    async def test_async(self, door: Door, behaviour: Behaviour) -> None:
        served, decision = await door.aask(door.router(behaviour.file, **behaviour.arguments()), behaviour.messages)
        assert (served, decision["route"], decision["reason"]) == (behaviour.served, behaviour.route, behaviour.reason)

    def test_streamed(self, door: Door, behaviour: Behaviour) -> None:
        assert door.stream(door.router(behaviour.file, **behaviour.arguments()), behaviour.messages) == behaviour.served

    def test_the_decision_is_the_cores_own(self, door: Door, behaviour: Behaviour) -> None:
        _, noted = door.ask(door.router(behaviour.file, **behaviour.arguments()), behaviour.messages)
        core = Router(PolicySet.from_yaml(behaviour.file), **{"on_error": "default", **behaviour.arguments()})
        decided = core.route(list(behaviour.messages)).as_dict()
        assert Decision.model_validate(noted)
        served = {"target": behaviour.served, "latency_ms": 0}
        assert [attempt["target"] for attempt in noted["attempts"]] == [behaviour.served]
        assert noted | {"attempts": [], "latency_ms": 0} == decided | served


@pytest.mark.parametrize("serving", SERVINGS, ids=named)
class TestServing:
    """`times` in one go: what shows later is what the router remembers of its targets."""

    @staticmethod
    def router(door: Door, serving: Serving) -> Any:
        return door.router(serving.file, model=KeywordEngine(WORDS), dispatch=Dispatch(breaker_failures=2))

    @staticmethod
    def check(serving: Serving, served: str, decision: dict[str, Any]) -> None:
        assert [(attempt["target"], attempt["outcome"]) for attempt in decision["attempts"]] == list(serving.attempts)
        assert served == decision["target"] == serving.attempts[-1][0]
        assert decision["route"] == "tax"

    def test_sync(self, door: Door, serving: Serving) -> None:
        router = self.router(door, serving)
        with pytest.raises(serving.raises) if serving.raises else nullcontext():
            answers = [door.ask(router, [user("What is VAT?")]) for _ in range(serving.times)]
            self.check(serving, *answers[-1])
        assert router.stats()["turns"] == serving.times

    async def test_async(self, door: Door, serving: Serving) -> None:
        router = self.router(door, serving)
        with pytest.raises(serving.raises) if serving.raises else nullcontext():
            answers = [await door.aask(router, [user("What is VAT?")]) for _ in range(serving.times)]
            self.check(serving, *answers[-1])
        assert router.stats()["turns"] == serving.times

    def test_streamed(self, door: Door, serving: Serving) -> None:
        router = self.router(door, serving)
        with pytest.raises(serving.raises) if serving.raises else nullcontext():
            answers = [door.stream(router, [user("What is VAT?")]) for _ in range(serving.times)]
            assert answers[-1] == serving.attempts[-1][0]
        assert router.stats()["turns"] == serving.times


class TestSessions:
    SPLIT = FILE.replace("model: tax-model", "models: {tax-model: 0.5, spare-model: 0.5}")

    async def test_a_session_stays_on_its_side_which_is_the_cores(self, door: Door) -> None:
        router = door.router(self.SPLIT, model=KeywordEngine(WORDS))
        shares = Shares({"tax-model": 0.5, "spare-model": 0.5})
        for number in range(8):
            session = f"user-{number}"
            sides = {
                door.ask(router, [user("VAT?")], session)[0],
                (await door.aask(router, [user("VAT?")], session))[0],
            }
            assert sides == {shares.choose(session)}

    def test_shares_change_while_the_router_serves(self, door: Door) -> None:
        router = door.router(self.SPLIT, model=KeywordEngine(WORDS))
        for name in ("tax-model", "spare-model"):
            router.change_shares("tax", {name: 1.0})
            assert door.ask(router, [user("VAT?")])[0] == name

    @pytest.mark.parametrize(
        ("switch_cost", "expected"),
        [
            (None, [("tax-model", "matched"), ("flights-model", "matched"), ("flights-model", "matched")]),
            (0.5, [("tax-model", "matched"), ("tax-model", "sticky"), ("flights-model", "matched")]),
        ],
    )
    async def test_a_session_stays_where_another_route_is_not_worth_the_switch(
        self, door: Door, switch_cost: float | None, expected: list[tuple[str, str]]
    ) -> None:
        router = door.router(model=KeywordEngine(WORDS), dispatch=Dispatch(switch_cost=switch_cost))
        for text, (served, reason) in zip(["VAT", "VAT for a flight, a flight", "A flight"], expected, strict=True):
            answer, decision = await door.aask(router, [user(text)], "me")
            assert (answer, decision["reason"]) == (served, reason)
        assert door.ask(router, [user("VAT for a flight, a flight")], "another")[0] == "flights-model"

    def test_a_function_tells_the_session(self, door: Door) -> None:
        shares = Shares({"tax-model": 0.5, "spare-model": 0.5})
        for key in ("a", "b", "c"):
            router = door.router(self.SPLIT, model=KeywordEngine(WORDS), session=lambda *_, key=key: key)
            assert door.ask(router, [user("VAT?")])[0] == shares.choose(key)


def test_a_changed_file_is_followed(door: Door, tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text(FILE)
    router = door.router(file, model=KeywordEngine(WORDS), reload=True)
    assert door.ask(router, [user("VAT?")])[0] == "tax-model"
    file.write_text(FILE.replace("model: tax-model", "model: travel-model"))
    router.reload()
    assert door.ask(router, [user("VAT?")])[0] == "travel-model"
    file.write_text("policies: 7")
    with pytest.raises(FileFormatError):
        router.reload()
    assert door.ask(router, [user("VAT?")])[0] == "travel-model"
    with pytest.raises(SettingError):
        door.router(model=KeywordEngine(WORDS)).reload()


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
    [
        {"min_confidence": 1.5},
        {"min_margin": 1.5},
        {"history": 0},
        {"history": "some"},
        {"on_error": "ignore"},
        {"model": 7},
    ],
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
