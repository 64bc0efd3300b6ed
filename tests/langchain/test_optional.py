"""What an installation without some part of LangChain says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

import langchain_archroute
from archroute import ArchRouteError

WITHOUT = """
import sys
class Gone:
    def find_spec(self, name, path=None, target=None):
        if name == {gone!r} or name.startswith({gone!r} + "."):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Gone())
import langchain_archroute
try:
    {use}
except langchain_archroute.MissingPackageError as error:
    print(error)
print("torch" in sys.modules, "langchain_archroute.middleware" in sys.modules)
"""


def run(gone, use):
    code = WITHOUT.format(gone=gone, use=use)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_without_langchain_the_middleware_alone_is_missing():
    said = run("langchain", "langchain_archroute.RunnableRouter; from langchain_archroute import ArchRouterMiddleware")
    assert 'hint: pip install "archroute[agents]"' in said


def test_before_1_8_the_decision_model_alone_is_missing():
    said = run("langchain_core.decisions", "from langchain_archroute import ArchRouterDecisionModel")
    assert 'hint: pip install "langchain-core>=1.8"' in said


def test_without_langchain_a_files_models_cant_be_made():
    file = r"policies:\n  - {name: b, description: B, model: 'openai:x'}\ndefault: openai:x\n"
    assert "init_chat_model needs langchain" in run("langchain", f'langchain_archroute.read_routes("{file}")')


def test_importing_loads_neither_torch_nor_agents():
    assert run("nothing", "pass").split() == ["False", "False"]


def test_a_missing_part_is_an_import_error_too():
    assert issubclass(langchain_archroute.MissingPackageError, ArchRouteError)
    assert issubclass(langchain_archroute.MissingPackageError, ImportError)
    with pytest.raises(AttributeError):
        langchain_archroute.nothing  # noqa: B018


def test_every_name_of_the_face_is_there():
    missing = set() if importlib.util.find_spec("langchain_core.decisions") else {"ArchRouterDecisionModel"}
    for name in set(langchain_archroute.__all__) - missing:
        assert getattr(langchain_archroute, name)
