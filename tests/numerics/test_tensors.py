"""Masked statistics, whitening, log-probs and entropy against numbers worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from plaudit.tensors import (
    Head,
    logprobs_and_entropy,
    masked_mean,
    masked_sum,
    masked_variance,
    nucleus,
    token_logprobs,
    whiten,
)

NAN = float("nan")
X = torch.tensor([[1.0, 2.0, NAN], [3.0, 6.0, NAN]])
MASK = torch.tensor([[True, True, False], [True, True, False]])


def test_masked_statistics_read_nothing_outside_the_mask() -> None:
    assert masked_sum(X, MASK).item() == 12.0
    assert masked_mean(X, MASK).item() == 3.0
    # (4 + 1 + 0 + 9) / 4: the population's variance; the sample's would be 14 / 3.
    assert masked_variance(X, MASK).item() == 3.5
    assert masked_mean(X, torch.zeros_like(MASK)).item() == 0.0


def test_whitening_by_hand() -> None:
    expected = torch.tensor([[-1.0690450, -0.5345225, 0.0], [0.0, 1.6035675, 0.0]])  # (x - 3) / sqrt(3.5)
    torch.testing.assert_close(whiten(X, MASK), expected, atol=1e-6, rtol=0)
    kept_mean = torch.tensor([[1.9309550, 2.4654775, 0.0], [3.0, 4.6035675, 0.0]])
    torch.testing.assert_close(whiten(X, MASK, shift_mean=False), kept_mean, atol=1e-6, rtol=0)
    assert whiten(X, MASK)[~MASK].tolist() == [0.0, 0.0]  # to the bit, though it was NaN


def test_whitening_gives_mean_0_and_population_variance_1() -> None:
    x = torch.randn(5, 9, generator=torch.Generator().manual_seed(0)) * 3 + 7
    mask = torch.arange(9) < torch.tensor([9, 1, 4, 7, 2])[:, None]
    real = whiten(x, mask)[mask].double()
    assert abs(real.mean().item()) < 1e-6
    assert abs(real.var(unbiased=False).item() - 1) < 1e-6
    # Nor does it matter how the tokens are laid out.
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(whiten(x[order], mask[order]), whiten(x, mask)[order], atol=1e-6, rtol=0)


def test_whitening_equal_values_is_no_nan() -> None:
    assert whiten(torch.full((2, 2), 4.0), torch.ones(2, 2, dtype=torch.bool)).abs().max().item() == 0.0


def head(unembed: Callable[[Tensor], Tensor], *, frozen: bool = False, chunk: int = 1024) -> Head:
    return Head(unembed=unembed, frozen=frozen, chunk=chunk)


LOGITS = torch.tensor([[math.log(1.0), math.log(2.0), math.log(5.0)]])  # probabilities 1/8, 2/8, 5/8


def test_logprobs_and_entropy_by_hand() -> None:
    logprobs, entropy = logprobs_and_entropy(LOGITS, torch.tensor([1]))
    assert logprobs.item() == pytest.approx(-1.3862944, abs=1e-6)  # log 1/4
    # 1/8 log 8 + 1/4 log 4 + 5/8 log 8/5 = 0.2599302 + 0.3465736 + 0.2937523
    assert entropy.item() == pytest.approx(0.9002561, abs=1e-6)


def test_temperature_divides_the_logits() -> None:
    states, tokens = torch.eye(3)[:1], torch.tensor([1])
    found, entropy = token_logprobs(states, tokens, head(lambda _: LOGITS), temperature=0.5)
    # Probabilities in proportion to 1, 4, 25.
    assert found.item() == pytest.approx(math.log(4 / 30), abs=1e-6)
    assert entropy.item() == pytest.approx(-sum(p * math.log(p) for p in (1 / 30, 4 / 30, 25 / 30)), abs=1e-6)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p() -> None:
    def left(top_p: float, keep: int | None = None) -> list[bool]:
        kept = nucleus(LOGITS, top_p, None if keep is None else torch.tensor([keep]))
        return kept.isfinite()[0].tolist()

    assert left(0.6) == [False, False, True]  # 5/8 is enough
    assert left(0.7) == [False, True, True]
    assert left(0.9) == [True, True, True]
    assert left(1.0) == [True, True, True]
    assert left(0.6, keep=0) == [True, False, True]  # the sampled token keeps its log-prob
    found, entropy = token_logprobs(torch.eye(3)[:1], torch.tensor([1]), head(lambda _: LOGITS), top_p=0.7)
    assert found.item() == pytest.approx(math.log(2 / 7), abs=1e-6)
    assert entropy.item() == pytest.approx(-(2 / 7) * math.log(2 / 7) - (5 / 7) * math.log(5 / 7), abs=1e-6)


@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("top_p", [1.0, 0.8])
def test_chunks_of_the_head_change_nothing(chunk: int, frozen: bool, top_p: float) -> None:
    """Values, and gradients of any mixture of the log-probs, against plain log-softmaxes in float64."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(11, 6, generator=generator).requires_grad_(not frozen)
    states = torch.randn(7, 6, generator=generator).requires_grad_()
    tokens = torch.randint(11, (7,), generator=generator)
    mixture = torch.randn(7, generator=generator)
    trained = (states,) if frozen else (states, weight)
    found, entropy = token_logprobs(
        states, tokens, head(lambda s: s @ weight.T, frozen=frozen, chunk=chunk), temperature=0.7, top_p=top_p
    )
    gradients = torch.autograd.grad((found * mixture).sum() + entropy.sum(), trained)
    exact = nucleus(states.double() @ weight.double().T / 0.7, top_p, keep=tokens).log_softmax(-1)
    expected = exact[torch.arange(7), tokens]
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
    spread = -(exact.exp() * exact.clamp(min=-1e9)).sum(-1)
    torch.testing.assert_close(entropy.double(), spread, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients, torch.autograd.grad((expected * mixture).sum(), trained), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_log_prob_too_small_for_a_chance_is_finite() -> None:
    logits = torch.tensor([[0.0, 200.0]]).requires_grad_()
    found, _ = logprobs_and_entropy(logits, torch.tensor([0]))
    assert found.item() == -200.0
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    assert gradient.tolist() == [[1.0, -1.0]]


@pytest.mark.parametrize("frozen", [True, False])
def test_chunked_logits_never_exist_at_once(frozen: bool) -> None:
    largest = 0

    def unembed(states: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, len(states))
        return states @ torch.ones(4, 5)

    states = torch.ones(20, 4, requires_grad=True)
    token_logprobs(states, torch.zeros(20, dtype=torch.long), head(unembed, frozen=frozen, chunk=8))[0].sum().backward()
    assert largest == 8


def test_no_tokens_are_no_error() -> None:
    found, entropy = token_logprobs(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), head(lambda s: s))
    assert found.shape == entropy.shape == (0,)
