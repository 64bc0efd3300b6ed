"""Turns: who is asked, in which order, and what is written down."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest

from archroute import Conversation, Decision, PolicyError, PolicySet, SettingError
from archroute.dispatch import Dispatch, Model, Needs, Request, Route, RouteTable, SessionStore, Split, Turn, bind
from archroute.errors import TargetTimeoutError
from archroute.observe import Observer, TurnRecord, Usage
from archroute.serving import ModelInfo
from tests.records import Records
from tests.targets import AASK, ASK, ASTREAM, FORMS, STREAM, FakeTarget, decision, serve


def begin(
    table: RouteTable[FakeTarget],
    request: Request | None = None,
    dispatch: Dispatch | None = None,
    made: Decision | None = None,
) -> Turn[FakeTarget]:
    return (dispatch or Dispatch()).begin(table, request or Request(), lambda earlier: earlier or made or decision())


def outcomes(turn: Turn[FakeTarget]) -> list[tuple[str, str]]:
    return [(attempt.target, attempt.outcome) for attempt in turn.decision.attempts]


def asked_of(conversation: str, session: str | None = None, *, in_loop: bool = False) -> Request:
    return Request.of(Conversation.from_text(conversation), session=session, in_loop=in_loop)


@pytest.mark.parametrize("form", FORMS)
class TestFallbacks:
    @pytest.mark.parametrize("failing", range(5))
    async def test_every_position_of_failure(self, form: str, failing: int) -> None:
        names = ["target", "fallback", "second", "default"]
        targets = [FakeTarget(name, fails=number < failing) for number, name in enumerate(names)]
        table = RouteTable([Route("tax", "Tax law", target=targets[0], fallbacks=targets[1:3])], default=targets[3])
        turn = begin(table)
        if failing == len(targets):
            with pytest.raises(ConnectionError, match="default is down") as raised:
                await serve(turn, form)
            assert "target: ConnectionError, fallback: ConnectionError" in raised.value.__notes__[0]
            assert turn.decision.target is None
        else:
            assert await serve(turn, form) == names[failing] == turn.decision.target
        expected = [(name, "failed") for name in names[:failing]] + [
            (name, "served") for name in names[failing : failing + 1]
        ]
        assert outcomes(turn) == expected
        assert [target.calls for target in targets] == [1] * len(expected) + [0] * (4 - len(expected))

    async def test_a_route_may_keep_its_failures_from_the_default(self, form: str) -> None:
        default = FakeTarget("default")
        route = Route("tax", "Tax law", target=FakeTarget("target", fails=True), on_failure="raise")
        with pytest.raises(ConnectionError, match="target is down"):
            await serve(begin(RouteTable([route], default)), form)
        assert default.calls == 0

    async def test_of_a_split_the_other_side_stands_in(self, form: str) -> None:
        split = Split({"old": FakeTarget("old"), "new": FakeTarget("new", fails=True)}, {"old": 0.0, "new": 1.0})
        table = RouteTable([Route("tax", "Tax law", target=split)], FakeTarget("default"))
        assert await serve(begin(table), form) == "default"  # a side without a share is off
        table.change_shares("tax", {"old": 0.5, "new": 0.5})
        assert {await serve(begin(table), form) for _ in range(20)} == {"old"}

    async def test_what_fits_no_policy_is_the_defaults(self, form: str) -> None:
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("target"))], FakeTarget("default"))
        turn = begin(table, made=decision("other", "other"))
        assert await serve(turn, form) == "default"
        assert outcomes(turn) == [("default", "served")]

    async def test_a_target_that_takes_too_long(self, form: str) -> None:
        slow = FakeTarget("slow", delay=30)
        table = RouteTable([Route("tax", "Tax law", target=slow, fallbacks=[FakeTarget("fast")], timeout=0.05)], slow)
        turn = begin(table)
        assert await serve(turn, form) == "fast"
        assert outcomes(turn) == [("slow", "timed_out"), ("fast", "served")]

    async def test_all_take_too_long(self, form: str) -> None:
        route = Route("tax", "Tax law", target=FakeTarget("slow", delay=30), timeout=0.05, on_failure="raise")
        with pytest.raises(TargetTimeoutError, match=r"'tax': no answer within 0\.05 s"):
            await serve(begin(RouteTable([route], FakeTarget("default"))), form)

    async def test_a_targets_own_timeout_is_a_failure(self, form: str) -> None:
        class Impatient(FakeTarget):
            def _begin(self) -> None:
                raise TimeoutError

        table = RouteTable([Route("tax", "Tax law", target=Impatient("target"), timeout=5)], FakeTarget("default"))
        turn = begin(table)
        assert await serve(turn, form) == "default"
        assert turn.decision.attempts[0].outcome == "failed"

    async def test_signals_of_a_framework_pass_at_once(self, form: str) -> None:
        class Table(RouteTable[FakeTarget]):
            signals = (ConnectionError,)

        default, notes = FakeTarget("default"), Records()
        turn = begin(
            Table([Route("tax", "Tax law", target=FakeTarget("target", fails=True))], default),
            dispatch=Dispatch(observers=[notes]),
        )
        with pytest.raises(ConnectionError):
            await serve(turn, form)
        assert default.calls == 0
        assert outcomes(turn) == [("target", "left")]
        assert notes.turns[0].outcome == "left"

    async def test_a_target_that_cant_take_the_request_is_passed_over(self, form: str) -> None:
        blind = Model("blind", FakeTarget("blind"), ModelInfo(images=False))
        short = Model("short", FakeTarget("short"), ModelInfo(images=True, context=100))
        table = RouteTable([Route("tax", "Tax law", target=blind, fallbacks=[short])], FakeTarget("default"))
        turn = begin(table, Request(needs=Needs(images=True, tokens=150)))
        assert await serve(turn, form) == "default"
        assert [attempt.cause for attempt in turn.decision.attempts] == [
            "it takes no images",
            "about 150 tokens are more than its 100",
            None,
        ]

    async def test_if_none_can_the_first_is_asked_all_the_same(self, form: str) -> None:
        bare = Model("bare", FakeTarget("bare"), ModelInfo(tools=False))
        turn = begin(RouteTable([Route("tax", "Tax law", target=bare)], bare), Request(needs=Needs(tools=True)))
        assert await serve(turn, form) == "bare"
        assert outcomes(turn) == [("bare", "passed_over"), ("bare", "served")]

    async def test_a_circuit_that_is_open_is_passed_over(self, form: str) -> None:
        down = FakeTarget("down", fails=True)
        table = RouteTable([Route("tax", "Tax law", target=down)], FakeTarget("default"))
        dispatch = Dispatch(breaker_failures=2, breaker_cooldown=0.2)
        for _ in range(4):
            assert await serve(last := begin(table, dispatch=dispatch), form) == "default"
        assert down.calls == 2
        assert outcomes(last) == [("down", "passed_over"), ("default", "served")]
        assert dispatch.stats()["circuits"] == {"down": "open", "default": "closed"}
        await asyncio.sleep(0.25)
        down.fails = False
        assert await serve(begin(table, dispatch=dispatch), form) == "down"
        assert dispatch.stats()["circuits"]["down"] == "closed"


@pytest.mark.parametrize("form", ["stream", "astream"])
class TestStreams:
    async def test_never_another_target_behind_the_first_piece(self, form: str) -> None:
        default, notes = FakeTarget("default"), Records()
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("target", breaks_after=2))], default)
        turn = begin(table, dispatch=Dispatch(observers=[notes]))
        with pytest.raises(ConnectionError, match="broke off"):
            await serve(turn, form)
        assert default.calls == 0
        assert notes.turns[0].decision.attempts[0].cause == "ConnectionError in its stream"
        assert (notes.turns[0].outcome, notes.turns[0].target) == ("failed", None)

    async def test_a_failure_at_the_first_piece_is_another_targets_turn(self, form: str) -> None:
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("x", breaks_after=0))], FakeTarget("default"))
        assert await serve(begin(table), form) == "default"

    async def test_an_empty_stream_is_an_answer(self, form: str) -> None:
        turn = begin(RouteTable([Route("tax", "Tax law", target=FakeTarget(""))], FakeTarget("default")))
        assert await serve(turn, form) == ""


async def test_leaving_a_stream_ends_the_targets() -> None:
    closed: list[str] = []

    class Closing(FakeTarget):
        def stream(self) -> Any:
            try:
                yield from "abc"
            finally:
                closed.append("sync")

        async def astream(self) -> Any:
            try:
                for letter in "abc":
                    yield letter
            finally:
                closed.append("async")

    notes = Records()
    table, dispatch = (
        RouteTable([Route("tax", "Tax law", target=Closing("x"))], Closing("y")),
        Dispatch(observers=[notes]),
    )
    pieces = begin(table, dispatch=dispatch).stream(STREAM)
    assert next(pieces) == "a"
    pieces.close()  # type: ignore[attr-defined]
    later = begin(table, dispatch=dispatch).astream(ASTREAM)
    assert await anext(later) == "a"
    await later.aclose()  # type: ignore[attr-defined]
    assert closed == ["sync", "async"]
    assert [record.outcome for record in notes.turns] == ["left", "left"]


async def test_a_cancelled_call_is_left_and_no_failure() -> None:
    notes, target = Records(), FakeTarget("slow", delay=30)
    dispatch = Dispatch(observers=[notes], breaker_failures=1)
    turn = begin(RouteTable([Route("tax", "Tax law", target=target)], target), dispatch=dispatch)
    task = asyncio.create_task(turn.arun(AASK))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (notes.turns[0].outcome, notes.turns[0].cause) == ("left", "CancelledError")
    assert dispatch.stats()["circuits"] == {"slow": "closed"}


@pytest.mark.parametrize("form", FORMS)
class TestSessions:
    async def test_a_session_stays_on_its_side(self, form: str) -> None:
        split = Split({"old": FakeTarget("old"), "new": FakeTarget("new")}, {"old": 0.5, "new": 0.5})
        table, dispatch = RouteTable([Route("tax", "Tax law", target=split)], FakeTarget("default")), Dispatch()
        sides = {}
        for user in range(40):
            seen = {await serve(begin(table, Request(session=str(user)), dispatch), form) for _ in range(3)}
            assert len(seen) == 1
            sides[user] = seen.pop()
        assert set(sides.values()) == {"old", "new"}

    async def test_without_a_session_every_turn_draws_its_side(self, form: str) -> None:
        split = Split({"old": FakeTarget("old"), "new": FakeTarget("new")}, {"old": 0.5, "new": 0.5})
        table = RouteTable([Route("tax", "Tax law", target=split)], FakeTarget("default"))
        assert {await serve(begin(table, asked_of("hi")), form) for _ in range(40)} == {"old", "new"}

    @pytest.mark.parametrize("session", [None, "user-1"])
    async def test_a_tool_loop_stays_with_who_began_it(self, form: str, session: str | None) -> None:
        split = Split({"old": FakeTarget("old"), "new": FakeTarget("new")}, {"old": 0.5, "new": 0.5})
        flaky = FakeTarget("flaky", fails=True)
        routes = [
            Route("tax", "Tax law", target=split),
            Route("travel", "Trips", target=flaky, fallbacks=[split.models["new"]]),
        ]
        table, dispatch = RouteTable(routes, FakeTarget("default")), Dispatch()
        for number in range(10):
            begun = begin(table, asked_of(f"VAT {number}", session), dispatch)
            first = await serve(begun, form)
            for _ in range(3):
                again = begin(table, asked_of(f"VAT {number}", session, in_loop=True), dispatch, decision("other"))
                assert (await serve(again, form), again.reused, again.decision.route) == (first, True, "tax")
        assert await serve(begin(table, asked_of("A trip", session), dispatch, decision("travel")), form) == "new"
        flaky.fails = False  # the provider's tool calls are in the conversation by now
        assert await serve(begin(table, asked_of("A trip", session, in_loop=True), dispatch), form) == "new"
        assert await serve(begin(table, asked_of("Another", session), dispatch, decision("travel")), form) == "flaky"

    async def test_a_turn_within_a_loop_is_another_turn(self, form: str) -> None:
        split = Split({"old": FakeTarget("old"), "new": FakeTarget("new")}, {"old": 0.5, "new": 0.5})
        routes = [Route("tax", "Tax law", target=split), Route("travel", "Trips", target=FakeTarget("travel"))]
        table, dispatch = RouteTable(routes, FakeTarget("default")), Dispatch(switch_cost=0.0)
        await serve(begin(table, asked_of("VAT", "user-1"), dispatch), form)
        travel = decision("travel", probabilities={"tax": 0.1, "travel": 0.8, "other": 0.1})
        await serve(begin(table, asked_of("A tool asks for a trip", "user-1"), dispatch, travel), form)
        assert begin(table, asked_of("VAT", "user-1", in_loop=True), dispatch, travel).reused

    async def test_a_session_moves_only_when_it_is_worth_it(self, form: str) -> None:
        routes = [Route(name, f"About {name}", target=FakeTarget(name)) for name in ("tax", "travel")]
        table, dispatch = RouteTable(routes, FakeTarget("default")), Dispatch(switch_cost=0.4)

        def made(tax: float, travel: float) -> Decision:
            probabilities = {"tax": tax, "travel": travel, "other": 1 - tax - travel}
            return decision("tax" if tax > travel else "travel", probabilities=probabilities)

        async def asked(tax: float, travel: float, session: str = "user-1") -> tuple[str, str]:
            turn = begin(table, Request(session=session), dispatch, made(tax, travel))
            return await serve(turn, form), turn.decision.reason

        assert await asked(0.8, 0.1) == ("tax", "matched")
        assert await asked(0.3, 0.6) == ("tax", "sticky")
        assert await asked(0.3, 0.6, session="user-2") == ("travel", "matched")
        assert await asked(0.1, 0.8) == ("travel", "matched")
        assert await asked(0.5, 0.4) == ("travel", "sticky")
        failed = begin(table, Request(session="user-1"), dispatch, decision("other", "error", probabilities={}))
        assert await serve(failed, form) == "default"

    async def test_a_route_that_is_gone_is_decided_anew(self, form: str) -> None:
        dispatch = Dispatch(switch_cost=0.9)
        before = RouteTable([Route("travel", "Trips", target=FakeTarget("travel"))], FakeTarget("default"))
        after = RouteTable([Route("tax", "Tax law", target=FakeTarget("tax"))], FakeTarget("default"))
        assert await serve(begin(before, asked_of("hi", "u"), dispatch, decision("travel")), form) == "travel"
        turn = begin(
            after,
            asked_of("hi", "u", in_loop=True),
            dispatch,
            decision("tax", probabilities={"tax": 0.9, "other": 0.1}),
        )
        assert await serve(turn, form) == "tax"
        assert turn.decision.reason == "matched"

    async def test_a_store_that_fails_costs_nothing_but_memory(
        self, form: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Broken(SessionStore):
            def get(self, key: str) -> Decision | None:
                raise ConnectionError("redis://user:password@host")

            def put(self, key: str, decision: Decision) -> None:
                raise ConnectionError("redis://user:password@host")

        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("tax"))], FakeTarget("default"))
        dispatch = Dispatch(store=Broken(), switch_cost=0.1)
        for _ in range(5):
            assert await serve(begin(table, asked_of("VAT", "user-1", in_loop=True), dispatch), form) == "tax"
        assert "ConnectionError" in caplog.text
        assert "password" not in caplog.text


@pytest.mark.parametrize("form", FORMS)
class TestShadows:
    async def test_a_shadow_is_asked_and_its_answer_dropped(self, form: str) -> None:
        notes, shadow = Records(), FakeTarget("shadow")
        route = Route("tax", "Tax law", target=FakeTarget("target"), shadows=[shadow, FakeTarget("broken", fails=True)])
        dispatch = Dispatch(observers=[notes])
        turn = begin(RouteTable([route], FakeTarget("default")), dispatch=dispatch)
        assert await serve(turn, form, shadow=True) == "target"
        await until(lambda: len(notes.shadows) == 2)
        told = {record.target: (record.turn, record.outcome, record.cause) for record in notes.shadows}
        assert told == {"shadow": (turn.id, "served", None), "broken": (turn.id, "failed", "ConnectionError")}
        assert dispatch.stats()["shadows"]["shadow"]["served"] == 1
        assert outcomes(turn) == [("target", "served")]

    async def test_a_slow_one_slows_nothing(self, form: str) -> None:
        notes = Records()
        route = Route("tax", "Tax law", target=FakeTarget("target"), shadows=[FakeTarget("slow", delay=3)])
        table, dispatch = RouteTable([route], FakeTarget("default")), Dispatch(observers=[notes], shadow_limit=2)
        start = time.monotonic()
        for _ in range(5):
            assert await serve(begin(table, dispatch=dispatch), form, shadow=True) == "target"
        assert time.monotonic() - start < 2
        assert [record.outcome for record in notes.shadows] == ["passed_over"] * 3


async def until(true: Any, seconds: float = 5.0) -> None:
    for _ in range(int(seconds / 0.01)):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to pass")


class TestRecords:
    class Table(RouteTable[FakeTarget]):
        def usage_of(self, answer: Any) -> Usage | None:
            return Usage(input_tokens=1_000_000, output_tokens=len(answer))

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_turns_record(self, form: str) -> None:
        notes = Records()
        split = Split(
            {
                "old": Model("old", FakeTarget("old"), ModelInfo(input_price=2, output_price=4)),
                "new": Model("new", FakeTarget("new"), ModelInfo(input_price=1, output_price=4)),
            },
            {"old": 1.0, "new": 0.0},
        )
        dispatch = Dispatch(observers=[notes])
        table = self.Table([Route("tax", "Tax law", target=split)], FakeTarget("default"))
        table.change_shares("tax", {"new": 1.0})
        await serve(begin(table, asked_of("hello", "user-1"), dispatch), form)
        table.change_shares("tax", {"old": 1.0})
        turn = begin(table, asked_of("hello", "user-1"), dispatch)
        await serve(turn, form)
        record = notes.turns[-1]
        assert (record.id, record.session, record.route, record.rule, record.target) == (
            turn.id,
            "user-1",
            "tax",
            "matched",
            "old",
        )
        assert record.decision == turn.decision
        assert record.text is None
        assert record.cost == pytest.approx(2, abs=1e-4)
        (other,) = record.counterfactual
        assert (other.target, other.role, other.cost) == ("new", "arm", pytest.approx(1, abs=1e-4))
        assert other.latency_ms == notes.turns[0].decision.attempts[0].latency_ms
        stats = dispatch.stats()
        assert stats["turns"] == stats["routes"]["tax"] == stats["rules"]["matched"] == stats["outcomes"]["served"] == 2
        assert stats["targets"]["old"]["cost"] == record.cost

    async def test_no_record_holds_a_key(self) -> None:
        notes = Records()
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("x", fails=True))], FakeTarget("y", fails=True))
        with pytest.raises(ConnectionError):
            begin(table, dispatch=Dispatch(observers=[notes])).run(ASK)
        assert "sk-secret" not in notes.turns[0].model_dump_json()

    async def test_text_if_it_is_asked_for(self) -> None:
        notes = Records()
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("x"))], FakeTarget("y"))
        begin(table, asked_of("What is VAT?"), Dispatch(observers=[notes], keep_text=True)).run(ASK)
        assert notes.turns[0].text == "What is VAT?"

    async def test_an_observer_that_fails_loses_no_turn(self, caplog: pytest.LogCaptureFixture) -> None:
        class Failing(Observer):
            def turn_began(self) -> None:
                raise RuntimeError

            def turn_ended(self, record: TurnRecord, began: Any) -> None:
                raise RuntimeError

        notes = Records()
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("x"))], FakeTarget("y"))
        with caplog.at_level(logging.ERROR, "archroute"):
            assert begin(table, dispatch=Dispatch(observers=[Failing(), notes])).run(ASK) == "x"
        assert len(notes.turns) == 1
        assert "an observer failed" in caplog.text


class TestTables:
    def test_an_object_is_one_wherever_it_stands(self) -> None:
        one, other = FakeTarget("same"), FakeTarget("same")
        table = RouteTable(
            [Route("tax", "Tax law", target=one, fallbacks=[other]), Route("travel", "Trips", target=one)], one
        )
        assert [model.name for model in table.models] == ["same#2", "same"]
        assert [model.name for model in table.serving("tax", "")] == ["same", "same#2"]

    def test_names_that_are_given_stay(self) -> None:
        table = RouteTable([Route("tax", "Tax law", target=Model("gpt-5", FakeTarget("x")))], FakeTarget("gpt-5"))
        assert [model.name for model in table.models] == ["gpt-5", "gpt-5#2"]
        with pytest.raises(PolicyError, match="two targets are named 'gpt-5'"):
            RouteTable(
                [Route("tax", "Tax law", target=Model("gpt-5", FakeTarget("x")))], Model("gpt-5", FakeTarget("y"))
            )

    def test_a_mapped_table_keeps_names_shares_and_settings(self) -> None:
        split = Split({"old": FakeTarget("a"), "new": FakeTarget("b")}, {"old": 1.0, "new": 0.0})
        route = Route("tax", "Tax law", target=split, fallbacks=[FakeTarget("c")], timeout=3, on_failure="raise")
        table = RouteTable([route], FakeTarget("d"))
        places = []

        def change(target: FakeTarget, place: str) -> FakeTarget:
            places.append(place)
            return FakeTarget(target.__name__.upper())

        mapped = table.mapped(change)
        assert [(model.name, model.target.__name__) for model in mapped.models] == [
            ("old", "A"),
            ("new", "B"),
            ("c", "C"),
            ("d", "D"),
        ]
        assert places == [
            "target 'old' of route 'tax'",
            "target 'new' of route 'tax'",
            "fallback of route 'tax'",
            "the default",
        ]
        assert mapped.policies.serving == table.policies.serving
        table.change_shares("tax", {"new": 1.0})
        assert mapped.serving("tax", "key")[0].name == "new"

    def test_shares_of_no_split(self) -> None:
        table = RouteTable([Route("tax", "Tax law", target=FakeTarget("x"))], FakeTarget("y"))
        for route in ("tax", "travel"):
            with pytest.raises(PolicyError, match="has no split"):
                table.change_shares(route, {"x": 1.0})

    def test_reprs_show_no_target(self) -> None:
        secret = FakeTarget("sk-secret")
        shown = [
            Model("gpt-5", secret),
            Split({"a": secret}, {"a": 1.0}),
            Route("tax", "Tax", target=Model("m", secret)),
        ]
        assert "sk-secret" not in repr(shown)

    def test_a_file_binds_names(self) -> None:
        made: list[str] = []

        def object_of(name: str, wanted_by: str) -> FakeTarget:
            made.append(f"{name} for {wanted_by}")
            return FakeTarget(name)

        policies = PolicySet.from_yaml("""
