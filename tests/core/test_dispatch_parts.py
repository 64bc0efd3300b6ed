"""The parts that dispatch is made of: splits, circuit breakers, what a target can take, and what tells one request from another."""

from __future__ import annotations

import asyncio
import contextvars
import math
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archroute import Conversation, PolicyError, SettingError
from archroute.dispatch.breaker import Breaker
from archroute.dispatch.feasibility import Needs, estimated_tokens, obstacle
from archroute.dispatch.models import Model
from archroute.dispatch.request import Request, session
from archroute.dispatch.split import Shares, Split
from archroute.serving import ModelInfo

# Splits

KEYS = [f"user-{number}" for number in range(1500)]
WEIGHTS = st.lists(st.integers(0, 100), min_size=1, max_size=5).filter(any)


def shares_of(weights: list[int]) -> dict[str, float]:
    return {name: weight / sum(weights) for name, weight in zip("abcde", weights, strict=False)}


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_each_name_gets_its_share_of_the_keys(weights: list[int]):
    shares = shares_of(weights)
    counted = Counter(map(Shares(shares).choose, KEYS))
    for name, share in shares.items():
        expected, deviation = len(KEYS) * share, math.sqrt(len(KEYS) * share * (1 - share))
        assert abs(counted[name] - expected) <= 6 * deviation + (3 if 0 < share < 1 else 1e-6)


@given(WEIGHTS, st.text(max_size=30))
def test_the_same_key_is_always_on_the_same_side(weights: list[int], key: str):
    shares = shares_of(weights)
    side = Shares(shares).choose(key)
    assert shares[side] > 0
    assert Shares(dict(reversed(shares.items()))).choose(key) == side  # the order of the names tells nothing


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=5))
def test_keys_move_only_to_names_whose_share_grows_relative_to_that_of_their_own(weights: list[tuple[int, int]]):
    before, after = [old for old, _ in weights], [new for _, new in weights]
    assume(any(before) and any(after))
    shares = Shares(shares_of(before))
    old = {key: shares.choose(key) for key in KEYS[:300]}
    shares.change(shares_of(after))
    grown = dict(zip("abcde", weights, strict=False))
    for key, left in old.items():
        joined = shares.choose(key)
        if joined != left:
            assert grown[joined][1] * grown[left][0] > grown[left][1] * grown[joined][0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=6).map(sorted))
def test_a_canary_that_grows_keeps_every_user_it_has(percents: list[int]):
    shares = Shares({"gpt-5": 1.0, "new": 0.0})
    users: set[str] = set()
    for percent in percents:
        shares.change({"gpt-5": 1 - percent / 100, "new": percent / 100})
        now = {key for key in KEYS[:200] if shares.choose(key) == "new"}
        assert users <= now
        users = now
    shares.change({"new": 1.0})
    assert {shares.choose(key) for key in KEYS} == {"new"}


def test_two_splits_cut_the_users_in_different_ways():
    one, another = Shares({"a": 0.5, "b": 0.5}), Shares({"c": 0.5, "d": 0.5})
    together = Counter((one.choose(key), another.choose(key)) for key in KEYS)
    assert len(together) == 4
    assert min(together.values()) > len(KEYS) / 4 * 0.8


def test_the_sides_are_those_of_every_process_and_release():
    shares = Shares({"gpt-5": 0.7, "new": 0.3})
    assert "".join(shares.choose(f"user-{number}")[0] for number in range(32)) == "nggngngngggggggggnggngngnggggngg"


def test_a_key_with_half_a_character_has_a_side():
    assert Shares({"a": 0.5, "b": 0.5}).choose("user \ud83d") in "ab"


def test_who_stands_in_has_a_share_the_largest_first():
    shares = Shares({"a": 0.1, "b": 0.6, "c": 0.3, "d": 0.0})
    for key in KEYS[:50]:
        first, *others = shares.ranked(key)
        assert first == shares.choose(key)
        assert others == [name for name in "bca" if name != first]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({}, "shares of no target sum to 0"),
        ({"a": 0.5}, "sum to 0.5"),
        ({"a": 0.5, "b": 0.6}, "shares of a, b sum to 1.1"),
        ({"a": 1.5, "b": -0.5}, "share of 'a' is 1.5"),
        ({"a": -0.1, "b": 1.0}, "share of 'a' is -0.1"),
        ({"a": math.nan, "b": 1.0}, "share of 'a' is nan"),
        ({"a": True}, "share of 'a' is True"),
        ({"a": "all"}, "share of 'a' is 'all'"),
    ],
)
def test_bad_shares_are_refused_and_change_nothing(wrong: dict[str, float], told: str):
    with pytest.raises(PolicyError, match=told) as caught:
        Shares(wrong)
    assert caught.value.hint
    shares = Shares({"a": 0.75, "b": 0.25})
    with pytest.raises(PolicyError):
        shares.change(wrong)
    assert shares.current == {"a": 0.75, "b": 0.25}


