"""What is built from a policy file, while the file changes."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import archroute.reload
from archroute import ArchRouteError, FileFormatError, Policy, PolicyError, PolicySet, SettingError
from archroute.reload import Reloaded


def text(name: str, length: int = 0) -> str:
    """A policy file of which no part from its beginning is one too."""
    return json.dumps({"policies": [{"name": name, "description": "x" * (length + 1)}]}) + "\n"


def first(policies: PolicySet) -> str:
    return next(iter(policies)).name


def replace(file: Path, content: str) -> None:
    """As editors save."""
    new = file.with_suffix(".new")
    new.write_text(content, encoding="utf-8")
    new.replace(file)


def age(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file have been left alone for a while."""
    status = file.stat()
    monkeypatch.setattr(time, "time_ns", lambda: max(status.st_mtime_ns, status.st_ctime_ns) + 10**10)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policies.yaml"
    path.write_text(text("one"), encoding="utf-8")
    return path


@pytest.fixture
def errors(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


def test_a_changed_file_is_built_anew(file: Path):
    held = Reloaded(file, first, every=0)
    assert held.current() == "one"
    replace(file, text("two"))
    assert held.current() == "two"
    assert held.error is None


def test_an_unchanged_file_is_built_once(file: Path, monkeypatch: pytest.MonkeyPatch):
    built: list[PolicySet] = []
    held = Reloaded(str(file), lambda policies: built.append(policies) or policies, every=0)
    value = held.current()
    os.utime(file)
    assert held.current() is value
    age(file, monkeypatch)
    assert held.current() is value
    assert len(built) == 1


def test_a_file_left_alone_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch):
    held = Reloaded(file, first, every=0)
    age(file, monkeypatch)
    held.current()
    with monkeypatch.context() as patched:
        patched.setattr(archroute.reload, "_read", lambda path: pytest.fail("it was read"))
        held.current()
    replace(file, text("two"))
    assert held.current() == "two"


