"""What was read before is not read again, and changes no decision."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from checkpoints import random_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from archroute import Conversation, Policy, Router, Turn
from archroute.engines.arch_router import ArchRouterEngine
from archroute.engines.arch_router.prefix_cache import KeyValues, PrefixCache, common_prefix
from archroute.evaluate import read_cases

SETS = (
    [Policy("travel", "Planning trips"), Policy("tax", "Tax law")],
    [Policy("travel", "Planning trips"), Policy("tax", "Tax law"), Policy("code", "Writing code")],
    [Policy("music", "Songs and playlists")],
)
CHATS = [
    Conversation(
        tuple(Turn("user" if number % 2 == 0 else "assistant", f"{topic} turn {number}") for number in range(length))
    )
    for topic in ("flights to Oslo", "my tax return", "naïve «Unicode» text")
    for length in (1, 3, 5)
]


@pytest.fixture(scope="module")
def plain(tiny_checkpoint: Path) -> ArchRouterEngine:
    return ArchRouterEngine.from_directory(tiny_checkpoint, dtype=torch.float32, kernel="widened", cache_bytes=0)


@pytest.fixture(scope="module")
def expected(plain: ArchRouterEngine) -> list[list[dict[str, float]]]:
    return [[dict(plain.score(routes, [chat])[0].probabilities) for chat in CHATS] for routes in SETS]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.lists(st.tuples(st.integers(0, len(SETS) - 1), st.integers(0, len(CHATS) - 1)), min_size=1, max_size=12),
    budget=st.sampled_from([0, 300_000, 2**28]),
    together=st.booleans(),
)
def test_any_order_of_conversations_and_policies_gives_what_no_cache_gives(
    tiny_checkpoint: Path,
    expected: list[list[dict[str, float]]],
    asked: list[tuple[int, int]],
    budget: int,
    together: bool,
):
    engine = ArchRouterEngine.from_directory(tiny_checkpoint, dtype=torch.float32, kernel="widened", cache_bytes=budget)
    pairs = [(SETS[policies], CHATS[chat]) for policies, chat in asked]
    scores = engine.score_each(pairs) if together else [engine.score(*pair[:1], [pair[1]])[0] for pair in pairs]
    for (policies, chat), found in zip(asked, scores, strict=True):
        assert found.probabilities == pytest.approx(expected[policies][chat], abs=1e-5)
    assert engine.cache_stats.bytes <= budget


def test_the_next_turn_reads_only_what_is_new(tiny_checkpoint: Path):
    engine = ArchRouterEngine.from_directory(tiny_checkpoint)
    router = Router(SETS[0], model=engine)
    chat = [{"role": "user", "content": "flights to Oslo " * 10}]
    router.route(chat)
    before = router.cache_stats
    chat += [{"role": "assistant", "content": "Here are three."}, {"role": "user", "content": "the cheapest one"}]
    decision = router.route(chat)
    after = router.cache_stats
    assert before is not None
    assert after is not None
    assert after.hits - before.hits == 2  # the policies, and the first turn
    policies = len(engine.question(tuple(SETS[0])).policies)
    assert after.tokens_saved - before.tokens_saved > policies + 30
    assert after.tokens_saved - before.tokens_saved < decision.prompt_tokens
    assert after.entries == 2  # the longer conversation took the shorter one's place


def test_what_is_kept_holds_no_more_memory_than_is_counted(tiny_checkpoint: Path):
    engine = ArchRouterEngine.from_directory(tiny_checkpoint)
    engine.score(SETS[0], CHATS)
    kept = [part for entry in engine._cache._entries.values() for part in (entry.keys, entry.values)]
    assert sum(part.untyped_storage().nbytes() for part in kept) == engine.cache_stats.bytes


def test_long_conversations_are_read_in_several_passes(plain: ArchRouterEngine, tiny_checkpoint: Path):
    cached = ArchRouterEngine.from_directory(tiny_checkpoint, dtype=torch.float32, kernel="widened")
    turns = [Turn("user" if number % 2 == 0 else "assistant", f"word {number} " * 60) for number in range(15)]
    for length in (1, 5, 15):
        chat = Conversation(tuple(turns[:length]))
        (with_cache,), (without,) = cached.score(SETS[1], [chat]), plain.score(SETS[1], [chat])
        assert with_cache.probabilities == pytest.approx(without.probabilities, abs=1e-5)
    assert with_cache.prompt_tokens > 1500


def test_many_policies_are_scored_level_by_level_as_in_one_pass(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """On random weights and names of one token each: then many answers are about as likely, and many branches must be followed."""
    checkpoint = random_checkpoint(tmp_path / "random", tiny_checkpoint, decided=1.5)
    vocabulary = AutoTokenizer.from_pretrained(tiny_checkpoint).get_vocab()
    names = sorted(word for word in vocabulary if word.isalpha() and word.isascii() and len(word) > 2)[:150]
    routes = [Policy(name, f"All about {name}") for name in names if name != "other"]
    chats = [Conversation.from_text(text) for text in ("a recipe with leeks", "what is 17 + 4", "hello")]
    stepwise = ArchRouterEngine.from_directory(checkpoint, kernel="widened")
    found = stepwise.score(routes, chats)
    assert len(stepwise.question(tuple(routes)).first.nodes) < len(stepwise.question(tuple(routes)).trie)
    monkeypatch.setattr("archroute.engines.arch_router.engine.WHOLE_TRIE", 10**6)
    at_once = ArchRouterEngine.from_directory(checkpoint, kernel="widened")
    undecided = 0
    for step, whole in zip(found, at_once.score(routes, chats), strict=True):
        assert sum(step.probabilities.values()) == pytest.approx(1)
        for name, probability in whole.probabilities.items():
            assert step.probabilities[name] == pytest.approx(probability, abs=1e-3)
        undecided += sum(1e-3 < probability < 0.9 for probability in whole.probabilities.values())
    assert undecided > 10


def test_a_trained_checkpoint_scores_in_steps_as_in_one_pass(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    cases = read_cases(tiny_checkpoint / "heldout.jsonl")[:40]
    found = []
    for whole in (0, 10**6):
        monkeypatch.setattr("archroute.engines.arch_router.engine.WHOLE_TRIE", whole)
        engine = ArchRouterEngine.from_directory(tiny_checkpoint)
        found.append([engine.score(case.policies, [case.conversation])[0] for case in cases])
        engine.forget()
        together = engine.score_each([(case.policies, case.conversation) for case in cases])
        for one, packed in zip(found[-1], together, strict=True):
            assert one.probabilities == pytest.approx(packed.probabilities, abs=1e-3)
    for steps, once in zip(*found, strict=True):
        assert steps.probabilities == pytest.approx(once.probabilities, abs=1e-3)
        assert steps.coverage == pytest.approx(once.coverage, abs=1e-3)


def test_threads_get_what_they_asked_for(tiny_checkpoint: Path, expected: list[list[dict[str, float]]]):
    engine = ArchRouterEngine.from_directory(
        tiny_checkpoint, dtype=torch.float32, kernel="widened", cache_bytes=400_000
    )
    draw = random.Random(5)
    asked = [(draw.randrange(len(SETS)), draw.randrange(len(CHATS))) for _ in range(60)]
    with ThreadPoolExecutor(8) as pool:
        scores = list(pool.map(lambda pair: engine.score(SETS[pair[0]], [CHATS[pair[1]]])[0], asked))
    for (policies, chat), found in zip(asked, scores, strict=True):
        assert found.probabilities == pytest.approx(expected[policies][chat], abs=1e-5)
    assert engine.cache_stats.bytes <= 400_000


def read(tokens: int) -> KeyValues:
    return KeyValues(torch.randn(2, 1, tokens, 4), torch.randn(2, 1, tokens, 4))


def test_the_longest_beginning_is_found_and_scopes_never_mix():
    cache = PrefixCache(10**6)
    first, second = read(3), read(5)
    cache.add("a", [1, 2, 3], first)
    cache.add("a", [1, 2, 4, 5, 6], second)
    found = cache.longest("a", [1, 2, 4, 5, 9])
    assert found is not None
    assert torch.equal(found.keys, second.keys[:, :, :4])
    assert found.keys.data_ptr() == second.keys.data_ptr()  # a view, no copy
    assert cache.longest("b", [1, 2, 3]) is None
    assert cache.longest("a", [7]) is None
    assert (cache.stats.hits, cache.stats.misses, cache.stats.tokens_saved) == (1, 2, 4)


def test_the_least_recently_used_go_first():
    size = read(4).size
    cache = PrefixCache(2 * size)
    for token in (1, 2):
        cache.add("a", [token] * 4, read(4))
    cache.longest("a", [1])
    cache.add("a", [3] * 4, read(4))
    assert cache.longest("a", [2]) is None
    assert cache.longest("a", [1]) is not None
    assert cache.stats.bytes == 2 * size
    cache.add("a", [4] * 40, read(40))  # larger than the whole budget: not kept, and nothing is dropped for it
    assert cache.stats.entries == 2
    cache.clear()
    assert cache.stats.bytes == 0


def test_counters_hold_under_threads():
    cache = PrefixCache(20 * read(4).size)
    barrier = threading.Barrier(8)

    def work(seed: int) -> None:
        draw = random.Random(seed)
        barrier.wait()
        for _ in range(200):
            tokens = [draw.randrange(3) for _ in range(4)]
            found = cache.longest("a", tokens)
            assert found is None or len(found) <= 4
            cache.add("a", tokens, read(4))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stats = cache.stats
    assert stats.hits + stats.misses == 1600
    assert 0 < stats.bytes <= cache.budget
    assert stats.bytes == stats.entries * read(4).size


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_common_prefix(first: list[int], second: list[int]):
    length = common_prefix(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