def test_shares_written_in_decimals_need_not_sum_exactly():
    assert Shares(dict.fromkeys("abcdefghij", 0.1)).choose("user-1") in "abcdefghij"


def test_shares_of_unknown_names_are_refused():
    with pytest.raises(PolicyError, match="no target c, d") as caught:
        Shares({"a": 0.5, "b": 0.5}).change({"d": 0.5, "c": 0.5})
    assert caught.value.hint == "there are a, b"


def test_what_is_current_is_a_copy():
    shares = Shares({"a": 1.0, "b": 0.0})
    shares.current["a"] = 0.0  # type: ignore[index]
    assert shares.current == {"a": 1.0, "b": 0.0}


def test_shares_may_change_while_turns_are_served():
    shares, done = Shares({"a": 1.0, "b": 0.0}), threading.Event()

    def turns() -> set[str]:
        seen = set()
        while not done.is_set():
            seen.update(shares.ranked(key)[0] for key in KEYS[:20])
        return seen

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(turns) for _ in range(4)]
        for number in range(500):
            shares.change({"a": 1.0} if number % 2 else {"b": 1.0})
        done.set()
        assert all(turn.result() <= {"a", "b"} for turn in running)


def test_a_split_has_a_model_for_each_share():
    given_one = Model("gpt-5-2025", print, ModelInfo(images=True))
    split = Split({"gpt-5": given_one, "new": len}, {"gpt-5": 0.95, "new": 0.05})
    assert split.models["gpt-5"] is given_one
    assert split.models["new"] == Model("new", len)


def test_a_split_refuses_other_names_than_its_shares():
    with pytest.raises(PolicyError, match="a, b have shares for a, c") as caught:
        Split({"a": print, "b": len}, {"a": 0.5, "c": 0.5})
    assert caught.value.hint


def test_a_split_over_other_objects_follows_the_same_shares():
    split = Split({"a": "x", "b": "y"}, {"a": 1.0, "b": 0.0})
    louder = split.mapped(lambda model: Model(model.name, model.target.upper()))
    assert {name: model.target for name, model in louder.models.items()} == {"a": "X", "b": "Y"}
    split.shares.change({"b": 1.0})
    assert louder.shares.choose("user-1") == "b"


def test_no_target_is_in_the_repr_of_a_split_or_a_model():
    split = Split({"a": "sk-secret", "b": Model("b", "sk-secret")}, {"a": 0.5, "b": 0.5})
    assert repr(split) == "Split({'a': 0.5, 'b': 0.5})"
    assert "secret" not in repr(split.models)


# Circuit breakers


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    """One that opens after three failures, for ten seconds."""
    return Breaker(failures=3, cooldown=10, clock=clock)


def opened(breaker: Breaker) -> None:
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.state == "open"


def test_it_opens_after_failures_in_a_row(breaker: Breaker):
    for _ in range(2):
        breaker.failed()
    assert (breaker.state, breaker.allows()) == ("closed", True)
    breaker.failed()
    assert (breaker.state, breaker.allows()) == ("open", False)


def test_a_success_between_failures_begins_the_row_anew(breaker: Breaker):
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        breaker.succeeded()
    assert breaker.state == "closed"


def test_after_its_cooldown_one_call_at_a_time_passes(breaker: Breaker, clock: Clock):
    opened(breaker)
    clock.now = 9.9
    assert (breaker.state, breaker.allows()) == ("open", False)
    clock.now = 10
    assert breaker.state == "half_open"
    assert [breaker.allows() for _ in range(3)] == [True, False, False]


def test_the_success_of_that_call_closes_it(breaker: Breaker, clock: Clock):
    opened(breaker)
    clock.now = 10
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.state == "closed"
    opened(breaker)  # after three failures again, no fewer


def test_the_failure_of_that_call_opens_it_again(breaker: Breaker, clock: Clock):
    opened(breaker)
    clock.now = 10
    assert breaker.allows()
    breaker.failed()
    assert (breaker.state, breaker.allows()) == ("open", False)
    clock.now = 20
    assert breaker.allows()


def test_a_call_that_was_left_makes_room_for_the_next(breaker: Breaker, clock: Clock):
    opened(breaker)
    clock.now = 10
    assert breaker.allows()
    breaker.left()
    assert breaker.state == "half_open"
    assert [breaker.allows() for _ in range(2)] == [True, False]