def test_a_change_within_the_clocks_tick_is_seen(file: Path):
    held = Reloaded(file, first, every=0)
    before = file.stat()
    with file.open("r+", encoding="utf-8") as opened:
        opened.write(text("two"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (before.st_mtime_ns, before.st_size, before.st_ino) == (after.st_mtime_ns, after.st_size, after.st_ino)
    assert held.current() == "two"


def test_the_file_is_looked_at_no_more_often_than_asked(file: Path, monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    held = Reloaded(file, first, every=2.0)
    replace(file, text("two"))
    now += 1.9
    assert held.current() == "one"
    now += 0.1
    assert held.current() == "two"
    replace(file, text("three"))
    assert held.current() == "two"
    assert held.reload() == "three"


def test_a_link_to_another_file_is_seen(tmp_path: Path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(text(name), encoding="utf-8")
    link = tmp_path / "policies.yaml"
    link.symlink_to("one.yaml")
    held = Reloaded(link, first, every=0)
    new = tmp_path / "new"
    new.symlink_to("two.yaml")
    new.replace(link)
    assert held.current() == "two"


def refuse_two(policies: PolicySet) -> str:
    if first(policies) == "two":
        raise KeyError("sk-hidden")
    return first(policies)


def empty(file: Path) -> None:
    file.write_text("", encoding="utf-8")


def delete(file: Path) -> None:
    file.unlink()


def to_directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    ("spoil", "kind", "told"),
    [
        (empty, FileFormatError, "policies.yaml"),
        (delete, FileFormatError, "can't be read"),
        (to_directory, FileFormatError, "can't be read"),
        (lambda file: file.write_bytes(b"policies: \xff\n"), FileFormatError, "UTF-8"),
        (lambda file: file.write_text(text("two")[:-9]), FileFormatError, "line"),
        (lambda file: file.write_text("policies: [{name: a}]\n"), FileFormatError, "description"),
        (lambda file: file.write_text("policies: []\n"), PolicyError, "no policies"),
        (lambda file: file.write_text(text("two")), PolicyError, "KeyError"),
    ],
)
def test_a_bad_file_keeps_what_was_there_and_is_told_once(
    file: Path, errors: Callable[[], list[str]], spoil: Callable[[Path], object], kind: type[ArchRouteError], told: str
):
    held = Reloaded(file, refuse_two, every=0)
    spoil(file)
    for _ in range(20):
        assert held.current() == "one"
    assert type(held.error) is kind
    assert told in str(held.error)
    assert len(errors()) == 1
    assert told in errors()[0]
    assert str(file) in errors()[0]
    assert "sk-hidden" not in errors()[0]
    if file.is_dir():
        file.rmdir()
    replace(file, text("three"))
    assert held.current() == "three"
    assert held.error is None
    assert len(errors()) == 1


def test_each_bad_version_is_told(file: Path, errors: Callable[[], list[str]]):
    held = Reloaded(file, first, every=0)
    for content in ("policies: 1\n", "policies: 2\n", "policies: 2\n", "policies: 3\n"):
        replace(file, content)
        held.current()
        held.current()
    assert len(errors()) == 3


def test_the_old_version_put_back_is_good(file: Path):
    held = Reloaded(file, lambda policies: policies, every=0)
    value = held.current()
    replace(file, "policies: 1\n")
    held.current()
    replace(file, text("one"))
    assert held.current() is value
    assert held.error is None


def test_a_half_written_file_is_tried_again(file: Path):
    held = Reloaded(file, first, every=0)
    whole = text("two")
    for length in range(len(whole) - 1):  # without the newline it is whole too
        file.write_text(whole[:length], encoding="utf-8")
        assert held.current() == ("one" if length < len(whole) - 1 else "two")
        assert held.error
    file.write_text(whole, encoding="utf-8")
    assert held.current() == "two"


def test_reload_raises_and_keeps_what_was_there(file: Path, errors: Callable[[], list[str]]):
    held = Reloaded(file, refuse_two, every=3600)
    replace(file, "policies: 1\n")
    with pytest.raises(FileFormatError, match="field policies"):
        held.reload()
    assert isinstance(held.error, FileFormatError)
    replace(file, text("two"))
    with pytest.raises(KeyError):
        held.reload()
    assert isinstance(held.error, PolicyError)
    assert isinstance(held.error.__cause__, KeyError)
    assert held.current() == "one"
    assert not errors()  # whoever asks for it is told
    replace(file, text("three"))
    assert held.reload() == "three"
    assert held.error is None


def test_reload_builds_an_unchanged_file(file: Path):
    held = Reloaded(file, lambda policies: [first(policies)])
    value = held.current()
    assert held.reload() is not value
    assert held.current() == value


def test_the_first_version_must_be_good(file: Path):
    with pytest.raises(FileFormatError, match="nowhere"):
        Reloaded(file.with_name("nowhere.yaml"), first)
    replace(file, text("two"))
    with pytest.raises(KeyError):
        Reloaded(file, refuse_two)
    replace(file, "policies: []\n")
    with pytest.raises(PolicyError, match="no policies"):
        Reloaded(file, first)


@pytest.mark.parametrize("every", [-1, float("nan")])
def test_an_impossible_interval_is_refused(file: Path, every: float):
    with pytest.raises(SettingError, match="every"):
        Reloaded(file, first, every=every)


def test_nobody_waits_while_it_is_built(file: Path):
    began, go_on = threading.Event(), threading.Event()

    def build(policies: PolicySet) -> str:
        if first(policies) == "two":
            began.set()
            assert go_on.wait(20)
        return first(policies)

    held = Reloaded(file, build, every=0)
    replace(file, text("two"))
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(held.current)
        assert began.wait(20)
        assert [held.current() for _ in range(100)] == ["one"] * 100
        assert held.error is None
        go_on.set()
        assert building.result(20) == "two"
    assert held.current() == "two"


def test_under_load_only_whole_good_versions_are_seen(file: Path, errors: Callable[[], list[str]]):
    file.write_text(text("0"), encoding="utf-8")
    built: list[int] = []

    def build(policies: PolicySet) -> int:
        number = int(first(policies))
        if number % 5 == 4:
            raise PolicyError(f"{number} has no target")
        assert len(policies[str(number)].description) == 1 + number
        built.append(number)
        return number

    held = Reloaded(file, build, every=0)
    done = threading.Event()

    def ask() -> list[int]:
        seen = []
        while not done.wait(0.0002):  # else they leave the writer no time
            seen.append(held.current())
        return seen

    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(ask) for _ in range(8)]
        try:
            for number in range(1, 301):
                whole = text(str(number), length=number)
                match number % 3:
                    case 0:
                        replace(file, whole)
                    case 1:  # in place, in two pieces
                        with file.open("w", encoding="utf-8") as opened:
                            opened.write(whole[: number % 40])
                            opened.flush()
                            opened.write(whole[number % 40 :])
                    case 2:
                        file.unlink()
                        file.write_text("policies: [\n", encoding="utf-8")
                        replace(file, whole)
        finally:
            done.set()
        seen = [call.result(20) for call in asked]
    assert held.current() == 300
    assert held.error is None
    assert built == sorted(set(built))  # each once, none after a newer one
    assert all(numbers == sorted(numbers) for numbers in seen)
    assert set().union(*seen) <= set(built)
    assert len(built) > 2
    told = [message for message in errors() if "has no target" in message]
    assert len(told) == len(set(told))


def test_a_bad_version_is_told_once_by_many_threads(file: Path, errors: Callable[[], list[str]]):
    held = Reloaded(file, first, every=0)
    replace(file, "policies: 1\n")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: held.current(), range(400))) == {"one"}
    assert len(errors()) == 1


def test_a_whole_policy_set_reloads(file: Path):
    policies = PolicySet([Policy("tax", "Tax law")], models={"tax": ["a", "b"]}, default="c")
    held = Reloaded(file, PolicySet.of, every=0)
    replace(file, policies.to_yaml())
    assert held.current() == policies
