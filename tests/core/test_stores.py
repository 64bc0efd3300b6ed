"""Where sessions are kept: in the process, and in a real Redis server that is also killed and paused."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import a_decision

from archroute import Decision, SettingError
from archroute.dispatch.breaker import Breaker
from archroute.dispatch.redis_store import RedisStore
from archroute.dispatch.sessions import MemoryStore, Sessions, SessionStore

DECISION = a_decision(target="big")
KEY = "session:user-1"


def kept(target: object) -> Decision:
    return a_decision(target=str(target))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


# In the process


def test_memory_keeps_what_was_put_last():
    store = MemoryStore()
    assert store.get("a") is None
    store.put("a", kept(1))
    store.put("a", kept(2))
    store.put("b", kept(3))
    assert (store.get("a"), store.get("b"), len(store)) == (kept(2), kept(3), 2)


def test_memory_forgets_a_session_that_has_no_turn_for_its_time_to_live():
    clock = Clock()
    store = MemoryStore(ttl=10, clock=clock)
    store.put("a", kept(1))
    clock.now = 9
    store.put("a", kept(2))
    clock.now = 18.9
    assert store.get("a") == kept(2)
    clock.now = 19
    assert store.get("a") is None
    assert len(store) == 0


def test_memory_forgets_the_least_recently_used_first():
    store = MemoryStore(max_sessions=2)
    store.put("a", kept(1))
    store.put("b", kept(2))
    assert store.get("a")
    store.put("c", kept(3))
    assert [store.get(key) for key in "abc"] == [kept(1), None, kept(3)]


def test_time_that_is_over_while_memory_is_read_is_no_error():
    moments = iter([0.0, 9.9, 10.1, 10.2])
    store = MemoryStore(ttl=10, clock=lambda: next(moments, 10.2))
    store.put("a", kept(1))
    assert store.get("a") in (kept(1), None)
    assert store.get("a") is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from("abcde"), st.integers(0, 99)),
        st.tuples(st.just("get"), st.sampled_from("abcde"), st.just(0)),
        st.tuples(st.just("wait"), st.just(""), st.integers(1, 12)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(1, 4))
def test_memory_is_a_dict_bounded_by_time_and_size(steps: list[tuple[str, str, int]], size: int):
    clock, ttl = Clock(), 10
    store = MemoryStore(ttl=ttl, max_sessions=size, clock=clock)
    model: OrderedDict[str, tuple[Decision, float]] = (
        OrderedDict()
    )  # least recently used first, each with the time it ends
    for step, key, number in steps:
        if step == "wait":
            clock.now += number
        model = OrderedDict((name, entry) for name, entry in model.items() if clock.now < entry[1])
        if step == "put":
            if key not in model and len(model) == size:
                model.popitem(last=False)
            model[key] = kept(number), clock.now + ttl
            store.put(key, kept(number))
        elif step == "get":
            assert store.get(key) == (model[key][0] if key in model else None)
        if step != "wait" and key in model:
            model.move_to_end(key)
        assert len(store) == len(model)


def hammered(stores: list[SessionStore], keys: int = 20, rounds: int = 60) -> None:
    """One thread to each store, all at once; whatever is read under a key was put under it."""
    begin = threading.Barrier(len(stores))

    def turns(number: int, store: SessionStore) -> None:
        begin.wait()
        for turn in range(rounds):
            key = f"session:{(turn * 7 + number) % keys}"
            store.put(key, kept(f"{key}/{number}/{turn}"))
            found = store.get(key)
            assert found is None or found.target.startswith(f"{key}/")

    with ThreadPoolExecutor(len(stores)) as pool:
        for done in [pool.submit(turns, *each) for each in enumerate(stores)]:
            done.result()


def test_memory_is_safe_under_threads():
    store = MemoryStore(max_sessions=10, ttl=0.01)
    hammered([store] * 8, rounds=500)
    assert len(store) <= 10


async def test_memory_is_the_same_from_async_code():
    store = MemoryStore()
    await store.aput("a", kept(1))
    assert await store.aget("a") == store.get("a") == kept(1)


@pytest.mark.parametrize("wrong", [{"ttl": 0}, {"ttl": -1.0}, {"max_sessions": 0}])
def test_memory_refuses_what_is_not_positive(wrong: dict[str, Any]):
    with pytest.raises(SettingError, match="positive"):
        MemoryStore(**wrong)


# In Redis


class Server:
    """A Redis server of the test's own, which keeps nothing on disk and asks for a password."""

    password = "hunter2"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"redis://:{self.password}@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)  # to look from outside
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program
        settings = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._directory}
        options = [str(word) for name, value in settings.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([program, *options, "--requirepass", self.password], stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "the server has ended"
        try:
            return bool(self.client.ping())
        except redis.ConnectionError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)


def until(condition: Callable[[], bool]) -> None:
    """Waits for it, and fails if that takes very long."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One that the test may kill."""
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server on this machine")
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not shutil.which("redis-server"):
        pytest.skip("there is no redis-server on this machine")
    server = Server(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def server(shared_server: Server) -> Server:
    """One that holds nothing."""
    shared_server.client.flushall()
    return shared_server


def test_redis_keeps_what_was_put_last(server: Server):
    store = RedisStore(server.url)
    assert store.get("a") is None
    store.put("a", kept(1))
    store.put("a", kept(2))
    assert store.get("a") == kept(2)


def test_a_decision_comes_back_from_redis_as_it_was(server: Server):
    store = RedisStore(server.url)
    store.put("a", DECISION)
    found = store.get("a")
    assert found is not None
    assert found == DECISION
    assert found.policy == DECISION.policy
    assert list(found.probabilities) == ["tax", "travel", "other"]
    with pytest.raises(TypeError):
        found.probabilities["tax"] = 1.0  # type: ignore[index]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=15))
def test_redis_is_a_dict(server: Server, puts: list[tuple[str, str]]):
    server.client.flushall()
    store = RedisStore(server.url)
    for key, turn in puts:
        store.put(key, kept(turn))
    assert {key: store.get(key) for key, _ in puts} == {key: kept(turn) for key, turn in puts}


def test_a_key_with_half_a_character_is_a_key(server: Server):
    store = RedisStore(server.url)
    store.put("user \ud83d", kept(1))
    assert store.get("user \ud83d") == kept(1)


def test_redis_forgets_a_session_after_its_time_to_live(server: Server):
    store = RedisStore(server.url, ttl=0.3)
    store.put("a", kept(1))
    assert 0 < server.client.pttl("archroute:a") <= 300
    until(lambda: store.get("a") is None)
    assert server.client.dbsize() == 0


def test_every_turn_renews_the_time_to_live(server: Server):
    store = RedisStore(server.url, ttl=60)
    store.put("a", kept(1))
    server.client.pexpire("archroute:a", 1000)  # as if most of it were over
    store.put("a", kept(2))
    assert 1000 < server.client.pttl("archroute:a") <= 60_000


def test_two_stores_on_one_server_see_each_other(server: Server):
    one, another = RedisStore(server.url), RedisStore(server.url)
    one.put("a", kept(1))
    assert another.get("a") == kept(1)


def test_prefixes_do_not_mix(server: Server):
    one, another = RedisStore(server.url, prefix="one:"), RedisStore(server.url, prefix="another:")
    one.put("a", kept(1))
    assert another.get("a") is None
    another.put("a", kept(2))
    assert one.get("a") == kept(1)
    assert sorted(server.client.keys()) == [b"another:a", b"one:a"]


def test_concurrent_writers_leave_whole_values(server: Server):
    shared = RedisStore(server.url)
    hammered([shared] * 4 + [RedisStore(server.url) for _ in range(4)])
    for key in server.client.scan_iter():
        name = key.decode().removeprefix("archroute:")
        assert shared.get(name).target.startswith(f"{name}/")  # type: ignore[union-attr]


async def test_redis_from_async_code(server: Server):
    store = RedisStore(server.url)
    await asyncio.gather(*(store.aput(str(number), kept(number)) for number in range(20)))
    found = await asyncio.gather(*(store.aget(str(number)) for number in range(20)))
    assert found == [kept(number) for number in range(20)]


@pytest.mark.parametrize("decodes", [False, True])
def test_a_client_of_ones_own_serves(server: Server, decodes: bool):
    client = redis.Redis.from_url(server.url, decode_responses=decodes)
    store = RedisStore(client)
    store.put("a", kept(1))
    assert store.get("a") == kept(1)


def test_what_a_redis_store_refuses():
    with pytest.raises(SettingError, match="ttl=0"):
        RedisStore("redis://localhost", ttl=0)
    for address in ("http://:hunter2@localhost", "redis://:hunter2@localhost:port"):
        with pytest.raises(SettingError, match="address") as caught:
            RedisStore(address)
        assert "hunter2" not in str(caught.value)
        assert "redis://" in str(caught.value.hint)


def test_the_repr_of_a_redis_store_has_no_address():
    assert repr(RedisStore("redis://:hunter2@localhost:6379/0")) == "RedisStore(prefix='archroute:')"


def test_a_missing_package_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingError, match="redis is missing") as caught:
        RedisStore("redis://localhost")
    assert caught.value.hint == 'pip install "archroute[redis]"'


# What a turn sees of a store


async def test_what_is_kept_is_recalled():
    sessions = Sessions(MemoryStore())
    assert sessions.recall(KEY) is None
    sessions.keep(KEY, DECISION)
    assert sessions.recall(KEY) == await sessions.arecall(KEY) == DECISION
    await sessions.akeep(KEY, kept(2))
    assert sessions.recall(KEY) == kept(2)


class Counting(SessionStore):
    """Another store, and how often it was asked; raises what it is told to."""

    def __init__(self, store: SessionStore, error: Exception | None = None) -> None:
        self._store, self.error = store, error
        self.asked = 0

    def get(self, key: str) -> Decision | None:
        self._ask()
        return self._store.get(key)

    def put(self, key: str, decision: Decision) -> None:
        self._ask()
        self._store.put(key, decision)

    def _ask(self) -> None:
        self.asked += 1
        if self.error:
            raise self.error


class Broken:
    """Sessions over a store that fails, and what is around them."""

    def __init__(self, store: SessionStore, error: Exception | None = None) -> None:
        self.clock = Clock()
        self.store = Counting(store, error)
        self.breaker = Breaker(failures=3, cooldown=5, clock=self.clock)
        self.sessions = Sessions(self.store, self.breaker)


@pytest.mark.parametrize("error", [RuntimeError("at 10.0.0.7"), TimeoutError(), KeyError("user-1")])
def test_a_store_that_raises_fails_open_and_is_left_alone(caplog: pytest.LogCaptureFixture, error: Exception):
    broken = Broken(MemoryStore(), error)
    for _ in range(20):
        broken.sessions.keep(KEY, DECISION)
        assert broken.sessions.recall(KEY) is None
    assert broken.store.asked == 3
    told = f"the session store failed ({type(error).__name__}), the turn goes on without it"
    assert [entry.getMessage() for entry in caplog.records] == [told] * 3
    broken.clock.now = 5
    assert broken.sessions.recall(KEY) is None
    assert broken.store.asked == 4  # one call tried it
    broken.clock.now, broken.store.error = 10, None
    broken.sessions.keep(KEY, DECISION)
    assert broken.sessions.recall(KEY) is not None
    assert broken.breaker.state == "closed"


async def test_a_store_that_raises_fails_open_in_async_code():
    broken = Broken(MemoryStore(), ConnectionError())
    for _ in range(20):
        await broken.sessions.akeep(KEY, DECISION)
        assert await broken.sessions.arecall(KEY) is None
    assert broken.store.asked == 3
    broken.clock.now, broken.store.error = 5, None
    await broken.sessions.akeep(KEY, DECISION)
    assert await broken.sessions.arecall(KEY) is not None


class Hanging(SessionStore):
    """Never answers."""

    def get(self, key: str) -> Decision | None:
        raise AssertionError

    def put(self, key: str, decision: Decision) -> None:
        raise AssertionError

    async def aget(self, key: str) -> Decision | None:
        await asyncio.Event().wait()
        raise AssertionError

    async def aput(self, key: str, decision: Decision) -> None:
        await asyncio.Event().wait()


async def test_a_turn_that_is_cancelled_while_a_store_hangs_ends_and_counts_for_nothing():
    clock = Clock()
    breaker = Breaker(failures=1, cooldown=5, clock=clock)
    sessions = Sessions(Hanging(), breaker)
    for call in (sessions.arecall(KEY), sessions.akeep(KEY, DECISION)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.02)
    assert breaker.state == "closed"
    breaker.failed()
    clock.now = 5
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sessions.arecall(KEY), 0.02)  # the one call that tries it
    assert breaker.allows()  # the next may try again


