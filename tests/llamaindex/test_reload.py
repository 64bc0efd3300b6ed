"""A router follows its policy file while turns are served."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler

from archroute import FileFormatError, PolicyError, SettingError
from archroute.dispatch import Dispatch
from llamaindex_archroute import ArchRouterLLM
from tests.engines import KeywordEngine
from tests.llamaindex.targets import WORDS, Faulty, Target

FILE = """
policies:
  - name: tax
    description: Tax law and returns
    models: {old: 1.0, new: 0.0}
    fallbacks: [spare]
    shadows: [trial]
    timeout: 5
default: default
models:
  spare: {context: 50}
"""
MOVED = FILE.replace("old: 1.0, new: 0.0", "old: 0.0, new: 1.0")
VAT = [ChatMessage("VAT?")]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture(autouse=True)
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaindex_archroute.llm._LOOK", 0.0)


def replace(file: Path, text: str) -> None:
    """As editors do: a file that is written in place may be read half written."""
    (written := file.with_suffix(".new")).write_text(text)
    os.replace(written, file)


def router(file: Path, targets: Callable[[str], Any] = Target, **arguments: Any) -> ArchRouterLLM:
    return ArchRouterLLM.from_yaml(file, targets, **{"model": KeywordEngine(WORDS), "reload": True} | arguments)


def served(llm: ArchRouterLLM) -> str:
    return str(llm.chat(VAT).additional_kwargs["archroute"]["target"])


class TestFile:
    def test_all_that_it_says_of_serving_is_done(self, file: Path) -> None:
        llm = router(file, lambda name: Faulty(name, fails=name in ("old", "trial")))
        assert served(llm) == "spare"
        route = llm._now().table.bound["tax"]  # type: ignore[union-attr]
        assert route.serving.timeout == 5
        assert [model.name for model in route.shadows] == ["trial"]
        long = llm.chat([ChatMessage("word " * 100), ChatMessage("VAT?")]).additional_kwargs["archroute"]
        assert [attempt["target"] for attempt in long["attempts"]] == ["old", "spare", "default"]
        assert "more than its 50" in long["attempts"][1]["cause"]

    def test_several_models_are_fallbacks_of_the_first(self) -> None:
        text = "policies:\n- {name: tax, description: Tax law, models: [one, two]}\ndefault: three\n"
        llm = ArchRouterLLM.from_yaml(text, lambda name: Faulty(name, fails=name == "one"), model=KeywordEngine(WORDS))
        assert served(llm) == "two"


class TestReload:
    async def test_a_changed_file_is_followed(self, file: Path) -> None:
        llm = router(file)
        assert served(llm) == "old"
        replace(file, MOVED)
        assert served(llm) == "new"
        replace(file, FILE.replace("name: tax", "name: travel"))
        assert (await llm.achat([ChatMessage("flight")])).additional_kwargs["archroute"]["route"] == "travel"
        assert [route.name for route in llm.policies] == ["travel"]

    def test_a_bad_one_changes_nothing_and_says_so(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        llm = router(
            file, {"old": Target("old"), **{name: Target(name) for name in ("new", "spare", "trial", "default")}}
        )  # type: ignore[arg-type]
        for bad in ("policies: 7", FILE.replace("fallbacks: [spare]", "fallbacks: [unknown]")):
            replace(file, bad)
            assert served(llm) == "old"
            with pytest.raises((FileFormatError, PolicyError)):
                llm.reload()
        assert "is refused" in caplog.text

    def test_on_call(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("llamaindex_archroute.llm._LOOK", 3600.0)
        llm = router(file)
        replace(file, MOVED)
        assert served(llm) == "old"
        llm.reload()
        assert served(llm) == "new"

    def test_what_is_remembered_and_made_stays(self, file: Path) -> None:
        made: list[str] = []
        counter = TokenCountingHandler(tokenizer=str.split)

        def make(name: str) -> Target:
            made.append(name)
            return Target(name)

        dispatch, engine = Dispatch(), KeywordEngine(WORDS)
        llm = router(file, make, dispatch=dispatch, model=engine, callback_manager=CallbackManager([counter]))
        served(llm)
        replace(file, MOVED.replace("spare", "more"))
        served(llm)
        assert sorted(made) == ["default", "more", "new", "old", "spare", "trial"]
        assert llm.stats()["turns"] == dispatch.stats()["turns"] == 2
        assert llm._now().router.engine is engine
        assert len(counter.llm_token_counts) == 2

    def test_the_file_has_the_last_word_on_shares(self, file: Path) -> None:
        llm = router(file)
        llm.change_shares("tax", {"old": 0.0, "new": 1.0})
        assert served(llm) == "new"
        replace(file, FILE.replace("timeout: 5", "timeout: 6"))
        assert served(llm) == "old"

    @pytest.mark.parametrize("source", [FILE, "policies"])
    def test_without_a_file_there_is_nothing_to_read(self, source: str) -> None:
        from archroute import PolicySet

        given = PolicySet.from_yaml(FILE) if source == "policies" else source
        with pytest.raises(SettingError, match="without a file"):
            router(given)  # type: ignore[arg-type]
        with pytest.raises(SettingError, match="follows no file"):
            router(given, reload=False).reload()  # type: ignore[arg-type]

    def test_a_pickle_has_the_policies_of_now(self, file: Path) -> None:
        llm = router(file)
        replace(file, FILE.replace("name: tax", "name: travel"))
        assert [route.name for route in pickle.loads(pickle.dumps(llm)).policies] == ["travel"]


async def test_no_turn_is_lost_while_the_file_changes(file: Path) -> None:
    llm = router(file)
    stop = threading.Event()

    def change() -> None:
        while not stop.wait(0.005):
            replace(file, MOVED if file.read_text() == FILE else FILE)

    changing = threading.Thread(target=change)
    changing.start()
    try:
        threads = [asyncio.to_thread(lambda: [served(llm) for _ in range(40)]) for _ in range(4)]
        tasks = [llm.achat(VAT) for _ in range(80)]
        results = await asyncio.gather(*threads, *tasks)
    finally:
        stop.set()
        changing.join()
    assert {name for names in results[:4] for name in names} == {"old", "new"}
    assert {result.additional_kwargs["archroute"]["target"] for result in results[4:]} <= {"old", "new"}
    assert llm.stats()["outcomes"] == {"served": 240}
