"""The plan counts what the code allocates: weights to the number, activations nearly."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification
from typer.testing import CliRunner

import tiny
from plaudit.cli import app
from plaudit.cli.shell import DOES_NOT_FIT
from plaudit.data.chat import Chat
from plaudit.material import Material
from plaudit.models import costs
from plaudit.models.costs import Network, network_of
from plaudit.models.sequences import predicting_states
from plaudit.models.trunk import Trunk
from plaudit.plan import Plan, add_memory, add_time, make_plan
from plaudit.recipe import PPO, Adapter
from plaudit.recipe_file import dump_recipe, load_recipe, shipped_recipe
from plaudit.rl.costs import ppo_flops
from plaudit.types import InputError


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
def test_weights_are_counted_to_the_number(kind: str) -> None:
    made = tiny.model(kind)
    network = network_of(made)
    assert network.layers * network.layer_weights + network.other_weights == sum(p.numel() for p in made.parameters())
    for depth, adapter in ((0, Adapter(rank=4)), (0, Adapter(kind="full")), (1, Adapter(rank=3))):
        if kind == "gpt2" and depth:
            continue
        trunk = tiny.trunk(kind, depth)
        part = trunk.add_part("policy", adapter.kind, rank=adapter.rank)
        assert network.lora(adapter, depth) == sum(p.numel() for p in part.parameters())


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_nearly_those_that_are_saved(checkpointing: bool, fused: bool) -> None:
    """A Llama of ordinary proportions, so that small terms stay small."""
    sizes = {"hidden_size": 128, "intermediate_size": 384, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model("llama", vocab_size=64, num_hidden_layers=3, **sizes)
    torch.manual_seed(0)
    made = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    trunk = Trunk(made, 1, activation_checkpointing=checkpointing)
    if not fused:
        trunk.fused = None
    elif trunk.fused is None:
        pytest.skip("no oneDNN here")
    trunk.add_part("policy", "lora", rank=4)
    bundles = tiny.bundles([torch.arange(60) % 64 for _ in range(4)])
    weights = {p.data_ptr() for p in trunk.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        predicting_states(trunk, bundles, part="policy")
    measured = sum(kept.values()) / (4 * 60) / 4  # floats per token, in two layers
    network = network_of(made)
    # Of a layer that is computed once more all is kept for a moment in the backward pass, which is not run here.
    moment = network.saved_per_token(fused=fused) if checkpointing else 0
    expected = network.activations_per_token(2, checkpointing=checkpointing, fused=fused) - moment
    # What the final norm keeps counts among so few.
    assert expected + network.width * checkpointing == pytest.approx(measured, rel=0.3)


def tiny_network(*, layers: int) -> Network:
    return network_of(tiny.model(layers=layers))


def test_more_of_anything_costs_more(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    network = tiny_network(layers=2)

    def costs(**ppo: int) -> tuple[float, float]:
        plan = Plan(available=1e12, rate=1e9, steps=2)
        recipe = tiny.recipe(tmp_path, folder, ppo=ppo)
        add_memory(plan, recipe, network, longest=9, size=4)
        add_time(plan, recipe, network, prompt=6.0)
        return plan.total, sum(plan.seconds.values())

    plans = [Plan(available=1e12, rate=1e9, steps=2) for _ in range(2)]
    for plan, checkpointing in zip(plans, (False, True), strict=True):
        model = {"activation_checkpointing": checkpointing}
        add_memory(plan, tiny.recipe(tmp_path, folder, model=model), tiny_network(layers=12), longest=9, size=4)
    assert plans[1].total < plans[0].total
    assert plans[1].memory.items() - plans[0].memory.items() == {
        ("activations of a micro-batch", plans[1].memory["activations of a micro-batch"])
    }

    base = costs(prompts_per_step=8, epochs=1)
    assert costs(prompts_per_step=16, epochs=1) > base
    assert costs(prompts_per_step=8, epochs=3)[1] > base[1]
    assert costs(prompts_per_step=8, epochs=1, max_new_tokens=20) > costs(
        prompts_per_step=8, epochs=1, max_new_tokens=4
    )


def test_seven_billion_weights_in_four_bits_fit_a_card(tmp_path: Path) -> None:
    """Llama 2's shape, whose weights there is no need to have: 32 layers of 4 x 4096² and 3 x 4096 x 11008 weights in
    linear layers, at half a byte and one float32 for 64 of them; the rest in bfloat16."""
    sizes = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}
    with torch.device("meta"):
        network = network_of(AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=32000, **sizes)))
    plans: dict[str, Plan] = {}
    for quantise in ("none", "nf4"):
        plans[quantise] = Plan(available=80e9, rate=1e14, steps=1)
        model = {"dtype": "bfloat16", "quantise": quantise}
        recipe = tiny.recipe(tmp_path, tmp_path, model=model, ppo={"prompts_per_step": 32, "max_new_tokens": 512})
        add_memory(plans[quantise], recipe, network, longest=512, size=2)
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    others = 2 * 32000 * 4096 + (2 * 32 + 1) * 4096
    assert plans["none"].memory["trunk, frozen"] == 2 * (linear + others)
    assert plans["nf4"].memory["trunk, frozen"] == linear * (0.5 + 4 / 64) + 2 * others
    assert plans["nf4"].total - plans["none"].total == pytest.approx(-9.3e9, rel=0.01)
    assert plans["nf4"].fits


def test_the_plan_of_a_recipe(tmp_path: Path) -> None:
    plan = make_plan(tiny.recipe(tmp_path, tiny.model_folder(tmp_path / "model")))
    assert plan.fits
    assert plan.rate > 1e8
    told = "\n".join(plan.lines())
    assert "trunk, frozen" in told
    assert "train:" in told
    plan.available = 1.0
    assert not plan.fits


def test_what_does_not_fit_is_said_with_a_code_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plaudit.plan.memory_of", lambda device: 1e6)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(load_recipe(shipped_recipe("demo"))), encoding="utf-8")
    done = CliRunner().invoke(app, ["plan", str(path)])
    assert done.exit_code == DOES_NOT_FIT
    assert done.stderr.startswith("error: this does not fit")
    assert len(done.stderr.splitlines()) == 1


def test_arithmetic_by_hand() -> None:
    """100 tokens on all lines, 40 of them said, 5 layers of which 2 are above the split, 10 weights a layer, 30 in the
    head: 2 FLOPs each."""
    network = Network(
        layers=5,
        layer_weights=10,
        linear_weights=8,
        other_weights=0,
        head_weights=30,
        width=1,
        attention_width=1,
        kv_width=1,
        mlp_width=1,
        lora_widths=1,
    )
    assert ppo_flops(network, PPO(epochs=3), 3, tokens=100, said=40) == {
        "generate": 100 * 5 * 20 + 40 * 60,
        "score": 2 * (100 * 2 * 20) + 40 * 60,
        "train": 3 * (2 * 2 * (100 * 2 * 20) + 2 * 40 * 60),
    }
    twice = ppo_flops(network, PPO(epochs=3), 3, tokens=100, said=40, checkpointing=True)
    assert twice["train"] == 3 * (2 * 3 * (100 * 2 * 20) + 2 * 40 * 60)
    read_twice = ppo_flops(network, PPO(epochs=3), 3, tokens=100, said=40, recomputed=True)
    assert read_twice["score"] == 3 * (100 * 2 * 20) + 2 * 40 * 60
    one_part = PPO(epochs=3, value_adapter=None)
    for recomputed in (False, True):  # the value reads what the policy has left
        figures = ppo_flops(network, one_part, 3, tokens=100, said=40, recomputed=recomputed)
        assert figures["score"] == 2 * (100 * 2 * 20) + (1 + recomputed) * 40 * 60
    full = PPO(epochs=1, adapter=Adapter(kind="full"), value_adapter=Adapter(kind="full"))
    assert ppo_flops(network, full, 0, tokens=100, said=40)["train"] == 6 * 100 * 5 * 20 + 3 * 40 * 60


def test_the_rate_is_that_of_the_fastest_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the plain product's rate would pass 1 where packed weights are faster."""
    found = iter([2e9, 5e9])
    monkeypatch.setattr(costs, "can_pack", lambda _: True)
    monkeypatch.setattr(costs, "pack", lambda weight: weight)
    monkeypatch.setattr(costs, "_rate", lambda *_: next(found))
    assert costs.matmul_rate(torch.device("cpu"), torch.float32) == 5e9
    assert next(found, None) is None


