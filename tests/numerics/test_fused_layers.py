"""The fast layers of training: the numbers and gradients of transformers' modules, and little that is kept."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import tiny
from plaudit.data.batching import pad_right
from plaudit.models import packed as packing
from plaudit.models.fused_layers import FusedLayers
from plaudit.models.operations import GATE, Entry, Normed, turned
from plaudit.models.packed import packing_works
from plaudit.models.sequences import last_states, predicting_states, run, run_lower
from plaudit.models.trunk import Trunk

KINDS = ("llama", "qwen2", "qwen3")


@pytest.fixture(params=["packed", "plain"], autouse=True)
def weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Weights are packed where oneDNN is there; GPUs and other processors multiply by them as they are."""
    if request.param == "plain":
        monkeypatch.setattr(packing, "packing_works", lambda: False)
    elif not packing_works():
        pytest.skip("no oneDNN here")
    return request.param


def moved(kind: str, depth: int, *, fast: bool, checkpointing: bool = False) -> Trunk:
    """A trunk of three layers with two adapters that are not nothing, run by our layers or by transformers' modules."""
    made = Trunk(tiny.model(kind, layers=3), depth, activation_checkpointing=checkpointing)
    for seed, name in enumerate(("policy", "value")):
        made.add_part(name, "lora", rank=4, seed=seed)
        tiny.move(made, name, seed=seed, by=0.05)
    if fast:
        assert isinstance(made.fused, FusedLayers)
    else:
        made.fused = None
    return made


