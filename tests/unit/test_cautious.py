"""What a cautious reader makes of several members' scores."""

from __future__ import annotations

import pytest
import torch

from plaudit.rl.shaping import cautious

SCORES = torch.tensor([[[1.0, 0.0], [3.0, 0.0]], [[2.0, -1.0], [2.0, 1.0]]])
"""Two responses, two members, two objectives."""


def test_by_hand() -> None:
    assert cautious(SCORES, "mean", deviations=1.0).tolist() == [[2.0, 0.0], [2.0, 0.0]]
    # deviations of (1, 3) and (-1, 1) are 1, of equals 0
    assert cautious(SCORES, "lower", deviations=1.5).tolist() == [[0.5, 0.0], [2.0, -1.5]]
    assert cautious(SCORES, "worst", deviations=1.0).tolist() == [[1.0, 0.0], [2.0, -1.0]]


@pytest.mark.parametrize("take", ["mean", "lower", "worst"])
def test_who_agrees_is_taken_at_his_word(take: str) -> None:
    alike = torch.randn(5, 1, 2, generator=torch.Generator().manual_seed(0)).expand(5, 4, 2)
    found = cautious(alike, take, deviations=2.0)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(found, alike[:, 0], atol=1e-6, rtol=0)