def test_a_classifier_that_pays_is_counted(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    own = make_plan(tiny.recipe(tmp_path, folder))
    ready = make_plan(tiny.recipe(tmp_path, folder, ppo={"reward": str(folder)}))
    made = AutoModelForSequenceClassification.from_pretrained(folder)
    weights = sum(p.numel() for p in made.parameters())
    assert ready.memory["reward, a classifier"] == weights * 4
    assert "reward, a classifier" not in own.memory
    recipe = tiny.recipe(tmp_path, folder)
    chat = Chat.load(str(folder))
    lengths = [len(chat.prompt_ids(prompt)) for prompt in Material(recipe).ppo_prompts(chat, 0)]
    # Each response behind its prompt, two operations for each weight that multiplies (an embedding is looked up).
    tokens = recipe.ppo.prompts_per_step * recipe.ppo.responses_per_prompt
    tokens *= sum(lengths) / len(lengths) + recipe.ppo.max_new_tokens
    multiplied = sum(p.numel() for name, p in made.named_parameters() if "embed_tokens" not in name)
    assert ready.flops["reward"] == pytest.approx(2 * multiplied * tokens)
    assert ready.seconds["reward"] > 0


def test_what_is_not_counted_is_said(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    plan = make_plan(tiny.recipe(tmp_path, folder, ppo={"reward": "tiny:count_yes"}))
    assert plan.lines()[-1] == "not counted: what tiny:count_yes takes"
    with pytest.raises(InputError, match="a plan is PPO's"):
        make_plan(tiny.recipe(tmp_path, folder, align="dpo"))
