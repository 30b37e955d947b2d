"""GAE against numbers by hand and a slow loop in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from plaudit.rl.advantages import gae


def test_by_hand() -> None:
    rewards, values = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[0.5, 1.0, -1.0]])
    advantages, returns = gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), gamma=0.9, lam=0.8)
    # Nothing follows the last token, so its error is 2 - (-1) = 3. Before it: 0 + .9 (-1) - 1 = -1.9 and
    # 1 + .9 (1) - .5 = 1.4. Backwards with .9 * .8 = .72: 3; -1.9 + 2.16 = .26; 1.4 + .1872 = 1.5872.
    torch.testing.assert_close(advantages, torch.tensor([[1.5872, 0.26, 3.0]]), atol=1e-6, rtol=0)
    torch.testing.assert_close(returns, torch.tensor([[2.0872, 1.26, 2.0]]), atol=1e-6, rtol=0)


def test_gamma_and_lambda_1_give_the_sum_of_what_follows_less_the_value() -> None:
    rewards, values = torch.tensor([[0.25, -1.0, 4.0, 0.0]]), torch.tensor([[3.0, 1.0, 0.5, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lam=1.0)
    assert advantages.tolist() == [[3.25 - 3.0, 3.0 - 1.0, 4.0 - 0.5, 0.0]]
    assert returns.tolist() == [[3.25, 3.0, 4.0, 0.0]]


def test_the_value_after_the_last_real_token_is_0() -> None:
    """Whether the response ended by itself or not, and whatever stands in the padding."""
    nan = float("nan")
    rewards, values = torch.tensor([[5.0, nan, nan]]), torch.tensor([[2.0, 100.0, nan]])
    advantages, returns = gae(rewards, values, torch.tensor([[True, False, False]]), gamma=0.9, lam=0.5)
    assert advantages.tolist() == [[3.0, 0.0, 0.0]]
    assert returns.tolist() == [[5.0, 0.0, 0.0]]


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.0), (0.97, 1.0), (0.5, 0.5)])
def test_equals_a_slow_loop_in_float64(gamma: float, lam: float) -> None:
    rng = np.random.default_rng(0)
    lengths = [7, 1, 4, 6]
    rewards, values = rng.standard_normal((4, 7)), rng.standard_normal((4, 7))
    mask = np.arange(7) < np.array(lengths)[:, None]
    expected = np.zeros((4, 7))
    for b, length in enumerate(lengths):
        for t in range(length):
            # The definition, not the recursion: the sum of all later errors, each discounted.
            for later in range(t, length):
                after = values[b, later + 1] if later + 1 < length else 0.0
                error = rewards[b, later] + gamma * after - values[b, later]
                expected[b, t] += (gamma * lam) ** (later - t) * error
    advantages, returns = gae(
        torch.from_numpy(rewards).float(),
        torch.from_numpy(values).float(),
        torch.from_numpy(mask),
        gamma=gamma,
        lam=lam,
    )
    np.testing.assert_allclose(advantages.numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(returns.numpy(), np.where(mask, expected + values, 0.0), atol=1e-5)
