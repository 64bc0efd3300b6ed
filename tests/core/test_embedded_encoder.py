"""The embedded model's encoder and comparison, against stock transformers and by their promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertModel

from archroute.engines.embedded.comparison import NULL_FEATURES, SIMILARITIES, WORD_SIZE, Comparison
from archroute.engines.embedded.encoder import HEADS, Encoder
from archroute.engines.embedded.serving import int8_is_right, served
from archroute.engines.embedded.text import Encoded
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


def test_a_score_does_not_depend_on_the_conversations_beside_it_nor_on_the_policies_order(
    bert: BertModel, head: dict[str, Tensor]
):
    texts = [_text(5), _text(9), _text(12), _text(4, before=6), _text(8)]
    comparison = Comparison(head)
    with torch.inference_mode():
        found = [comparison.embedding(*one) for one in zip(Encoder(bert.state_dict()).read(texts), texts, strict=True)]
        policies, conversations = found[:3], found[3:]
        together = comparison.logits(conversations, policies)
        alone = torch.cat([comparison.logits([conversation], policies) for conversation in conversations])
        torch.testing.assert_close(together, alone)
        backwards = comparison.logits(conversations, policies[::-1])
        torch.testing.assert_close(backwards[:, :3].flip(1), together[:, :3])
        torch.testing.assert_close(backwards[:, 3], together[:, 3])


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
            offered = [comparison.embedding(*one) for one in zip(read[1:], policies, strict=True)]
            turn, silent = comparison.embedding(read[0], text), comparison.embedding(read[0][:4], alone)
            results.append((comparison.logits([turn], offered), comparison.logits([silent], offered)))
    shut, wide = results
    torch.testing.assert_close(*shut)
    assert not torch.allclose(*wide)


def test_some_conversations_among_some_policies_are_scored_as_if_the_others_were_not_there(
    bert: BertModel, head: dict[str, Tensor]
):
    texts = [_text(5), _text(9), _text(12), _text(4, before=6), _text(8)]
    comparison = Comparison(head)
    with torch.inference_mode():
        found = comparison.embeddings(Encoder(bert.state_dict()).read(texts), texts)
        policies, conversations = found[:3], found[3:]
        chosen = comparison.similarities(conversations, policies).among(torch.tensor([1]), torch.tensor([2, 0]))
        torch.testing.assert_close(
            comparison.decided(chosen), comparison.logits(conversations[1:], [policies[2], policies[0]])
        )


@pytest.mark.skipif(not int8_is_right(), reason="this machine has no int8 product")
def test_a_row_far_larger_than_the_others_leaves_them_their_precision():
    draw = torch.Generator().manual_seed(3)
    weight, x = torch.randn(64, 32, generator=draw), torch.randn(5, 32, generator=draw)
    x[0] *= 100
    x[1] = 0
    name = "encoder.layer.0.output.dense"
    layer = {f"{name}.weight": weight, f"{name}.bias": torch.randn(64, generator=draw)}
    wanted = x @ weight.T + layer[f"{name}.bias"]
    found = served(quantized(layer), name)(x)
    assert ((found - wanted).abs().amax(dim=1) < 0.06 * wanted.std(dim=1)).all()
