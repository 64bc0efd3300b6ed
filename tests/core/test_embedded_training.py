"""The recipe of the embedded model: right labels, a calibration that helps, weights that survive int8."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel

from archroute.conversation import Conversation
from archroute.engines.embedded.encoder import HEADS, Encoder
from archroute.engines.embedded.engine import WEIGHTS
from archroute.engines.embedded.serving import activation_bits, served
from archroute.engines.embedded.text import Encoded, Reader
from archroute.policy import Policy
from training.embedded.calibration import calibrated, calibration_error, recalibrated
from training.embedded.fit import Learner, Steps, fit
from training.embedded.noise import misspelt
from training.embedded.phrases import LEADS
from training.embedded.rooms import RoomSampler, choices
from training.embedded.rounding import inputs_of
from training.embedded.sampling import Sampler
from training.embedded.sources import WRITTEN, Area, Concept
from training.embedded.tensors import blended, continued, head, quantized, trainable, widened


def _area(name: str, *, overlaps: dict[str, set[str]] | None = None) -> Area:
    concepts = tuple(
        Concept(
            key=key,
            wordings=(Policy(f"{name}_{key}", f"All on {key} of {name}"),),
            requests=(Conversation.from_text(f"request {name} {key}"),),
            near_misses=(f"miss {name} {key}",),
            overlaps=frozenset((overlaps or {}).get(key, set())),
        )
        for key in "abcdefgh"
    )
    return Area(
        name,
        "written",
        concepts,
        (Policy(name, "all of it"),),
        (f"vague {name}",),
        (Conversation.from_text(f"outside {name}"),),
    )


def _cases(sampler: Sampler, rounds: int = 200):
    for _ in range(rounds):
        group = sampler.group(policies=6, cases=6, weights={"written": 1.0})
        for case in group.cases:
            last = case.conversation.turns[-1].content
            for lead in LEADS:
                last = last.removeprefix(f"{lead} ")
            yield [policy.name for policy in group.policies], case, last


def test_the_answer_is_the_policy_that_the_last_turn_was_written_for():
    for names, case, last in _cases(Sampler([_area("north"), _area("south")], 1, augment=False)):
        if case.kind in ("single", "topic_change"):
            assert case.answer is not None
            assert names[case.answer] == last.removeprefix("request ").replace(" ", "_")
        if case.kind == "domain":
            assert case.answer is not None
            assert names[case.answer] in last
        if case.answer is None and last.startswith("request"):
            assert last.removeprefix("request ").replace(" ", "_") not in names


def test_what_could_both_be_right_is_never_offered_together():
    areas = [_area("north", overlaps={"a": {"b"}}), _area("south")]
    alike = {("north/c", "south/d")}
    for names, case, last in _cases(Sampler(areas, 2, augment=False, alike=alike)):
        for one, other in (("north_a", "north_b"), ("north_c", "south_d")):
            assert not {one, other} <= set(names)
            if case.answer is None:
                for present, absent in ((one, other), (other, one)):
                    assert not (present in names and last == f"request {absent.replace('_', ' ')}")


def test_texts_that_belong_to_nothing_are_only_used_where_all_policies_are_of_their_area():
    for names, case, last in _cases(Sampler([_area("north"), _area("south")], 3, augment=False)):
        if case.kind in ("outside", "near_miss"):
            area = last.split()[1]
            assert all(name.startswith(area) for name in names)


def test_in_a_choice_of_policies_the_answer_is_the_right_one_if_it_is_chosen_and_none_if_not():
    areas = [_area("north", overlaps={"a": {"b"}}), _area("south")]
    sampler, draw = RoomSampler(areas, 7, augment=False), random.Random(7)
    seen = set()
    for _ in range(60):
        room = sampler.room(policies=6, members=10, weights={"written": 1.0})
        for choice in choices(room, 4, draw):
            names = [room.policies[place].name for place in choice.policies]
            for number, answer in zip(choice.members, choice.answers, strict=True):
                last = room.members[number].conversation.turns[-1].content
                for lead in LEADS:
                    last = last.removeprefix(f"{lead} ")
                kind, *rest = last.split()
                wanted = "_".join(rest)
                if kind == "request":
                    assert not (wanted == "north_a" and "north_b" in names)
                    domain = wanted.split("_")[0]
                    right = next((name for name in (wanted, domain) if name in names), None)
                    assert (names[answer] if answer < len(names) else None) == right
                seen.add((kind, answer == len(names)))
    assert {("request", True), ("request", False), ("vague", False), ("miss", True), ("outside", True)} <= seen


def test_a_seed_gives_the_same_cases():
    one, two = (list(_cases(Sampler([_area("north")], 4, augment=True), 20)) for _ in range(2))
    assert one == two


def test_typing_errors_change_about_one_letter_in_ten_and_nothing_else():
    text = "please summarise the quarterly report for the board " * 20
    wrong = misspelt(text, random.Random(5))
    assert wrong != text
    assert abs(len(wrong) - len(text)) < len(text) / 20
    words = list(zip(text.split(), wrong.split(), strict=True))
    changed = sum(one != other for one, other in words) / len(words)
    assert 0.2 < changed < 0.8


def test_calibration_softens_a_model_that_is_too_sure_and_keeps_its_choice():
    draw = torch.Generator().manual_seed(6)
    results = []
    for number in range(400):
        answer = number % 5
        row = torch.randn(5, generator=draw)
        row[answer] += 1.5
        results.append(("source", "kind", row * 8, answer))
    tensors = {"head.scale": torch.tensor(8.0).log(), "head.null.1.bias": torch.zeros(1)}
    better = calibrated(tensors, results)
    after = recalibrated(results, tensors, better)
    assert calibration_error(after) < calibration_error(results) / 2
    for (_, _, before, _), (_, _, row, _) in zip(results, after, strict=True):
        assert before[:-1].argmax() == row[:-1].argmax()


def test_int8_keeps_the_order_of_the_weights_and_the_head_as_it_is():
    weight = torch.linspace(-1, 1, 600).reshape(20, 30)
    tensors = {"encoder.layer.0.x.weight": weight, "head.words.weight": weight, "encoder.layer.0.x.bias": weight[0]}
    int8 = quantized(tensors)
    assert torch.equal(int8["head.words.weight"], weight)
    data, scale = int8["encoder.layer.0.x.weight._data"], int8["encoder.layer.0.x.weight._scale"]
    assert data.dtype == torch.int8
    torch.testing.assert_close(data.float() * scale, weight, atol=float(scale.max()) * 0.51, rtol=0)


def _learner(seed: int, hidden: int) -> Learner:
    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        intermediate_size=hidden,
        initializer_range=0.2,
    )
    body = BertModel(config, add_pooling_layer=False).state_dict()
    return Learner(trainable(body | head(hidden, seed), frozen=("embeddings.",)), rate=2e-3)


def test_a_shipped_model_goes_on_from_where_it_stands(monkeypatch: pytest.MonkeyPatch):
    further = continued(WEIGHTS / "model.safetensors")
    assert not further["embeddings.word_embeddings.weight"].requires_grad
    assert further["encoder.layer.0.output.dense.weight"].requires_grad
    text = Reader(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))).policy(Policy("cards", "My card is gone"))
    monkeypatch.setattr("archroute.engines.embedded.serving.activation_bits", lambda: None)  # activations stay float
    shipped = Encoder(load_file(WEIGHTS / "model.safetensors"), served)
    torch.testing.assert_close(Encoder(further).read([text])[0], shipped.read([text])[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("heads", [True, False])
def test_two_models_have_a_mean(heads: bool):
    """On the way to the other one, the encoder moves; the head stays unless it is told to move too."""
    one, other = _learner(0, 48).tensors, _learner(1, 48).tensors
    mean = blended(one, other, 0.25, heads=heads)
    assert mean.keys() == one.keys()
    for name, tensor in mean.items():
        moved = heads or not name.startswith("head.")
        torch.testing.assert_close(tensor, 0.75 * one[name] + 0.25 * other[name] if moved else one[name])
        assert not tensor.requires_grad


def _requests(reader: Reader, board: str) -> list[Encoded]:
    concepts = yaml.safe_load((WRITTEN / "boards" / f"{board}.yaml").read_text(encoding="utf-8"))["concepts"]
    said = [request for concept in concepts for request in concept["requests"]]
    return [reader.conversation(Conversation.from_text(text)) for text in said]


def _two_layers(seed: int) -> dict[str, Tensor]:
    """The beginning of the package's model, its weights off the steps they were rounded to."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: tensor.detach() * (1 + 0.01 * torch.randn(tensor.shape, generator=draw))
        for name, tensor in continued(WEIGHTS / "model.safetensors").items()
        if name.startswith(("embeddings.", "encoder.layer.0.", "encoder.layer.1."))
    }