def test_a_call_that_nobody_told_of_does_not_keep_it_open_for_ever(breaker: Breaker, clock: Clock):
    opened(breaker)
    clock.now = 10
    assert breaker.allows()
    clock.now = 19.9
    assert not breaker.allows()
    clock.now = 20
    assert breaker.allows()


def test_calls_that_were_left_are_no_failures(breaker: Breaker):
    for _ in range(10):
        breaker.left()
    breaker.failed()
    breaker.failed()
    breaker.left()
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"


@given(st.lists(st.sampled_from(["succeeded", "failed", "left", "wait"]), max_size=40))
def test_it_is_the_machine_it_says_it_is(events: list[str]):
    clock = Clock()
    breaker = Breaker(failures=3, cooldown=10, clock=clock)
    state, row, opens_until = "closed", 0, 0.0
    for event in events:
        if event == "wait":
            clock.now += 4
        else:
            allowed = breaker.allows()
            assert allowed == (state != "open")
            if allowed:
                getattr(breaker, event)()
                if event == "succeeded":
                    state, row = "closed", 0
                elif event == "failed":
                    row += 1
                    if state == "half_open" or row >= 3:
                        state, opens_until = "open", clock.now + 10
        if state == "open" and clock.now >= opens_until:
            state = "half_open"
        assert breaker.state == state


def test_of_many_threads_one_tries_it(breaker: Breaker, clock: Clock):
    opened(breaker)
    begin = threading.Barrier(16)

    def call() -> bool:
        begin.wait()
        return breaker.allows()

    for clock.now in (10, 30):
        with ThreadPoolExecutor(16) as pool:
            assert sum(passed.result() for passed in [pool.submit(call) for _ in range(16)]) == 1


def test_no_failure_is_lost_among_threads(clock: Clock):
    breaker = Breaker(failures=1000, cooldown=10, clock=clock)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(999):
            pool.submit(breaker.failed)
    assert breaker.state == "closed"
    breaker.failed()
    assert breaker.state == "open"


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"cooldown": 0.0}, {"cooldown": -1.0}])
def test_a_breaker_refuses_what_is_not_positive(wrong: Mapping[str, int]):
    with pytest.raises(SettingError, match="positive"):
        Breaker(**wrong)


# What a target can take


@pytest.mark.parametrize(
    ("info", "needs", "told"),
    [
        (ModelInfo(images=False), Needs(images=True), "it takes no images"),
        (ModelInfo(tools=False), Needs(tools=True), "it calls no tools"),
        (ModelInfo(context=100), Needs(tokens=101), "about 101 tokens are more than its 100"),
        (ModelInfo(context=100), Needs(tokens=100), None),
        (ModelInfo(images=True, tools=True), Needs(images=True, tools=True), None),
        (ModelInfo(images=False, tools=False, context=10), Needs(tokens=5), None),
        (ModelInfo(images=False, tools=False), Needs(images=True, tools=True), "it takes no images"),
    ],
)
def test_a_target_that_cannot_take_a_request_says_why(info: ModelInfo, needs: Needs, told: str | None):
    assert obstacle(info, needs) == told


def test_what_is_not_known_of_a_target_stands_in_no_ones_way():
    assert obstacle(ModelInfo(), Needs(images=True, tools=True, tokens=10**9)) is None


def test_tokens_are_estimated_a_little_high():
    assert [estimated_tokens(characters) for characters in (0, 1, 4, 5, 4000)] == [0, 1, 1, 2, 1000]


def test_what_is_known_here_goes_over_what_is_known_there():
    declared, read = ModelInfo(images=False, context=1000), ModelInfo(images=True, tools=True, input_price=2.0)
    assert declared.over(read) == ModelInfo(images=False, tools=True, context=1000, input_price=2.0)
    assert ModelInfo().over(read) == read.over(ModelInfo()) == read


def test_zero_and_false_are_known():
    free = ModelInfo(tools=False, input_price=0.0, output_price=0.0)
    assert free.over(ModelInfo(tools=True, input_price=1.0, output_price=1.0)) == free
    assert free.cost(1000, 1000) == 0.0


def test_a_price_is_that_of_a_million_tokens():
    assert ModelInfo(input_price=2.0, output_price=10.0).cost(500_000, 100_000) == 2.0


@pytest.mark.parametrize("info", [ModelInfo(), ModelInfo(input_price=1.0), ModelInfo(output_price=1.0)])
def test_without_both_prices_there_is_no_cost(info: ModelInfo):
    assert info.cost(1, 1) is None


# What tells one request from another

ASKED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Which flights go to Lisbon?"},
]
CALLED = {"role": "assistant", "content": "", "tool_calls": [{"name": "search"}]}
RESULT = {"role": "tool", "content": "TP 571, 14:05"}


