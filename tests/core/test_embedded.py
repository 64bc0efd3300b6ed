"""The embedded model."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from archroute import Conversation, ModelError, Policy, Router, Turn
from archroute.engines.embedded import EmbeddedEngine, serving
from archroute.engines.embedded.spelling import Speller

POLICIES = [
    Policy("sql_queries", "Writing SQL queries over database tables"),
    Policy("trip_planning", "Planning holidays, flights and hotels"),
    Policy("photo_editing", "Retouching and cropping photos"),
    Policy("recipes", "Cooking recipes and ingredients"),
]

REQUESTS = [
    ("select the ten customers with the highest revenue from the orders table", "sql_queries"),
    ("find me a hotel in Lisbon for the second week of May", "trip_planning"),
    ("crop this picture and make the sky bluer", "photo_editing"),
    ("how long do I bake a lasagne?", "recipes"),
    ("thanks, that was all, goodbye!", "other"),
]


@pytest.fixture(scope="module")
def router() -> Router:
    return Router(POLICIES, model="embedded")


@pytest.mark.parametrize(("text", "route"), REQUESTS)
def test_policies_it_never_met_are_told_apart(router: Router, text: str, route: str):
    decision = router.route(text)
    assert decision.route == route
    assert sum(decision.probabilities.values()) == pytest.approx(1)
    assert list(decision.probabilities) == [*(policy.name for policy in POLICIES), "other"]


def test_the_latest_topic_counts(router: Router):
    chat = [
        {"role": "user", "content": "find me a hotel in Lisbon for the second week of May"},
        {"role": "assistant", "content": "I found three hotels in the old town."},
        {"role": "user", "content": "now crop my holiday picture and make the sky bluer"},
    ]
    assert router.route(chat).route == "photo_editing"


def test_a_batch_decides_as_its_members_do(router: Router):
    texts = ["bake a cake", "x " * 300, "update the orders table", "book a flight " * 40]
    for text, packed in zip(texts, router.route_many(texts), strict=True):
        assert packed.probabilities == pytest.approx(router.route(text).probabilities, abs=1e-3)


def test_the_order_of_the_policies_does_not_matter(router: Router):
    backwards = Router(POLICIES[::-1], model="embedded")
    for text in ("bake a cake", "book a flight", "update the orders table"):
        assert router.route(text).probabilities == pytest.approx(backwards.route(text).probabilities, abs=1e-4)


def test_one_policy_is_enough():
    decision = Router(POLICIES[:1], model="embedded").route("select all rows from the users table in SQL")
    assert set(decision.probabilities) == {"sql_queries", "other"}


def test_long_texts_are_cut_and_the_decision_says_so(router: Router):
    assert not router.route("short").truncated
    long = router.route("please crop this photo. " * 400 + "make the sky bluer in this picture")
    assert long.truncated
    assert long.route == "photo_editing"
    assert router.route("a" * 2_000_000).truncated


def test_old_turns_are_cut_and_the_decision_says_so():
    engine = EmbeddedEngine()
    turns = [Turn("user" if number % 2 == 0 else "assistant", "word " * 60) for number in range(9)]
    (scores,) = engine.score(POLICIES, [Conversation(tuple(turns))])
    assert scores.truncated


def test_texts_without_a_known_word_are_decided(router: Router):
    for text in ("🦄🦄", "\u200b", "\x00\x01", "漢字"):
        assert sum(router.route(text).probabilities.values()) == pytest.approx(1)


def test_policies_are_embedded_once(monkeypatch: pytest.MonkeyPatch):
    engine = EmbeddedEngine()
    engine.score(POLICIES, [Conversation.from_text("a")])
    read: list[Policy] = []
    monkeypatch.setattr(engine._reader, "policy", lambda policy: read.append(policy))
    engine.score(POLICIES, [Conversation.from_text("b")])
    assert read == []


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not list a process's threads")
def test_a_thread_that_is_not_the_main_one_decides_alone_and_is_left_as_it_was():
    """OpenMP's team of a second thread would slow down those of all others."""
    engine, said = EmbeddedEngine(), [Conversation.from_text("how long do I bake a lasagne?")]
    expected = engine.score(POLICIES, said)[0].probabilities

    def running() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    def decided() -> tuple[int, int, int]:
        before = running()
        assert engine.score(POLICIES, said)[0].probabilities == pytest.approx(expected, abs=1e-4)
        after, threads = running(), torch.get_num_threads()
        torch.ones(2_000_000).exp()  # work of the thread's own is divided, as before
        return after - before, running() - after, threads

    with ThreadPoolExecutor(1) as other:
        assert other.submit(decided).result() == (0, 1, 2)