@pytest.mark.skipif(activation_bits() is None, reason="this machine has no int8 product")
def test_layers_rounded_by_what_they_are_given_change_a_text_less():
    tensors, reader = _two_layers(9), Reader(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    learned, others = _requests(reader, "clinic_line"), _requests(reader, "parcel_carrier_intents")[:20]
    plain = Encoder(tensors)

    def missed(int8: Mapping[str, Tensor]) -> float:
        encoder = Encoder(int8, served)
        return sum(float((encoder.read([text])[0] - plain.read([text])[0]).mean(dim=0).norm()) for text in others)

    assert missed(quantized(tensors, inputs_of(tensors, learned))) < 0.8 * missed(quantized(tensors))


def test_widened_layers_are_those_that_were_rounded():
    tensors, reader = _two_layers(10), Reader(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    again = widened(quantized(tensors, inputs_of(tensors, _requests(reader, "clinic_line")[:20])))
    assert again.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert functional.cosine_similarity(again[name].flatten(), tensor.flatten(), dim=0) > 0.99


def test_int8_that_was_widened_is_rounded_to_the_same():
    once = quantized(_two_layers(11))
    again = quantized(widened(once))
    assert again.keys() == once.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in once.items())


def test_a_pupil_comes_to_answer_as_its_teacher_does_where_no_answer_is_known(monkeypatch: pytest.MonkeyPatch):
    # The teacher counts the rest, and most is read as it was said: enough to be seen in a few steps.
    monkeypatch.setattr("training.embedded.fit.PLAIN_SHARE", 0.3)
    monkeypatch.setattr("training.embedded.fit.HURRIED", 0.35)
    reader = Reader(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    drawn = Steps([_area("north"), _area("south")], reader, 8)
    teacher, pupil, alone = _learner(1, 4 * HEADS), _learner(2, 2 * HEADS), _learner(2, 2 * HEADS)
    step = drawn[1000]
    across = [number for number, choice in enumerate(step.choices) if not choice.members]

    def apart(learner: Learner) -> float:
        with torch.no_grad():
            wanted, found = (one.compared(step).logits[across].log_softmax(dim=-1) for one in (teacher, learner))
            return float(functional.kl_div(found, wanted, reduction="none", log_target=True).sum(dim=-1).mean())

    before = apart(pupil)
    fit(pupil, drawn, steps=15, teacher=teacher)
    fit(alone, drawn, steps=15)
    assert apart(pupil) < 0.7 * before
    assert apart(pupil) < 0.7 * apart(alone)


def test_a_step_is_drawn_the_same_whenever_it_is_asked_for():
    reader = Reader(Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    one, other = (Steps([_area("north")], reader, seed) for seed in (8, 9))
    assert one[5] == Steps([_area("north")], reader, 8)[5]
    assert one[5] != one[6]
    assert one[5] != other[5]
