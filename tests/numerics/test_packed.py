"""Weights packed for the processor: the same numbers, gradients and copies as plain ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

import tiny
from plaudit.models import packed as room
from plaudit.models.fused import FusedDecoder, decoder_of
from plaudit.models.generate import generate, sample_key
from plaudit.models.packed import Packed, PackedLinear, pack_linears, packing_works
from plaudit.types import Sampling

needs_packing = pytest.mark.skipif(not packing_works(), reason="no oneDNN here")


@pytest.mark.parametrize("rows", [1, 3, room.FEW, room.FEW + 1, 90])
@pytest.mark.parametrize("biased", [False, True])
def test_few_rows_by_weights_in_half_precision(rows: int, biased: bool) -> None:
    """Of weights that float16 holds the product is that of float32, whatever the rows; others are rounded for few."""
    if not room.halving_works():
        pytest.skip("no FBGEMM here")
    generator = torch.Generator().manual_seed(rows)
    weights = [torch.randn(n, 64, generator=generator).bfloat16().float() for n in (48, 16)]
    x = torch.randn(rows, 64, generator=generator)
    bias = torch.randn(64, generator=generator) if biased else None
    whole = torch.cat(weights).double()
    expected = x.double() @ whole.t() + (0 if bias is None else bias.double())
    found = room.Halved(*weights, bias=bias)(x)
    torch.testing.assert_close(found.double(), expected, atol=2e-5, rtol=1e-5)
    assert room.Halved(*weights, bias=bias)(x.view(1, rows, 64)).shape == (1, rows, 64)
    third = room.Halved(whole.float() / 3)(x)
    rounded = whole.float().div(3).half().double() if rows <= room.FEW else whole / 3
    torch.testing.assert_close(third.double(), x.double() @ rounded.t(), atol=2e-5, rtol=1e-5)


def test_weights_that_half_precision_does_not_hold_are_left_alone() -> None:
    if room.halving_works():
        assert room.can_halve([torch.full((4, 4), 0.1).bfloat16().float()])
    for one in (7e4, 0.1, 1e-8):
        assert not room.can_halve([torch.ones(4, 4), torch.full((4, 4), one)])
    assert not room.can_halve([torch.ones(4, 4, dtype=torch.bfloat16)])


@pytest.mark.parametrize("rounded", [True, False])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@torch.no_grad()
def test_a_conversations_decoder_says_what_the_model_says(
    kind: str, rounded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of ragged prompts and of the tokens behind them, of a model whose weights float16 holds, and of one whose
    weights it would round."""
    made, halved = tiny.model(kind), list[int]()
    if rounded:
        made.bfloat16().float()
    real = room.Halved.__init__

    def noted(self: room.Halved, *weights: Tensor, bias: Tensor | None = None) -> None:
        halved.append(len(weights))
        real(self, *weights, bias=bias)

    monkeypatch.setattr(room.Halved, "__init__", noted)
    decoder = decoder_of(made, few=True)
    assert isinstance(decoder, FusedDecoder)
    assert bool(halved) == (rounded and room.halving_works())
    prompts = [one.tolist() for one in tiny.sequences([9, 4])]
    start = decoder.start(prompts, [0, 1], room=3)
    following = torch.tensor([5, 6])
    for row, prompt in enumerate(prompts):
        expected = made(input_ids=torch.tensor([prompt])).logits[0, -1]
        torch.testing.assert_close(start.logits_BV[row], expected, atol=1e-4, rtol=0)
    logits = start.running.step(following)
    for row, prompt in enumerate(prompts):
        expected = made(input_ids=torch.tensor([[*prompt, int(following[row])]])).logits[0, -1]
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=0)


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