# A server that goes down


def test_a_killed_server_fails_open_fast_and_serves_again_when_it_is_back(
    own_server: Server, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    broken = Broken(RedisStore(own_server.url))
    broken.sessions.keep(KEY, DECISION)
    assert broken.sessions.recall(KEY) == DECISION
    own_server.kill()
    caplog.clear()
    asked = broken.store.asked
    for _ in range(500):
        broken.sessions.keep(KEY, DECISION)
        assert broken.sessions.recall(KEY) is None
    assert broken.store.asked == asked + 3
    told = [entry.getMessage() for entry in caplog.records if entry.name == "archroute"]
    assert told == ["the session store failed (ConnectionError), the turn goes on without it"] * 3
    for secret in (own_server.password, str(own_server.port), "127.0.0.1", "user-1"):
        assert secret not in caplog.text
    own_server.start()
    assert broken.sessions.recall(KEY) is None  # still left alone
    broken.clock.now = 5
    broken.sessions.keep(KEY, DECISION)
    assert broken.sessions.recall(KEY) == DECISION
    assert broken.breaker.state == "closed"


def test_no_turn_of_many_threads_is_lost_with_the_server(own_server: Server):
    broken = Broken(RedisStore(own_server.url))
    half, begin = threading.Barrier(9), threading.Barrier(9)

    def turns(user: int) -> int:
        key, done = f"session:{user}", 0
        for number in range(60):
            if number == 30:
                half.wait()
                begin.wait()
            found = broken.sessions.recall(key)
            assert found is None or found == DECISION
            broken.sessions.keep(key, DECISION)
            done += 1
        return done

    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(turns, user) for user in range(8)]
        half.wait()
        own_server.kill()
        begin.wait()
        assert [turn.result() for turn in running] == [60] * 8
    assert broken.breaker.state == "open"
    assert broken.store.asked <= 8 * 60 + 3 + 8  # what was under way when the circuit opened


