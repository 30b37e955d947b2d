"""A trunk in four bits: the numbers of NF4, gradients through it, and whole weights in all that leaves it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from plaudit.models.costs import network_of
from plaudit.models.decoding import ModuleDecoder
from plaudit.models.fused import FusedDecoder
from plaudit.models.loading import load_causal_lm
from plaudit.models.quantised import NF4Linear, is_quantised, quantise
from plaudit.models.sequences import predicting_states, run_lower
from plaudit.models.trunk import Trunk
from plaudit.rounds import run
from plaudit.types import InputError

# Dettmers et al. 2023, appendix E, to the digits that matter here.
LEVELS = torch.tensor([
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
])  # fmt: skip
CPU = torch.device("cpu")


@pytest.fixture
def _library() -> None:
    pytest.importorskip("bitsandbytes")


def trunk(kind: str = "llama", depth: int = 0, *, activation_checkpointing: bool = False) -> Trunk:
    made = tiny.model(kind)
    quantise(made, CPU)
    return Trunk(made.requires_grad_(False), depth, activation_checkpointing=activation_checkpointing)


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_weight_is_the_nearest_level_of_its_block(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 6).to(dtype)
    found = NF4Linear(linear, CPU).weight
    assert found.dtype == dtype
    blocks = linear.weight.detach().float().reshape(-1, 64)
    largest = blocks.abs().amax(dim=1, keepdim=True)
    nearest = LEVELS[((blocks / largest).unsqueeze(-1) - LEVELS).abs().argmin(dim=-1)] * largest
    torch.testing.assert_close(found.reshape(-1, 64), nearest.to(dtype))  # levels are 7 % apart or more


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(("kind", "depth"), [("llama", 0), ("llama", 1), ("qwen2", 0), ("gpt_neox", 1)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_are_those_of_the_same_weights_held_whole(kind: str, depth: int, checkpointing: bool) -> None:
    packed = trunk(kind, depth, activation_checkpointing=checkpointing)
    assert packed.notes == []
    whole = Trunk(packed.decoding_copy(None), depth)
    bundles = tiny.bundles(tiny.sequences((9, 4, 14)), (4, 2, 5))
    gradients: list[list[torch.Tensor]] = []
    for made in (packed, whole):
        made.add_part("policy", "lora", rank=4, seed=1)
        tiny.move(made, "policy", by=0.05)
        predicting_states(made, run_lower(made, bundles), part="policy").square().mean().backward()
        gradients.append([p.grad for p in made.part("policy").parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1]) > 0
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.usefixtures("_library")
@pytest.mark.parametrize(("kind", "decoder"), [("llama", FusedDecoder), ("gpt_neox", ModuleDecoder)])
@torch.no_grad()
def test_what_leaves_the_trunk_is_whole(kind: str, decoder: type, tmp_path: Path) -> None:
    made = trunk(kind)
    made.add_part("policy", "lora", rank=4, seed=1)
    tiny.move(made, "policy", by=0.05)
    tokens = tiny.sequences([9])[0][None]
    mask = torch.ones_like(tokens, dtype=torch.bool)
    expected = made.logits(made(tokens, mask, part="policy"), part="policy")
    assert not torch.allclose(expected, Trunk(tiny.model(kind)).model(input_ids=tokens).logits, atol=1e-2)

    merged = made.decoding_copy("policy")
    assert is_quantised(made.model)
    assert not is_quantised(merged)
    torch.testing.assert_close(merged(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
    merged.save_pretrained(tmp_path)
    assert merged.state_dict().keys() == tiny.model(kind).state_dict().keys()
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(opened(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)

    speaking = made.decoder("policy")
    assert isinstance(speaking, decoder)
    logits = speaking.start([tokens[0].tolist()], [0], room=1).logits_BV  # pyright: ignore[reportAttributeAccessIssue]
    torch.testing.assert_close(logits[0], expected[0, -1], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("_library")
def test_a_trunk_in_four_bits_is_a_trunk_of_its_own_and_counts_alike() -> None:
    assert trunk().hash() == trunk().hash() != tiny.trunk().hash()
    assert network_of(trunk().model) == network_of(tiny.model())
    changed = trunk()
    next(m for m in changed.modules() if isinstance(m, NF4Linear)).packed[0] ^= 1
    assert changed.hash() != trunk().hash()


@pytest.mark.usefixtures("_library")
def test_a_whole_run(tmp_path: Path, tiny_folder: Path) -> None:
    """The three acts and the evaluation; the first ratio is 1, since all that speaks has the weights that count."""
    result = run(tiny.recipe(tmp_path, tiny_folder, model={"quantise": "nf4", "split_depth": 1}), quiet=True)
    (only,) = result.summary["rounds"]
    assert only["ppo"]["first_ratio_error"] < 1e-5
    for name in ("sft", "ppo"):
        assert not is_quantised(load_causal_lm(str(result.folder / "round_0" / name / "model"), device="cpu"))


@pytest.mark.usefixtures("_library")
def test_full_copies_have_no_four_bits(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match=r"full trains every weight: it needs model\.quantise: none"):
        trunk().add_part("policy", "full")
    with pytest.raises(InputError, match="in a form that nf4 cannot hold"):
        quantise(tiny.model("gpt2"), CPU)


def test_a_recipe_with_full_copies_is_refused(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"full trains every weight: it needs model\.quantise: none"):
        tiny.recipe(tmp_path, tiny_folder, model={"quantise": "nf4"}, sft={"adapter": {"kind": "full"}})


def test_without_the_package_the_extra_is_named(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.functional", None)
    with pytest.raises(InputError, match=r"nf4 needs bitsandbytes: pip install 'plaudit\[quantised\]'"):
        load_causal_lm(str(tiny_folder), device="cpu", quantised=True)
