"""The embedded model's encoder and comparison, against stock transformers and by their promises."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig, BertModel, MPNetConfig, MPNetModel

from archroute.engines.embedded.comparison import NULL_FEATURES, SIMILARITIES, WORD_SIZE, Comparison, Offer
from archroute.engines.embedded.encoder import HEADS, Encoder
from archroute.engines.embedded.serving import activation_bits, served
from archroute.engines.embedded.text import Encoded
from training.embedded.batch import IGNORED, Step, answers_of, compared
from training.embedded.rooms import Choice
from training.embedded.teacher import TeacherEncoder, initial_teacher
from training.embedded.tensors import quantized

HIDDEN = 4 * HEADS


@pytest.fixture(scope="module")
def bert() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        hidden_size=HIDDEN,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=32,
    )
    return BertModel(config, add_pooling_layer=False).eval()


@pytest.fixture(scope="module")
def head() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    shapes = {
        "words.weight": (WORD_SIZE, HIDDEN),
        "weights.weight": (2, HIDDEN),
        "gate.weight": (1, HIDDEN),
        "gate.bias": (1,),
        "mix": (SIMILARITIES,),
        "scale": (),
        "null.0.weight": (8, NULL_FEATURES + 2 * HIDDEN),
        "null.0.bias": (8,),
        "null.1.weight": (1, 8),
        "null.1.bias": (1,),
    }
    return {f"head.{name}": torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def _text(size: int, before: int = 0) -> Encoded:
    draw = torch.Generator().manual_seed(size)
    tokens: list[int] = torch.randint(1, 50, (size + before,), generator=draw).tolist()
    return Encoded(tokens, [0] * size + [1] * before, truncated=False)


def test_texts_of_all_lengths_in_one_row_are_read_as_stock_bert_reads_each(bert: BertModel):
    texts = [_text(7), _text(3), _text(7, before=4), _text(11), _text(3)]
    with torch.inference_mode():
        found = Encoder(bert.state_dict()).read(texts)
        for text, vectors in zip(texts, found, strict=True):
            wanted = bert(
                input_ids=torch.tensor([text.tokens]), token_type_ids=torch.tensor([text.kinds])
            ).last_hidden_state[0]
            torch.testing.assert_close(vectors, wanted, atol=1e-5, rtol=1e-4)


def test_a_score_does_not_depend_on_the_policies_order(bert: BertModel, head: dict[str, Tensor]):
    texts = [_text(5), _text(9), _text(12), _text(4, before=6), _text(8)]
    comparison = Comparison(head)
    with torch.inference_mode():
        read = Encoder(bert.state_dict()).read(texts)
        *policies, earlier, turn = (comparison.embedding(*one) for one in zip(read, texts, strict=True))
        for conversation in (earlier, turn):
            there = comparison.logits(conversation, Offer.of(policies))
            back = comparison.logits(conversation, Offer.of(policies[::-1]))
            torch.testing.assert_close(back[:3].flip(0), there[:3])
            torch.testing.assert_close(back[3], there[3])


def test_earlier_turns_weigh_as_much_as_the_gate_lets_through(bert: BertModel, head: dict[str, Tensor]):
    """With the gate shut, what was said before only counts through the turn's own vectors."""
    text = _text(4, before=6)
    policies = [_text(5), _text(9)]
    with torch.inference_mode():
        read = Encoder(bert.state_dict()).read([text, *policies])
        alone = Encoded(text.tokens[:4], text.kinds[:4], truncated=False)
        results = []
        for bias in (-1e4, 1e4):
            comparison = Comparison(head | {"head.gate.bias": torch.tensor([bias])})
            offer = Offer.of([comparison.embedding(*one) for one in zip(read[1:], policies, strict=True)])
            turn, silent = comparison.embedding(read[0], text), comparison.embedding(read[0][:4], alone)
            results.append((comparison.logits(turn, offer), comparison.logits(silent, offer)))
    shut, wide = results
    torch.testing.assert_close(*shut)
    assert not torch.allclose(*wide)


def test_a_step_of_training_scores_each_conversation_as_it_is_scored_alone(bert: BertModel, head: dict[str, Tensor]):
    policies, members = [_text(5), _text(9), _text(12), _text(3)], [_text(4, before=6), _text(8), _text(2)]
    choices = [Choice([2, 0], [1, 2], [1, 2]), Choice([0, 1, 2, 3], [0], [3]), Choice([3], [], [])]
    step, comparison, encoder = Step(policies, members, choices), Comparison(head), Encoder(bert.state_dict())
    with torch.inference_mode():
        found = compared(head, encoder, step).logits
        offered, asked = (
            [comparison.embedding(*one) for one in zip(encoder.read(texts), texts, strict=True)]
            for texts in (policies, members)
        )
        for choice, rows in zip(choices, found, strict=True):
            offer = Offer.of([offered[place] for place in choice.policies])
            for conversation, row in zip(asked, rows, strict=True):
                torch.testing.assert_close(row[[*choice.policies, 4]], comparison.logits(conversation, offer))
                left_out = [place for place in range(4) if place not in choice.policies]
                assert (row[left_out] < row[[*choice.policies, 4]].min()).all()
    assert answers_of(step).tolist() == [[IGNORED, 0, 4], [3, IGNORED, IGNORED], [IGNORED] * 3]


def test_the_teacher_is_read_as_stock_mpnet_is(tmp_path: Path):
    words = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", *(f"w{number}" for number in range(30))]
    config = MPNetConfig(
        vocab_size=len(words),
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        intermediate_size=64,
        max_position_embeddings=300,
        initializer_range=0.4,
        layer_norm_eps=1e-12,
    )
    torch.manual_seed(0)
    stock = MPNetModel(config, add_pooling_layer=False).eval()
    save_file(stock.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    berts = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words[5:]])}
    tokenizer = Tokenizer(WordLevel(berts, unk_token="[UNK]"))
    tensors = initial_teacher(tmp_path, tokenizer, 0)
    draw = torch.Generator().manual_seed(4)
    with torch.inference_mode():
        for length in (3, 40, 250):  # within, beside and beyond the exact distances
            said = torch.randint(5, len(words), (length,), generator=draw).tolist()
            text = Encoded([2, *(berts[words[number]] for number in said), 3], [0] * (length + 2), truncated=False)
            wanted = stock(input_ids=torch.tensor([[0, *said, 2]])).last_hidden_state[0]
            torch.testing.assert_close(TeacherEncoder(tensors).read([text])[0], wanted, atol=1e-4, rtol=1e-3)


@pytest.mark.skipif(activation_bits() is None, reason="this machine has no int8 product")
@pytest.mark.parametrize("name", ["intermediate.dense", "output.dense"])
def test_a_row_far_larger_than_the_others_leaves_them_their_precision(name: str):
    draw = torch.Generator().manual_seed(3)
    weight, x = torch.randn(64, 32, generator=draw), torch.randn(5, 32, generator=draw)
    x[0] *= 100
    x[1] = 0
    x[2] = -x[2].abs()
    if name == "output.dense":
        x = functional.gelu(x)  # as that layer gets it
    layer = {f"encoder.layer.0.{name}.weight": weight, f"encoder.layer.0.{name}.bias": torch.randn(64, generator=draw)}
    wanted = x @ weight.T + layer[f"encoder.layer.0.{name}.bias"]
    found = served(quantized(layer), f"encoder.layer.0.{name}")(x)
    assert ((found - wanted).abs().amax(dim=1) < 0.06 * wanted.std(dim=1)).all()
