"""The plan counts what the code allocates: weights to the number, activations nearly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

import tiny
from plaudit.models import costs
from plaudit.models.costs import Network, network_of
from plaudit.models.sequences import predicting_states
from plaudit.models.trunk import Trunk
from plaudit.needs import REACHED, Device, Lines, Needs, act_three, advice, reached, sampling, training
from plaudit.recipe import PPO, Adapter
from plaudit.rl.costs import ppo_flops


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


def on(kind: str = "cpu", *, rate: float = 1e9, packs: bool = False, fuses: bool = False) -> Device:
    return Device(kind=kind, rate=rate, packs=packs, fuses=fuses)


def test_more_of_anything_costs_more(tmp_path: Path) -> None:
    folder = tiny.model_folder(tmp_path / "model")
    network = tiny_network(layers=2)

    def costs(**ppo: int) -> tuple[float, float]:
        needs = act_three(tiny.recipe(tmp_path, folder, ppo=ppo), network, [3, 9, 6], on())
        return needs.total, sum(needs.seconds.values())

    plans = [
        act_three(
            tiny.recipe(tmp_path, folder, model={"activation_checkpointing": checkpointing}),
            tiny_network(layers=12),
            [9],
            on(),
        )
        for checkpointing in (False, True)
    ]
    assert plans[1].total < plans[0].total
    assert plans[1].stays == plans[0].stays
    assert plans[1].phases["generate"] == plans[0].phases["generate"]
    assert (
        plans[1].phases["train"]["activations of a micro-batch"]
        < plans[0].phases["train"]["activations of a micro-batch"]
    )

    base = costs(prompts_per_step=8, epochs=1)
    assert costs(prompts_per_step=16, epochs=1) > base
    assert costs(prompts_per_step=8, epochs=3)[1] > base[1]
    assert costs(prompts_per_step=8, epochs=1, max_new_tokens=20) > costs(
        prompts_per_step=8, epochs=1, max_new_tokens=4
    )


def network_like(kind: str, **sizes: Any) -> Network:
    """Of a shape, whose weights there is no need to have."""
    with torch.device("meta"):
        return network_of(AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes)))


LLAMA_7B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}


@pytest.mark.parametrize(
    ("model", "least"),
    [
        ({}, 10e9),
        ({"activation_checkpointing": True}, 15e9),
        ({"activation_checkpointing": True, "quantise": "nf4"}, 25e9),
        ({"activation_checkpointing": True, "split_depth": 21}, 24e9),
    ],
)
def test_seven_billion_weights_fit_a_card_with_room(tmp_path: Path, model: dict[str, Any], least: float) -> None:
    """64 prompts and answers of 512 tokens each a step, in bfloat16, on 80 GB: so many bytes are left."""
    adapter = {"rank": 16}
    ppo: dict[str, Any] = {"prompts_per_step": 64, "responses_per_prompt": 1, "max_new_tokens": 512}
    ppo |= {"tokens_per_microbatch": 4096, "adapter": adapter, "value_adapter": adapter}
    recipe = tiny.recipe(tmp_path, tmp_path, model={"dtype": "bfloat16", **model}, ppo=ppo, reward={"adapter": adapter})
    device = on("cuda", rate=4e14, fuses=model.get("quantise") != "nf4")
    needs = act_three(recipe, network_like("llama", vocab_size=32000, **LLAMA_7B), [512] * 64, device)
    assert needs.total < 80e9 - least


def test_four_bits_to_the_number(tmp_path: Path) -> None:
    """Llama 2's shape: 32 layers of 4 x 4096² and 3 x 4096 x 11008 weights in linear layers, at half a byte and one
    float32 for 64 of them; the rest in bfloat16."""
    network = network_like("llama", vocab_size=32000, **LLAMA_7B)
    trunks = [
        act_three(
            tiny.recipe(tmp_path, tmp_path, model={"dtype": "bfloat16", "quantise": quantise}), network, [9], on("cuda")
        ).stays["trunk, frozen"]
        for quantise in ("none", "nf4")
    ]
    linear = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
    others = 2 * 32000 * 4096 + (2 * 32 + 1) * 4096
    assert trunks == [2 * (linear + others), linear * (0.5 + 4 / 64) + 2 * others]


SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}


QWEN2 = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@pytest.mark.parametrize(
    ("file", "row", "depth"),
    [
        ("cpu.json", "ppo_update", 20),
        ("cpu.json", "ppo_update_full_depth", 0),
        ("cuda.json", "ppo_update", 19),
        ("cuda.json", "ppo_update_full_depth", 0),
    ],
)
def test_the_plan_foresees_what_was_measured(tmp_path: Path, file: str, row: str, depth: int) -> None:
    """The benchmark's updates (docs/performance.md), at the rates of the machines that they ran on: 525 GFLOP/s and
    796 TFLOP/s."""
    measured = next(one for one in json.loads((RESULTS / file).read_text()) if one["name"] == row)
    adapter = {"rank": 16}
    ppo = {"epochs": 4, "adapter": adapter, "value_adapter": adapter, "responses_per_prompt": 1}
    if file == "cpu.json":
        network = network_like("llama", **SMOLLM2)
        sizes, prompts, device = (16, 32, 1024), [48] * 15 + [64], on(rate=525e9, packs=True, fuses=True)
    else:
        network = network_like("qwen2", **QWEN2)
        sizes, prompts, device = (64, 256, 40000), [192] * 63 + [256], on("cuda", rate=796e12, fuses=True)
    batch, response, tokens = sizes
    recipe = tiny.recipe(
        tmp_path,
        tmp_path,
        model={"split_depth": depth, "dtype": "float32" if file == "cpu.json" else "bfloat16"},
        reward={"adapter": adapter},
        ppo={**ppo, "prompts_per_step": batch, "max_new_tokens": response, "tokens_per_microbatch": tokens},
    )
    needs = act_three(recipe, network, prompts, device)
    assert needs.total / 1e9 == pytest.approx(measured["ours_memory_gb"], rel=0.2)
    assert sum(needs.seconds.values()) == pytest.approx(measured["ours"], rel=0.25)


def test_states_that_are_not_kept_are_read_anew(tmp_path: Path) -> None:
    """10 prompts of 6 tokens and answers of 4; 1 of 2 layers is below the split: reference, value and judge read 100
    tokens through it, and policy and value in each of 3 epochs."""
    network = tiny_network(layers=2)
    needs: list[Needs] = []
    for gigabytes in (1.0, 1e-9):
        recipe = tiny.recipe(
            tmp_path,
            tmp_path,
            model={"split_depth": 1, "boundary_gigabytes": gigabytes},
            ppo={"prompts_per_step": 10, "responses_per_prompt": 1, "max_new_tokens": 4, "epochs": 3},
        )
        needs.append(act_three(recipe, network, [6] * 10, on()))
    kept, anew = needs
    lower = 100 * network.layer_flops
    assert kept.flops["reward"] == lower + lower  # nothing is fused here: who reads first computes them, by one layer
    assert {phase: anew.flops[phase] - kept.flops[phase] for phase in kept.flops} == {
        "generate": 0,
        "score": 2 * lower,
        "train": 3 * 2 * lower,
        "reward": 0,
    }
    assert (kept.stays["boundary states"], anew.stays["boundary states"]) == (100 * network.width * 4, 1.0)


def test_the_acts_that_train_by_hand(tmp_path: Path) -> None:
    """20 rows, 2 of them held out, in batches of 4 for 3 epochs: 5 batches each, of 3.6 rows on average. 3 of 4 layers
    are above the split; what leaves the lowest is kept, so that a step reads a third of its rows through it. DPO has
    18 rows; its reference reads them all, once."""
    network = tiny_network(layers=4)
    adapter = {"rank": 4}
    recipe = tiny.recipe(
        tmp_path, tmp_path, model={"split_depth": 1},
        sft={"batch_size": 4, "epochs": 3, "held_out": 0.1, "adapter": adapter},
        reward={"batch_size": 4, "epochs": 3, "held_out": 0.1, "adapter": adapter},
        dpo={"batch_size": 4, "epochs": 3, "adapter": adapter}, ppo={"value_adapter": adapter},
    )  # fmt: skip
    rows = Lines(count=20, mean=10.0, longest=16, predicted=4.0)
    assert recipe.sft is not None
    fine_tuning, judge, dpo = (
        training(recipe.model, act, network, replace(rows, count=count), on(rate=1e6))
        for act, count in ((recipe.sft, 20), (recipe.reward, 20), (recipe.dpo, 18))
    )
    assert [act.steps for act in (fine_tuning, judge, dpo)] == [15, 15, 15]
    layers, read = 2 * 36 * 3 * network.layer_flops, 36 * network.layer_flops / 3
    assert fine_tuning.flops == pytest.approx({"read": read, "train": layers + 2 * 14.4 * network.head_flops})
    assert judge.flops == pytest.approx({"read": read, "train": layers})
    assert dpo.flops == pytest.approx(fine_tuning.flops)
    assert (fine_tuning.once, judge.once) == (0, 0)
    assert dpo.once == 180 * 3 * network.layer_flops + 18 * 4 * network.head_flops
    narrow = {phase: reached("cpu", phase, network.width) for phase in ("score", "train")}
    assert dpo.total_seconds == pytest.approx(dpo.once / 1e6 / narrow["score"] + 15 * sum(dpo.seconds.values()))
    assert fine_tuning.seconds["train"] == pytest.approx(fine_tuning.flops["train"] / 1e6 / narrow["train"])
    assert judge.stays["what is trained, with gradient and Adam"] == 16 * 3 * 4 * network.lora_widths


def test_narrow_networks_reach_less() -> None:
    """What 60 % is to 576 units: of five parts three are products. At 128 the other two are 4.5 times as many: nine to
    three. The built-in world's model reached 22 to 28 % in scoring, 10 to 17 % in generation."""
    assert reached("cpu", "score", 576) == reached("cpu", "score", 2048) == pytest.approx(REACHED["cpu"]["score"])
    assert reached("cpu", "score", 128) == pytest.approx(3 / 12)
    assert 0.10 < reached("cpu", "generate", 128) < 0.17
    assert reached("cuda", "train", 1536) == pytest.approx(REACHED["cuda"]["train"])
    assert reached("cuda", "train", 768) < 0.3


