"""The policy file and Plano's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute import Domain, FileFormatError, Policy, PolicyError, PolicySet
from archroute.serving import ModelInfo, Serving

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
SERVED = """\
policies:
  - name: code_generation
    description: Writing new functions, scripts or boilerplate
    models: {openai:gpt-5: 0.95, openai:new: 0.05}
    fallbacks: [openai:gpt-5-mini]
    shadows: [openai:newer]
    timeout: 20
    min_confidence: 0.6
    on_failure: raise
  - name: travel
    description: Anything about trips
    models: [a, b]
    fallbacks: [c]
    min_confidence: 0.5
    actions:
      - name: flights
        description: Booking flights
        model: a
        models: [b]
        fallbacks: [c, d]
        timeout: 1.5
      - name: hotels
        description: Booking hotels
        models: {a: 1}
      - {name: trains, description: Booking trains, shadows: [c], on_failure: default}
default: openai:gpt-5-mini
models:
  openai:gpt-5: {images: true, tools: true, context: 400000, input_price: 1.25, output_price: 10}
  never:used: {images: false}
  a: {}
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


def test_how_routes_are_served():
    policies = PolicySet.from_yaml(SERVED)
    assert policies.models == {
        "code_generation": ("openai:gpt-5", "openai:new", "openai:gpt-5-mini"),
        "travel": ("a", "b", "c"),
        "flights": ("a", "b", "c", "d"),
        "hotels": ("a",),
    }
    assert policies.serving == {
        "code_generation": Serving(
            shares={"openai:gpt-5": 0.95, "openai:new": 0.05},
            shadows=("openai:newer",),
            timeout=20,
            min_confidence=0.6,
            on_failure="raise",
        ),
        "travel": Serving(min_confidence=0.5),
        "flights": Serving(timeout=1.5),
        "hotels": Serving(shares={"a": 1}),
        "trains": Serving(shadows=("c",)),
    }


def test_what_is_known_of_models():
    assert PolicySet.from_yaml(SERVED).info == {
        "openai:gpt-5": ModelInfo(images=True, tools=True, context=400_000, input_price=1.25, output_price=10),
        "never:used": ModelInfo(images=False),
        "a": ModelInfo(),
    }


def test_a_file_that_says_only_models_says_nothing_of_serving():
    policies = PolicySet.from_yaml(OURS)
    assert policies.serving == {}
    assert policies.info == {}


def test_entries_may_share_what_they_say():
    policies = PolicySet.from_yaml(
        "policies:\n"
        "  - &base {name: a, description: x, models: {m: 0.5, n: 0.5}, timeout: 3}\n"
        "  - {<<: *base, name: b, timeout: 4}\n"
    )
    assert policies.models == {"a": ("m", "n"), "b": ("m", "n")}
    assert policies.serving["b"] == Serving(shares={"m": 0.5, "n": 0.5}, timeout=4)


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


def edited(line: int, text: str) -> str:
    """`SERVED` with another text for one of its lines."""
    lines = SERVED.splitlines()
    lines[line - 1] = text
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("line", "text", "told"),
    [
        (4, "    models: {a: 0.9, b: 0.05}", r"policies\[0\]\.models: the shares of .* sum to 0.95"),
        (4, "    models: {a: 0.9, b: 0.2}", r"policies\[0\]\.models: the shares of .* sum to 1.1"),
        (4, "    models: {}", r"policies\[0\]\.models: the shares of .* sum to 0"),
        (4, "    models: {x:a: 1.5, b: -0.5}", r"policies\[0\]\.models\.x:a: .*less than or equal to 1"),
        (4, "    models: {x:a: half, b: 0.5}", r"policies\[0\]\.models\.x:a: .*number"),
        (4, "    models: {x:a: true}", r"policies\[0\]\.models\.x:a: .*number"),
        (4, "    models: {x:a: .nan, b: 0.5}", r"policies\[0\]\.models\.x:a"),
        (4, "    models: {7: 0.5, b: 0.5}", r"policies\[0\]\.models.*string"),
        (4, "    models: {a: 0.5, b: 0.5, a: 0.5}", r"field a: it is there twice"),
        (4, "    models: openai:gpt-5", r"policies\[0\]\.models: .*list"),
        (4, "    models: [a, '']", r"policies\[0\]\.models\[1\]: .*at least 1"),
        (5, "    fallbacks: [openai:new]", r"policies\[0\]\.fallbacks\[0\]: the model is there twice"),
        (5, "    fallbacks: [x, y, x]", r"policies\[0\]\.fallbacks\[2\]: the model is there twice"),
        (5, "    fallbacks: x", r"policies\[0\]\.fallbacks: .*list"),
        (5, "    model: x", r"policies\[0\]\.model: the policy has a split already"),
        (6, "    shadows: [x, x]", r"policies\[0\]\.shadows\[1\]: the model is there twice"),
        (7, "    timeout: -1", r"policies\[0\]\.timeout: .*greater than 0"),
        (7, "    timeout: 0", r"policies\[0\]\.timeout: .*greater than 0"),
        (7, "    timeout: .inf", r"policies\[0\]\.timeout: .*finite"),
        (7, "    timeout: 20s", r"policies\[0\]\.timeout: .*number"),
        (7, "    time_out: 20", r"policies\[0\]\.time_out"),
        (8, "    min_confidence: 60", r"policies\[0\]\.min_confidence: .*less than or equal to 1"),
        (9, "    on_failure: ignore", r"policies\[0\]\.on_failure: .*'default' or 'raise'"),
        (12, "    models: [a, b, a]", r"policies\[1\]\.models\[2\]: the model is there twice"),
        (19, "        models: [a]", r"policies\[1\]\.actions\[0\]\.models\[0\]: the model is there twice"),
        (21, "        timeout: -1.5", r"policies\[1\]\.actions\[0\]\.timeout"),
        (24, "        models: {a: 0.4, b: 0.4}", r"policies\[1\]\.actions\[1\]\.models: the shares of .* sum to 0.8"),
        (24, "        fallbacks: [a]", r"policies\[1\]\.actions\[1\]\.fallbacks: there is no model"),
        (28, "  openai:gpt-5: {image: true}", r"models\.openai:gpt-5\.image"),
        (28, "  openai:gpt-5: {context: 4.5}", r"models\.openai:gpt-5\.context"),
        (28, "  openai:gpt-5: {context: 0}", r"models\.openai:gpt-5\.context: .*greater than 0"),
        (28, "  openai:gpt-5: {images: 1}", r"models\.openai:gpt-5\.images: .*boolean"),
        (28, "  openai:gpt-5: {output_price: -1}", r"models\.openai:gpt-5\.output_price: .*greater than or equal to 0"),
        (30, "  never:used: {}", "field never:used: it is there twice"),
    ],
)
def test_faults_of_serving_name_line_and_field(line: int, text: str, told: str):
    with pytest.raises(FileFormatError, match=told) as caught:
        PolicySet.from_yaml(edited(line, text))
    assert f"line {line}" in str(caught.value)


