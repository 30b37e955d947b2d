"""The kernels against plain formulas in float64: on a CUDA device, or on a CPU where Triton interprets them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from plaudit import kernels
from plaudit.models.cache import KeyValuesOfGPU
from plaudit.models.decoding_layers import rotate
from plaudit.tensors import Head, token_logprobs

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = pytest.mark.skipif(
    not kernels.usable(torch.zeros(1, dtype=torch.bfloat16, device=DEVICE)),
    reason="no CUDA device, and no TRITON_INTERPRET=1 with triton installed",
)
ROUNDING = 1.01 * (2.0**-7 if kernels.INTERPRETED else 2.0**-8)
"""Of bfloat16, relative: to the nearest on a device, towards zero where Triton is interpreted."""


def random(*shape: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread
    return made.to(device=DEVICE, dtype=torch.bfloat16)


def close(found: Tensor, expected: Tensor, tolerance: float = ROUNDING) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected.double(), atol=tolerance / 4, rtol=tolerance)


@pytest.mark.parametrize("shape", [(3, 10), (2, 5, 2600)])
def test_a_gate_and_its_way_back(shape: tuple[int, ...]) -> None:
    x = random(*shape, spread=2.0)
    grad = random(*shape[:-1], shape[-1] // 2, seed=1)
    exact = x.double().requires_grad_()
    gate, up = exact.chunk(2, dim=-1)
    expected = gate * torch.sigmoid(gate) * up
    close(kernels.gate(x), expected.detach())
    (at_x,) = torch.autograd.grad(expected, exact, grad.double())
    close(kernels.gate_back(x, grad), at_x)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("vocabulary", [22, 9001])
def test_logprobs_entropies_and_gradients(vocabulary: int, temperature: float) -> None:
    logits, tokens = random(7, vocabulary, spread=3.0), torch.tensor([0, 21, 3, 5, 8, 13, vocabulary - 1]).to(DEVICE)
    weights = torch.linspace(-1, 2, 7, device=DEVICE)
    exact = logits.double().requires_grad_()
    logprobs = (exact / temperature).log_softmax(dim=-1)
    chosen = logprobs.gather(1, tokens[:, None]).squeeze(1)
    (expected,) = torch.autograd.grad(chosen, exact, weights.double())
    given = logits.clone().requires_grad_()
    found, entropies = kernels.chosen_logprobs(given.clone(), tokens, temperature)
    assert found.dtype == entropies.dtype == torch.float32
    torch.testing.assert_close(found.double(), chosen.detach(), atol=1e-4, rtol=1e-5)
    entropy = -(logprobs.exp() * logprobs).sum(dim=-1)
    torch.testing.assert_close(entropies.double(), entropy.detach(), atol=1e-3, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found, given, weights)
    close(gradient, expected)


def test_token_logprobs_takes_them_where_nothing_is_cut() -> None:
    """With states in, gradients of states out, chunk by chunk: near what float32 gives, with and without top-p."""
    weight = random(300, 16)
    states, tokens = random(50, 16, seed=1), torch.arange(50, device=DEVICE)
    for top_p in (1.0, 0.9):
        results: list[tuple[Tensor, Tensor, Tensor]] = []
        for dtype in (torch.bfloat16, torch.float64):
            rows, weight_VD = states.to(dtype).requires_grad_(), weight.to(dtype)
            head = Head(unembed=lambda x, w=weight_VD: x @ w.T, frozen=True, chunk=16)
            found, entropies = token_logprobs(rows, tokens, head, temperature=0.8, top_p=top_p)
            (gradient,) = torch.autograd.grad(found.sum(), rows)
            results.append((found.detach(), entropies, gradient))
        for one, other in zip(*results, strict=True):
            assert (one.double() - other.double()).norm() < 0.02 * other.double().norm()


@pytest.mark.parametrize("width", [8, 24, 128])
def test_queries_are_turned_and_keys_and_values_put(width: int) -> None:
    rows, heads, kv_heads, room = 3, 6, 2, 16
    mixed = random(rows, (heads + 2 * kv_heads) * width)
    angles = torch.randn(rows, width // 2, generator=torch.Generator().manual_seed(2)).to(DEVICE)
    cos = torch.cat([angles.cos()] * 2, dim=-1)
    sin = torch.cat([-angles.sin(), angles.sin()], dim=-1)
    rotation = (cos.bfloat16().unsqueeze(1), sin.bfloat16().unsqueeze(1))
    places = torch.tensor([0, 15, 7], device=DEVICE)
    cache = KeyValuesOfGPU(*(random(rows, kv_heads, room, width, seed=s) for s in (3, 4)))
    before = (cache.keys.clone(), cache.values_BHMD.clone())
    queries = cache.turn_and_put(mixed, rotation, places)
    assert queries is not None
    heads_of = mixed.unflatten(-1, (-1, width)).double()
    turned = rotate(heads_of[:, : heads + kv_heads], *(part.double() for part in rotation))
    close(queries, turned[:, :heads])
    for row, place in enumerate(places.tolist()):
        close(cache.keys[row, :, place], turned[row, heads:])
        assert torch.equal(cache.values_BHMD[row, :, place].double(), heads_of[row, heads + kv_heads :])
    elsewhere = torch.ones(rows, room, dtype=torch.bool)
    elsewhere[range(rows), places.tolist()] = False
    for now, was in zip((cache.keys, cache.values_BHMD), before, strict=True):
        assert torch.equal(now.transpose(1, 2)[elsewhere], was.transpose(1, 2)[elsewhere])