def test_a_broken_model_is_named(tmp_path: Path):
    with pytest.raises(ModelError, match="no embedded model"):
        EmbeddedEngine(tmp_path)


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("writ a qurey taht joins the ordres table with customres", "sql_queries"),
        ("fidn me a hotle in Lisbon adn a flihgt", "trip_planning"),
        ("how long do I bkae a chciken pie", "recipes"),
    ],
)
def test_typing_errors_are_read_over(router: Router, text: str, route: str):
    assert router.route(text).route == route


def test_a_slip_is_mended_and_what_is_no_plain_word_stays():
    speller = Speller(["function", "the", "write", "this", "reads"])
    assert speller.mended("Wriet tihs funtcion, the Funtcion") == "write this function, the function"
    for text in ("tihs_name", "src/tihs.py", "tihs()", "a.tihs", "tihsTihs", "tih5s", "<tihs>", "étihs", "zzzzzz"):
        assert speller.mended(text) == text


def test_two_slips_in_a_long_word_are_mended_and_short_words_only_into_common_ones():
    speller = Speller(["the", "before", *(f"word{number}" for number in range(2000)), "translate", "cab"])
    assert speller.mended("tarnslte this beefroe teh cag") == "translate this before the cag"


def test_a_slip_that_fingers_make_is_likelier_than_a_common_word():
    speller = Speller(["would", "out", "should", "pit", "points", "ship", "shop"])
    assert speller.mended("you sould") == "you should"  # left out, and W is far from S
    assert speller.mended("pointd shpo") == "points shop"  # D is beside S; swapped


def test_slips_at_both_ends_of_a_long_word_are_mended():
    words = [*(f"word{number}" for number in range(2000)), "transfer", "duplicate"]
    assert Speller(words).mended("ransfr udplicatee") == "transfer duplicate"


def test_a_rare_word_may_be_a_slip_of_a_far_commoner_one():
    speller = Speller(["change", "was", *(f"word{number}" for number in range(9000)), "chnage", "aws"])
    assert speller.mended("chnage") == "change"
    assert speller.mended("aws") == "aws"  # too short to tell
    assert Speller(["change", "chnage"]).mended("chnage") == "chnage"  # hardly rarer


def test_a_sentence_may_begin_with_a_slip():
    assert Speller(["find", "mark"]).mended("OK. Fnid Makr") == "OK. find Makr"


def test_a_name_stays_unless_a_finger_slipped_once_on_a_long_word():
    speller = Speller(["american", "march", "what", "passage", "mark"])
    assert speller.mended("see, Amercan Macrh, WWhat") == "see, american march, what"
    for name in ("Passat", "Makr", "Mark", "AMERCAN", "MacRh", "fMarch"):
        assert speller.mended(f"see, {name} then") == f"see, {name} then"


def test_several_questions_on_one_conversation_read_it_once(monkeypatch: pytest.MonkeyPatch):
    engine = EmbeddedEngine()
    chat = Conversation.from_text("crop this picture and make the sky bluer")
    others = [Policy("music", "Songs and playlists"), Policy("tax", "Tax law and returns")]
    alone = [engine.score(routes, [chat])[0] for routes in (POLICIES, others)]
    read: list[Conversation] = []
    conversation = engine._reader.conversation

    def reading(asked: Conversation) -> object:
        read.append(asked)
        return conversation(asked)

    monkeypatch.setattr(engine._reader, "conversation", reading)
    assert engine.score_each([(POLICIES, chat), (others, chat)]) == alone
    assert read == [chat]


@pytest.mark.parametrize("bits", [8, 7])
def test_rounding_activations_hardly_changes_how_probable_routes_are(monkeypatch: pytest.MonkeyPatch, bits: int):
    most = serving.activation_bits()
    if most is None or bits > most:
        pytest.skip("this CPU has no right int8 product with as many bits")
    asked = [(POLICIES, Conversation.from_text(text)) for text, _ in REQUESTS]
    found = []
    for taken in (bits, None):  # None: not rounded
        monkeypatch.setattr(serving, "activation_bits", lambda taken=taken: taken)
        found.append([scores.probabilities for scores in EmbeddedEngine().score_each(asked)])
    for rounded, plain in zip(*found, strict=True):
        assert rounded == pytest.approx(plain, abs=0.05)
    assert found[0] != found[1]


def test_a_product_that_saturates_gets_activations_of_seven_bits(monkeypatch: pytest.MonkeyPatch):
    if serving.activation_bits() is None:
        pytest.skip("this machine has no int8 product")
    product = serving._int8

    def saturated(packed: torch.ScriptObject, bits: serving.Bits, x: torch.Tensor) -> torch.Tensor:
        return product(packed, 7, x) * (0.5 if bits == 8 else 1)

    monkeypatch.setattr(serving, "_int8", saturated)
    serving.activation_bits.cache_clear()
    taken = serving.activation_bits()
    serving.activation_bits.cache_clear()
    assert taken == 7