def request(*messages: Mapping[str, object], **more: object) -> Request:
    return Request.of(Conversation.from_messages(messages), **more)  # type: ignore[arg-type]


def test_a_tool_loop_is_one_turn():
    before, amid = request(*ASKED), request(*ASKED, CALLED, RESULT, in_loop=True)
    assert before.turn == amid.turn
    assert (before.in_loop, amid.in_loop) == (False, True)
    spoken = request(*ASKED, {"role": "assistant", "content": "I'll look."}, RESULT)
    assert spoken.turn == before.turn
    assert spoken.in_loop  # the assistant has spoken since
    assert before.text == amid.text == "Which flights go to Lisbon?"


def test_the_next_turn_is_another_even_with_the_same_words():
    answered = [*ASKED, {"role": "assistant", "content": "TP 571."}]
    first, second = request(*ASKED), request(*answered, ASKED[1])
    assert first.turn != second.turn
    assert not second.in_loop


@given(*[st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.text(max_size=5)), max_size=4)] * 2)
def test_turns_are_the_same_only_where_the_conversation_up_to_the_user_is(
    one: list[tuple[str, str]], another: list[tuple[str, str]]
):
    def read(spoken: list[tuple[str, str]]) -> tuple[Request, tuple[object, ...]]:
        conversation = Conversation.from_messages([{"role": role, "content": text} for role, text in spoken])
        users = [number for number, turn in enumerate(conversation.turns) if turn.role == "user"]
        return Request.of(conversation), conversation.turns[: users[-1] + 1 if users else 0]

    (first, first_turns), (second, second_turns) = read(one), read(another)
    assert (first.turn == second.turn) == (first_turns == second_turns)


def test_the_borders_of_messages_count():
    def turn(*texts: str) -> str:
        return request(*({"role": "user", "content": text} for text in texts)).turn

    assert len({turn("ab", "c"), turn("a", "bc"), turn("abc"), turn("a5:b", "c"), turn("a", "user2:bc")}) == 5


def test_half_a_character_is_text():
    assert request({"role": "user", "content": "\ud83d"}).turn


@pytest.mark.parametrize("conversation", [None, Conversation(()), Conversation.from_messages([ASKED[0], RESULT])])
def test_without_a_user_turn_nothing_tells_a_request_from_others(conversation: Conversation | None):
    unread = Request.of(conversation, in_loop=True, needs=Needs(images=True))
    assert unread == Request(in_loop=True, needs=Needs(images=True))
    assert (unread.turn_key, unread.session_key) == (None, None)
    assert Request.of(conversation, session="user-1").session_key == "session:user-1"


def test_a_turn_is_kept_apart_for_every_session():
    keys = {request(*ASKED, session=session).turn_key for session in (None, "user-1", "user-2")}
    assert len(keys) == 3
    assert request(*ASKED).session_key is None
    assert request(*ASKED, session="").session_key == "session:"


# Sessions


def named() -> str | None:
    """The session of a request that says none itself."""
    return request(*ASKED).session


def test_turns_inside_belong_to_the_session():
    assert named() is None
    with session("user-1"):
        assert named() == "user-1"
        with session("user-2"):
            assert named() == "user-2"
        assert named() == "user-1"
    assert named() is None


def test_a_session_ends_with_an_error_too():
    with pytest.raises(KeyError), session("user-1"):
        raise KeyError
    assert named() is None


def test_what_a_request_says_itself_comes_first():
    with session("user-1"):
        assert request(*ASKED, session="user-2").session == "user-2"


def test_threads_have_sessions_of_their_own():
    begin = threading.Barrier(8)

    def turns(user: str) -> set[str | None]:
        with session(user):
            begin.wait()
            return {named() for _ in range(100)}

    with session("outside"), ThreadPoolExecutor(8) as pool:
        users = [f"user-{number}" for number in range(8)]
        assert list(pool.map(turns, users)) == [{user} for user in users]
        assert pool.submit(named).result() is None
        assert pool.submit(contextvars.copy_context().run, named).result() == "outside"


async def test_tasks_have_sessions_of_their_own():
    async def turns(user: str) -> set[str | None]:
        with session(user):
            seen = set()
            for _ in range(10):
                await asyncio.sleep(0)
                seen.add(named())
                seen.add(await asyncio.to_thread(named))
            return seen

    users = [f"user-{number}" for number in range(20)]
    with session("outside"):
        assert await asyncio.gather(*map(turns, users)) == [{user} for user in users]
        assert await asyncio.create_task(asyncio.to_thread(named)) == "outside"
    assert named() is None