policies:
  - {name: tax, description: Tax law, models: {a: 0.9, b: 0.1}, fallbacks: [c], shadows: [d], timeout: 3, on_failure: raise}
  - {name: travel, description: Trips, models: [c, a]}
  - {name: own, description: Bound in code}
default: c
models:
  a: {context: 1000}
""")
        routes, default = bind(policies, object_of, targets={"own": FakeTarget("mine")})
        table: RouteTable[FakeTarget] = RouteTable(routes, default)
        assert made == [*(f"{name} for policy 'tax'" for name in "abcd")]
        assert [model.name for model in table.models] == ["a", "b", "d", "mine", "c"]
        assert {model.name for model in table.serving("tax", "k")[:2]} == {"a", "b"}
        assert [model.name for model in table.serving("tax", "k")[2:]] == ["c"]
        assert [model.name for model in table.serving("travel", "k")] == ["c", "a"]
        assert [model.name for model in table.shadows("tax")] == ["d"]
        assert table.named("a").info.context == 1000  # type: ignore[union-attr]

    @pytest.mark.parametrize("settings", [{"timeout": 0}, {"min_confidence": 2}, {"on_failure": "ignore"}], ids=str)
    def test_impossible_settings_of_a_route(self, settings: dict[str, Any]) -> None:
        with pytest.raises(PolicyError):
            Route("tax", "Tax law", target=FakeTarget("x"), **settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {"switch_cost": 2},
            {"breaker_failures": 0},
            {"breaker_cooldown": 0},
            {"shadow_limit": 0},
            {"shadow_timeout": 0},
        ],
        ids=str,
    )
    def test_impossible_settings_of_dispatch(self, settings: dict[str, Any]) -> None:
        with pytest.raises(SettingError):
            Dispatch(**settings)


def test_a_stream_that_comes_too_late_is_closed() -> None:
    closed = threading.Event()

    class Late(FakeTarget):
        def stream(self) -> Any:
            try:
                time.sleep(0.2)
                yield "late"
            finally:
                closed.set()

    table = RouteTable([Route("tax", "Tax law", target=Late("x"), timeout=0.05)], FakeTarget("default"))
    assert "".join(begin(table).stream(STREAM)) == "default"
    assert closed.wait(5)