def test_the_line_of_a_split_is_that_of_its_key():
    with pytest.raises(FileFormatError, match=r"line 4, field policies\[0\]\.models: the shares"):
        PolicySet.from_yaml("policies:\n- name: a\n  description: b\n  models:\n    # not enough\n    x: 0.5\n")


def test_a_node_that_holds_itself_is_no_endless_search():
    with pytest.raises(FileFormatError):
        PolicySet.from_yaml("policies: &all\n  - name: a\n  - *all\n")


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


MODELS = st.lists(TEXT, min_size=1, max_size=4, unique=True)
POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False) | st.integers(1, 100)
INFO = st.builds(
    ModelInfo,
    images=st.none() | st.booleans(),
    tools=st.none() | st.booleans(),
    context=st.none() | st.integers(1, 10**7),
    input_price=st.none() | st.just(0) | POSITIVE,
    output_price=st.none() | st.just(0) | POSITIVE,
)


@st.composite
def policy_sets(draw: st.DrawFn) -> PolicySet:
    """Sets of all that a file can hold."""
    names = draw(st.lists(TEXT, min_size=1, max_size=5, unique=True))
    policies: list[Policy | Domain] = []
    rest = list(names)
    while rest:
        name, text = rest.pop(), draw(TEXT)
        if draw(st.booleans()):
            actions = [Policy(rest.pop(), draw(TEXT)) for _ in range(draw(st.integers(0, len(rest))))]
            policies.append(Domain(name, text, actions))
        else:
            policies.append(Policy(name, text))
    models = draw(st.dictionaries(st.sampled_from(names), MODELS))
    serving = {}
    for name in draw(st.sets(st.sampled_from(names))):
        bound = models.get(name, [])
        arms = bound[: draw(st.integers(0, len(bound)))]
        weights = draw(st.lists(st.integers(1, 100), min_size=len(arms), max_size=len(arms)))
        serving[name] = Serving(
            shares={arm: weight / sum(weights) for arm, weight in zip(arms, weights, strict=True)},
            shadows=tuple(draw(st.just([]) | MODELS)),
            timeout=draw(st.none() | POSITIVE),
            min_confidence=draw(st.none() | st.floats(0, 1)),
            on_failure=draw(st.sampled_from(["default", "raise"])),
        )
    info = draw(st.dictionaries(TEXT, INFO, max_size=3))
    return PolicySet(policies, models=models, default=draw(st.none() | TEXT), serving=serving, info=info)


@given(policy_sets())
def test_what_is_written_is_read_back(policies: PolicySet):
    assert PolicySet.from_yaml(policies.to_yaml()) == policies


def test_a_model_that_stands_twice_is_written_once():
    policies = PolicySet.from_yaml(PLANO_04.replace("[anthropic/claude, fast]", "[fast, openai/gpt-5-nano]"))
    assert policies.models == {"code generation": ("openai/gpt-5-nano", "openai/gpt-5-nano")}
    assert PolicySet.from_yaml(policies.to_yaml()).models == {"code generation": ("openai/gpt-5-nano",)}


def test_domains_are_written_and_read_back():
    for text in (OURS, SERVED):
        policies = PolicySet.from_yaml(text)
        assert PolicySet.from_yaml(policies.to_yaml()) == policies
