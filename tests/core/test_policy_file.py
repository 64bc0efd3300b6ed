"""The policy file and Plano's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute import Domain, FileFormatError, Policy, PolicyError, PolicySet

OURS = """\
policies:
  - name: code_generation
    description: Writing new functions
    models: [openai:gpt-5, openai:gpt-5-mini]
  - name: travel
    description: "Trips: anything"
    actions:
      - {name: flights, description: Booking flights, model: "anthropic:claude"}
default: openai:gpt-5-nano
"""
PLANO_03 = """\
version: v0.3.0
llm_providers:
  - model: openai/gpt-4o-mini
    access_key: $OPENAI_API_KEY
    default: true
  - model: openai/gpt-4o
    access_key: sk-secret
    routing_preferences:
      - name: code understanding
        description: understand and explain existing code snippets
  - model: anthropic/claude
    routing_preferences:
      - name: code generation
        description: generating new code snippets
"""
PLANO_04 = """\
version: v0.4.0
model_providers:
  - {model: openai/gpt-5.2, default: true}
  - {model: anthropic/claude}
model_aliases:
  fast: {target: openai/gpt-5-nano}
routing_preferences:
  - name: code generation
    description: generating code
    models: [anthropic/claude, fast]
    selection_policy: {prefer: cheapest}
"""


def test_own_file():
    policies = PolicySet.from_yaml(OURS)
    assert [route.name for route in policies] == ["code_generation", "flights", "travel"]
    assert policies.models == {
        "code_generation": ("openai:gpt-5", "openai:gpt-5-mini"),
        "flights": ("anthropic:claude",),
    }
    assert policies.default == "openai:gpt-5-nano"
    assert isinstance(policies.domain_of("flights"), Domain)


def test_a_file_is_read_from_its_path(tmp_path: Path):
    file = tmp_path / "policies.yaml"
    file.write_text(OURS, encoding="utf-8")
    assert PolicySet.from_yaml(file) == PolicySet.from_yaml(str(file)) == PolicySet.from_yaml(OURS)


def test_plano_to_version_03():
    policies = PolicySet.from_yaml(PLANO_03)
    assert [route.name for route in policies] == ["code understanding", "code generation"]
    assert policies.models == {"code understanding": ("openai/gpt-4o",), "code generation": ("anthropic/claude",)}
    assert policies.default == "openai/gpt-4o-mini"
    assert PolicySet.from_yaml(PLANO_03.replace("llm_providers", "model_providers")) == policies


def test_plano_version_04():
    policies = PolicySet.from_yaml(PLANO_04)
    assert policies.models == {"code generation": ("anthropic/claude", "openai/gpt-5-nano")}
    assert policies.default == "openai/gpt-5.2"


def test_two_preferences_of_one_model_stay_two_routes():
    policies = PolicySet.from_yaml(PLANO_03.replace("anthropic/claude", "openai/gpt-4o"))
    assert len(policies) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("policies:\n  - name: a\n", r"line 2, field policies\[0\]\.description"),
        ("policies:\n  - name: a\n    description: b\n    modle: x\n", r"line 4, field policies\[0\]\.modle"),
        ("policies:\n  - name: a\n    description: [b]\n", r"line 3, field policies\[0\]\.description"),
        ("policies:\n  - {name: a, description: b}\n  - {name: other, description: b}\n", r"line 3.*reserved"),
        ("policies:\n  - name: a\n  description: b: c\n", "line 3: no valid YAML"),
        ("- a\n- b\n", "mapping"),
        ("{}\n\n", "policies"),
        ("llm_providers:\n  - model: x\n", "no routing_preferences"),
        (
            "policies:\n  - name: d\n    description: x\n    actions:\n      - name: e\n",
            r"line 5.*actions\[0\]\.description",
        ),
    ],
)
def test_faults_name_line_and_field(text: str, told: str):
    with pytest.raises(FileFormatError, match=told):
        PolicySet.from_yaml(text)


def test_faults_never_tell_values():
    with pytest.raises(FileFormatError) as caught:
        PolicySet.from_yaml(PLANO_03.replace("model: openai/gpt-4o\n", "model: [sk-hidden]\n"))
    assert "sk-" not in str(caught.value)


def test_objects_are_never_built(tmp_path: Path):
    with pytest.raises(FileFormatError):
        PolicySet.from_yaml("policies: !!python/object/apply:os.system [exit]\nx: 1\n")


def test_a_missing_file_is_told():
    with pytest.raises(FileFormatError, match="nowhere.yaml"):
        PolicySet.from_yaml("nowhere.yaml")


def test_names_twice_are_refused():
    with pytest.raises(PolicyError, match="more than once"):
        PolicySet.from_yaml("policies:\n  - {name: a, description: b}\n  - {name: a, description: c}\n")


TEXT = st.text(st.characters(blacklist_categories=("Cc", "Cs")), min_size=1, max_size=40).filter(
    lambda text: text.strip() == text and text.lower() != "other"
)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5, unique_by=lambda pair: pair[0]), st.none() | TEXT)
def test_what_is_written_is_read_back(pairs: list[tuple[str, str]], default: str | None):
    policies = PolicySet(
        [Policy(name, text) for name, text in pairs], models={pairs[0][0]: ["a", "b"]}, default=default
    )
    assert PolicySet.from_yaml(policies.to_yaml()) == policies


def test_domains_are_written_and_read_back():
    policies = PolicySet.from_yaml(OURS)
    assert PolicySet.from_yaml(policies.to_yaml()) == policies
