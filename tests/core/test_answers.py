"""The answer trie."""

from __future__ import annotations

import math
import random

import torch

from archroute.engines.arch_router.answers import AnswerTrie


def test_shared_beginnings_are_read_once():
    trie = AnswerTrie({"a": [[1, 2, 3]], "b": [[1, 2, 4]], "c": [[1, 5]]})
    assert trie.whole.tokens.tolist() == [1, 2]  # last tokens are only predicted
    assert trie.whole.depths.tolist() == [1, 2]
    edges = sorted(zip(trie.edge_nodes.tolist(), trie.edge_tokens.tolist(), trie.edge_targets.tolist(), strict=True))
    assert edges == [(0, 1, 1), (1, 2, 2), (1, 5, -1), (2, 3, -1), (2, 4, -1)]


def test_nodes_see_themselves_and_their_ancestors():
    branch = AnswerTrie({"a": [[1, 2, 3, 9]], "b": [[1, 4, 9]]}).whole
    order = branch.tokens.tolist()
    seen = {
        token: {order[column] for column in range(len(order)) if not branch.unseen[row, column]}
        for row, token in enumerate(order)
    }
    assert seen == {1: {1}, 2: {1, 2}, 3: {1, 2, 3}, 4: {1, 4}}


def test_a_branch_brings_its_ancestors_and_nothing_else():
    trie = AnswerTrie({"a": [[1, 2, 3, 9]], "b": [[1, 4, 9]], "c": [[5, 6, 9]]})
    deepest = next(node for node, token in zip(trie.whole.nodes, trie.whole.tokens.tolist(), strict=True) if token == 3)
    branch = trie.branch([deepest])
    assert branch.tokens.tolist() == [1, 2, 3]
    assert branch.unseen.tolist() == [[False, True, True], [False, False, True], [False, False, False]]


def test_below_takes_whole_levels_first():
    trie = AnswerTrie({str(last): [[1, 2, last, 8, 9]] for last in range(3, 8)})
    assert sorted(trie.below([0], 1000)) == list(range(len(trie) + 1))
    first = trie.branch(trie.below([0], 6))
    assert first.tokens[:2].tolist() == [1, 2]  # the tokens all answers begin with
    assert set(first.depths[2:].tolist()) == {3}


def test_below_ends_where_too_many_choices_follow():
    trie = AnswerTrie({str(last): [[1, 2, last, 8, 9]] for last in range(3, 50)})
    assert trie.branch(trie.below([0], 1000)).tokens.tolist() == [1, 2]
    choice = trie.below([0], 1000)[-1] + 1
    assert trie.below([choice], 1000) == [choice, choice + 1]  # what has one way on is read to its end


def test_the_stem_is_what_many_answers_share():
    trie = AnswerTrie({str(last): [[1, 2, last, 8], [5, last, 8]] for last in range(10, 30)})
    assert sorted(trie.stem.tokens.tolist()) == [1, 2, 5]
    few = AnswerTrie({"a": [[1, 2, 3]], "b": [[1, 4, 5]]})
    assert len(few.stem.nodes) == len(few)


def test_probabilities_are_products_along_paths_summed_over_spellings():
    draw = random.Random(1)
    answers = {
        label: [[draw.randrange(4) for _ in range(draw.randint(1, 5))] for _ in range(2)] for label in "abcdefgh"
    }
    trie = AnswerTrie(answers)
    logs = torch.rand(2, len(trie.edge_nodes)).log()
    edges = {
        (node, token): (place, target)
        for place, (node, token, target) in enumerate(
            zip(trie.edge_nodes.tolist(), trie.edge_tokens.tolist(), trie.edge_targets.tolist(), strict=True)
        )
    }
    got = trie.probabilities(logs)
    for row in range(2):
        for column, spellings in enumerate(answers.values()):
            expected = 0.0
            for word in spellings:
                node, total = 0, 0.0
                for token in word:
                    place, node = edges[node, token]
                    total += logs[row, place].item()
                expected += math.exp(total)
            assert math.isclose(got[row, column].item(), expected, rel_tol=1e-5)


def test_unread_nodes_share_their_probability_evenly():
    trie = AnswerTrie({"a": [[1, 2]], "b": [[1, 3]], "c": [[4, 5]]})
    assert torch.allclose(trie.probabilities(trie.unread()), torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64))


def test_reach_is_the_probability_of_passing_through():
    trie = AnswerTrie({"a": [[1, 2, 9]], "b": [[1, 3, 9]]})
    logs = torch.tensor([0.5 if token == 1 else 0.25 for token in trie.edge_tokens.tolist()]).log()
    reach = dict(zip([0, *trie.whole.tokens.tolist()], trie.reach(logs).exp().tolist(), strict=True))
    assert math.isclose(reach[0], 1)
    assert math.isclose(reach[1], 0.5, rel_tol=1e-6)
    assert math.isclose(reach[2], 0.125, rel_tol=1e-6)