def test_a_judge_that_begins_as_a_probe_and_asks_who_errs(tmp_path: Path) -> None:
    """18 rows are read once for the probe: through 3 of 4 layers, and where there is no epoch through the lowest too.
    Who errs is found in an epoch of its own."""
    network, rows = tiny_network(layers=4), Lines(count=18, mean=10.0, longest=16, predicted=4.0)
    found: list[Needs] = []
    for epochs, annotators in ((2, "alike"), (0, "alike"), (2, "reliability")):
        changes = {"batch_size": 4, "epochs": epochs, "held_out": 0.0, "head_start": "probe"}
        changes |= {"likelihood": {"annotators": annotators}}
        recipe = tiny.recipe(tmp_path, tmp_path, model={"split_depth": 1}, reward=changes)
        found.append(training(recipe.model, recipe.reward, network, rows, on()))
    assert [act.steps for act in found] == [10, 0, 15]
    assert [act.once for act in found] == [180 * layers * network.layer_flops for layers in (3, 4, 3)]


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


def test_every_part_has_advice_and_the_fields_it_names_are_there(tmp_path: Path) -> None:
    """Of all acts, on a processor that packs; a classifier's memory is its own."""
    recipe, network = tiny.recipe(tmp_path, tmp_path, model={"split_depth": 1}, rounds=2), tiny_network(layers=2)
    device, rows = on(packs=True, fuses=True), Lines(count=18, mean=10.0, longest=16, predicted=4.0)
    assert recipe.sft is not None
    acts = [training(recipe.model, act, network, rows, device) for act in (recipe.sft, recipe.reward, recipe.dpo)]
    acts += [sampling(recipe, network, [6] * 4, device), act_three(recipe, network, [6] * 4, device)]
    named: set[str] = set()
    for act in acts:
        for part in [*act.stays, *(part for phase in act.phases.values() for part in phase)]:
            if part != "what the allocator holds beside them":
                named |= set(re.findall(r"[a-z]+(?:\.[a-z_]+)+", advice(part, act.section)))
        assert act.largest_part[0] != "what the allocator holds beside them"
    assert len(named) > 10
    for name in named:
        place: Any = recipe.model_dump()
        for key in name.split("."):
            assert isinstance(place, Mapping), name
            assert key in place, name
            place = place[key]


