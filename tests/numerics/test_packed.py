"""Weights packed for the processor: the same numbers, gradients and copies as plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import tiny
from plaudit.models import packed as room
from plaudit.models.fused import FusedDecoder
from plaudit.models.generate import generate, sample_key
from plaudit.models.packed import Packed, PackedLinear, pack_linears, packing_works
from plaudit.types import Sampling

needs_packing = pytest.mark.skipif(not packing_works(), reason="no oneDNN here")


def layer(bias: bool) -> nn.Linear:
    made = nn.Linear(40, 24, bias=bias).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return made


@needs_packing
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 40), (5, 40), (70, 40), (2, 3, 40)])
def test_a_packed_product_and_its_gradient_are_those_in_float64(bias: bool, shape: tuple[int, ...]) -> None:
    plain = layer(bias)
    packed = Packed(plain.weight, bias=plain.bias)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.randn(*shape[:-1], 24, generator=torch.Generator().manual_seed(2))
    found = packed(x)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    exact = x.detach().double() @ plain.weight.double().T + (plain.bias.double() if bias else 0.0)
    torch.testing.assert_close(found.double(), exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradient.double(), weights.double() @ plain.weight.double(), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), found)
        strided = torch.cat([x, x], dim=-1)[..., :40]
        torch.testing.assert_close(packed(strided), found)


@needs_packing
def test_copies_of_a_packed_layer_are_plain_and_can_change() -> None:
    made = nn.Sequential(layer(True), nn.ReLU())
    pack_linears(made)
    assert isinstance(made[0], PackedLinear)
    x = torch.ones(2, 40)
    before = made(x)
    other = copy.deepcopy(made)
    plain = other[0]
    assert type(plain) is nn.Linear
    plain.weight.data.zero_()
    assert torch.equal(other(x), plain.bias.clamp(min=0).expand(2, 24))
    assert torch.equal(made(x), before)
    assert list(made.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_with_and_without_packing_the_same_is_said(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that other processors take gives the same tokens and log-probs, before and after the part has moved."""
    prompts = [one.tolist() for one in tiny.sequences([3, 7, 1, 5])]
    keys = [sample_key(0, 0, str(i), 0) for i in range(4)]
    said = []
    for works in (True, False):
        monkeypatch.setattr(room, "packing_works", lambda works=works: works)
        made = tiny.trunk(kind, 1)
        made.add_part("policy", "lora", rank=4)
        decoder = made.decoder("policy")
        assert isinstance(decoder, FusedDecoder)
        sampling, both = Sampling(max_new_tokens=10), []
        for _ in range(2):
            both += generate(decoder, prompts, keys, sampling, eos_ids=(tiny.END,))
            tiny.move(made, "policy")
            made.refresh(decoder, "policy")
        said.append(both)
    packed, plain = said
    assert [one.tokens for one in packed] == [one.tokens for one in plain]
    assert [one.tokens for one in packed[:4]] != [one.tokens for one in packed[4:]]
    for one, other in zip(packed, plain, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