async def test_no_turn_of_many_tasks_is_lost_with_the_server(own_server: Server):
    broken = Broken(RedisStore(own_server.url))
    killed = asyncio.Event()

    async def turns(user: int) -> int:
        key, done = f"session:{user}", 0
        for number in range(10):
            if user == number == 5:
                own_server.kill()
                killed.set()
            found = await broken.sessions.arecall(key)
            assert found is None or found == DECISION
            await broken.sessions.akeep(key, DECISION)
            done += 1
        return done

    assert await asyncio.gather(*(turns(user) for user in range(20))) == [10] * 20
    assert killed.is_set()
    assert broken.breaker.state == "open"


def test_a_server_that_hangs_is_not_waited_for(own_server: Server, caplog: pytest.LogCaptureFixture):
    broken = Broken(RedisStore(own_server.url))
    one, another = KEY, "session:user-2"
    for key in (one, another):
        broken.sessions.keep(key, kept(key))
    own_server.pause()
    began = time.monotonic()
    for _ in range(20):
        assert broken.sessions.recall(one) is None
    assert time.monotonic() - began < 10  # three waits of a quarter of a second, on a busy machine
    assert [entry.getMessage() for entry in caplog.records] == [
        "the session store failed (TimeoutError), the turn goes on without it"
    ] * 3
    own_server.go_on()
    broken.clock.now = 5
    # The answers that come late are those to nobody's question.
    assert broken.sessions.recall(another) == kept(another)
    assert broken.sessions.recall(one) == kept(one)


async def test_the_event_loop_goes_on_while_a_server_hangs(own_server: Server):
    broken = Broken(RedisStore(own_server.url))
    await broken.sessions.akeep(KEY, DECISION)
    own_server.pause()
    waiting, ticks = asyncio.create_task(broken.sessions.arecall(KEY)), 0
    while not waiting.done():
        await asyncio.sleep(0.005)
        ticks += 1
    assert await waiting is None
    assert ticks > 5


def test_a_wrong_password_fails_open_and_is_not_told(server: Server, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    sessions = Sessions(RedisStore(f"redis://:wrong-secret@127.0.0.1:{server.port}/0"))
    sessions.keep(KEY, DECISION)
    assert sessions.recall(KEY) is None
    assert "AuthenticationError" in caplog.text
    assert "wrong-secret" not in caplog.text


def test_what_another_program_wrote_fails_open(server: Server, caplog: pytest.LogCaptureFixture):
    sessions = Sessions(RedisStore(server.url))
    server.client.set("archroute:session:user-1", '{"turn": "their own"}')
    assert sessions.recall(KEY) is None
    assert "their own" not in caplog.text
    sessions.keep(KEY, DECISION)
    assert sessions.recall(KEY) is not None