def test_what_is_largest_counts_with_what_follows_it() -> None:
    """Who has fewer activations has less beside them: of 30, 20 and 24 GB the first two are one part."""
    part, beside = "activations of a micro-batch", "what the allocator holds beside them"
    parts = {part: 20e9, beside: 24e9}
    needs = Needs(name="", section="ppo", steps=1, stays={"trunk, frozen": 30e9}, phases={"train": parts})
    assert needs.largest_part == (part, 44e9)
    assert needs.total == 74e9
    assert parts == {part: 20e9, beside: 24e9}


def test_full_copies_are_trained_in_float32_and_packed_for_one_way(tmp_path: Path) -> None:
    """In bfloat16 an activation has 2 bytes, and 4 where all weights are trained; frozen weights lie packed once for
    each way that is gone through them."""
    network, rows = tiny_network(layers=4), Lines(count=8, mean=10.0, longest=10, predicted=4.0)
    sizes: dict[str, list[float]] = {"lora": [], "full": []}
    for kind, found in sizes.items():
        act: dict[str, Any] = {"batch_size": 8, "held_out": 0.0, "adapter": {"kind": kind}}
        recipe = tiny.recipe(tmp_path, tmp_path, model={"dtype": "bfloat16"}, sft=act)
        assert recipe.sft is not None
        needs = training(recipe.model, recipe.sft, network, rows, on(packs=True))
        found += [needs.phases["train"]["activations of a micro-batch"], needs.stays["frozen weights, packed"]]
    assert sizes["full"] == [2 * sizes["lora"][0], sizes["lora"][1] / 2]


def test_the_program_is_in_the_memory_of_the_processor(tmp_path: Path) -> None:
    recipe, network = tiny.recipe(tmp_path, tmp_path), tiny_network(layers=2)
    for kind, size in (("cpu", 0.5e9), ("cuda", 0.0)):
        assert act_three(recipe, network, [9], on(kind)).stays["program"] == size
        assert sampling(recipe, network, [9], on(kind)).stays["program"] == size
