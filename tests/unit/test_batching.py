"""Batches under a token budget, and padding told from tokens by length."""

from __future__ import annotations

import pytest
import torch

from plaudit.data.batching import pad_right, padding_share, token_budget_batches


@pytest.mark.parametrize(
    ("lengths", "budget", "groups"),
    [
        ([], 10, []),
        ([3], 10, [[0]]),
        ([2, 5, 3, 1, 5], 10, [[1, 4], [2, 0, 3]]),
        ([2, 2, 2], 4, [[0, 1], [2]]),
        ([4, 30, 4], 8, [[1], [0, 2]]),  # longer than the budget: by itself
        ([30, 30], 8, [[0], [1]]),
        ([5, 3, 3], 9, [[0], [1, 2]]),  # 2 × 5 > 9, though 5 + 3 fits
    ],
)
def test_groups_of_like_length_within_the_budget(lengths: list[int], budget: int, groups: list[list[int]]) -> None:
    assert token_budget_batches(lengths, budget) == groups


def test_every_index_comes_once_and_no_padded_group_is_over_the_budget() -> None:
    lengths = [(i * 37) % 23 + 1 for i in range(200)]
    groups = token_budget_batches(lengths, 64)
    assert sorted(i for group in groups for i in group) == list(range(200))
    assert all(len(group) * max(lengths[i] for i in group) <= 64 for group in groups)


def test_padding_goes_right_and_the_mask_knows_lengths_alone() -> None:
    pad = 7
    padded, mask = pad_right([torch.tensor([7, 2, 7]), torch.tensor([5]), torch.tensor([], dtype=torch.long)], pad)
    assert padded.tolist() == [[7, 2, 7], [5, 7, 7], [7, 7, 7]]
    assert padded.dtype == torch.long
    assert mask.tolist() == [[True, True, True], [True, False, False], [False, False, False]]
    assert mask.dtype == torch.bool


def test_states_are_padded_too() -> None:
    padded, mask = pad_right([torch.ones(2, 3), torch.ones(1, 3)], 0.0)
    assert padded.shape == (2, 2, 3)
    assert padded[1].tolist() == [[1, 1, 1], [0, 0, 0]]
    assert mask.tolist() == [[True, True], [True, False]]


def test_the_share_of_padding() -> None:
    """Two groups: 3 x 10 for 10 + 8 + 6, and 1 x 4 for 4: 28 of 34 are real."""
    assert padding_share([[10, 8, 6], [4]]) == pytest.approx(6 / 34)
    assert padding_share([[5, 5]]) == 0.0