def gradients(made: Trunk, forward: Callable[[Trunk, str], Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """What both parts compute, and the gradients of all their weights: both forward before either goes backward."""
    outputs = [forward(made, name) for name in ("policy", "value")]
    for out in outputs:
        generator = torch.Generator().manual_seed(3)
        (out * torch.randn(out.shape, generator=generator)).sum().backward()
    weights = [p for name in ("policy", "value") for p in made.part(name).parameters()]
    assert all(p.grad is not None for p in weights)
    return [out.detach() for out in outputs], [p.grad for p in weights if p.grad is not None]


def close(found: list[Tensor], expected: list[Tensor], relative: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert other.norm() > 1e-3
        assert (one - other).norm() <= relative * other.norm()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_states_and_gradients_are_those_of_the_modules(kind: str, depth: int, checkpointing: bool) -> None:
    def forward(made: Trunk, name: str) -> Tensor:
        return torch.cat([predicting_states(made, tiny.lines(), part=name), last_states(made, tiny.lines(), part=name)])

    slow = gradients(moved(kind, depth, fast=False), forward)
    fast = gradients(moved(kind, depth, fast=True, checkpointing=checkpointing), forward)
    close(fast[0], slow[0], 1e-5)
    close(fast[1], slow[1], 1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_is_not_seen(side: str) -> None:
    made = moved("llama", 1, fast=True)
    tokens = tiny.sequences([9, 4, 7])
    padded, mask = pad_right(tokens, 0)
    if side == "left":
        padded, mask = padded.flip(1), mask.flip(1)
        for row, one in enumerate(tokens):
            padded[row, mask[row]] = one
    padded[~mask] = tiny.END  # what stands in the padding does not matter
    states = made(made(padded, mask, part=None, mode="lower"), mask, part="policy")
    assert states.isfinite().all()
    for row, one in enumerate(tokens):
        whole = torch.ones(1, len(one), dtype=torch.bool)
        alone = made(made(one[None], whole, part=None, mode="lower"), whole, part="policy")
        torch.testing.assert_close(states[row, mask[row]], alone[0], atol=1e-5, rtol=1e-5)


def test_states_that_are_read_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last layer computes no others; a place may be read twice, and its gradient then counts twice."""
    made = moved("llama", 1, fast=True)
    bundles = run_lower(made, tiny.lines())
    whole = run(made, bundles, part="policy", mode="top")
    wanted = [[3, 3, 5], [0], [6, 6, 9]]
    rows: list[int] = []
    monkeypatch.setattr(GATE, "there", lambda x, there=GATE.there: (rows.append(len(x)), there(x))[1], raising=False)
    found = run(made, bundles, part="policy", mode="top", read=wanted)
    assert rows == [9 + 4 + 17, 5]
    expected = torch.stack([whole[row, place] for row, own in enumerate(wanted) for place in own])
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(0))
    parameters = list(made.part("policy").parameters())
    some, all_ = (torch.autograd.grad((states * weights).sum(), parameters) for states in (found, expected))
    close(list(some), list(all_), 1e-5)


def test_no_adapter_is_the_frozen_model_and_a_new_one_is_nothing() -> None:
    """To the bit, whatever adapters there are; and nothing but its own weights has a gradient."""
    made = tiny.trunk("llama", 1)
    assert made.fused is not None
    bundles = run_lower(made, tiny.lines())
    before = predicting_states(made, bundles, part=None)
    made.add_part("policy", "lora", rank=4, seed=1)
    assert torch.equal(predicting_states(made, bundles, part="policy"), before)
    tiny.move(made, "policy")
    assert (predicting_states(made, bundles, part="policy") - before).abs().max() > 1e-2
    assert torch.equal(predicting_states(made, bundles, part=None), before)
    predicting_states(made, bundles, part="policy").sum().backward()
    assert [n for n, p in made.named_parameters() if p.grad is not None] == [
        f"parts.policy.{name}" for name, _ in made.part("policy").named_parameters()
    ]


def test_little_is_kept_for_the_way_back() -> None:
    """Of a layer: its input, queries, keys and values, the mix, the state between, gate and up, and thin products."""
    made = moved("llama", 2, fast=True)
    bundles = run_lower(made, tiny.lines())
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes() // 4
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        states = predicting_states(made, bundles, part="policy")
    rows = len(bundles) * max(map(len, bundles))
    adapters = sum(p.numel() for p in made.part("policy").parameters())
    width, shape = 32, made.fused.shape  # pyright: ignore[reportOptionalMemberAccess]
    attention = shape.heads * shape.head_width
    # qkv is turned into new queries and keys, its values are kept with it; the mix is kept with attention's own sums.
    most = rows * (3 * width + 2 * shape.turning + shape.kv_heads * shape.head_width + attention + 2 * 48 + 60)
    assert len(states)
    assert sum(kept.values()) < most + 4 * adapters


def test_what_the_fast_layers_cannot_be_goes_through_the_modules() -> None:
    assert tiny.trunk("gpt2").fused is None
    assert tiny.trunk("gemma3_text").fused is None
    odd = tiny.model("llama")
    odd.base_model.layers[1].mlp.act_fn = nn.ReLU()  # pyright: ignore
    assert Trunk(odd).fused is None  # the proof fails: nothing in the names tells


def test_plain_weights_are_held_once(weights: str) -> None:
    """The modules' own become views of what is multiplied by, and the network stays the same one."""
    network = tiny.model("qwen2")
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    made = Trunk(network)
    attention = network.base_model.layers[0].self_attn  # pyright: ignore
    storages = {attention.get_submodule(f"{name}_proj").weight.untyped_storage().data_ptr() for name in "qkv"}
    assert len(storages) == (1 if weights == "plain" else 3)
    assert made.fused is not None
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


def test_half_precision_is_near_float32(weights: str) -> None:
    """States of bfloat16 weights against the same weights in float32, beside how near transformers' modules come."""
    rounded = tiny.model("qwen3", layers=3).bfloat16()
    exact = copy.deepcopy(rounded).float()
    tokens = tiny.lines()
    expected, fast, slow = (Trunk(network, 1) for network in (exact, rounded, copy.deepcopy(rounded)))
    slow.fused = None
    assert fast.fused is not None
    found = []
    for made in (expected, fast, slow):
        made.add_part("policy", "lora", rank=4)
        tiny.move(made, "policy", by=0.05)
        out = predicting_states(made, tokens, part="policy")
        assert out.dtype == made.model.dtype
        out.float().square().sum().backward()
        gradients = [p.grad.flatten() for p in made.part("policy").parameters() if p.grad is not None]
        found.append((out.float().detach(), torch.cat(gradients)))
    for what in (0, 1):
        ours, theirs = ((one[what] - found[0][what]).norm() / found[0][what].norm() for one in found[1:])
        assert 0 < ours < max(1.25 * theirs, 0.005), (what, ours, theirs)


def test_a_copy_that_has_not_moved_gives_the_trunks_own_numbers() -> None:
    made = tiny.trunk("llama")
    made.add_part("policy", "full")
    states = [predicting_states(made, tiny.lines(), part=part) for part in ("policy", None)]
    assert torch.equal(*states)


# -- the pieces, in float64, against plain formulas whose gradients are autograd's ------------------------------------


def norm(width: int) -> Normed:
    made = nn.Module()
    made.weight = nn.Parameter(torch.linspace(0.5, 2.0, width, dtype=torch.float64))
    made.register_buffer("variance_epsilon", torch.tensor(0.1, dtype=torch.float64))  # large enough to be seen
    return Normed(made)


def plain_norm(x: Tensor) -> Tensor:
    return (
        x / (x.pow(2).mean(-1, keepdim=True) + 0.1).sqrt() * torch.linspace(0.5, 2.0, x.shape[-1], dtype=torch.float64)
    )


def plain_gate(x: Tensor) -> Tensor:
    gate, up = x[..., :4], x[..., 4:]
    return gate * torch.sigmoid(gate) * up


@pytest.mark.parametrize(("entry", "plain"), [(norm(8), plain_norm), (GATE, plain_gate)])
def test_an_entry_and_its_way_back(entry: Entry, plain: Callable[[Tensor], Tensor]) -> None:
    x = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    out = plain(x)
    grad = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (expected,) = torch.autograd.grad(out, x, grad)
    with torch.no_grad():
        torch.testing.assert_close(entry.there(x), out, atol=1e-12, rtol=1e-12)
        torch.testing.assert_close(entry.back(x, grad), expected, atol=1e-12, rtol=1e-12)


def test_turning_is_a_rotation_of_pairs() -> None:
    """A quarter turn takes (1, 0) to (0, 1); the other way takes it back."""
    x = torch.tensor([1.0, 2.0, 0.0, 3.0]).view(1, 1, 1, 4)  # the pairs are (1, 0) and (2, 3)
    cos, sin = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    once = turned(x, cos, sin)
    torch.testing.assert_close(once.flatten(), torch.tensor([0.0, 2.0, 1.0, 3.0]))
    torch.testing.assert_close(turned(once, cos, -sin), x)
