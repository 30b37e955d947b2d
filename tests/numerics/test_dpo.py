"""DPO: its loss by hand and against a slow float64 reference; micro-batches, objectives and what it leaves behind."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import tiny
from plaudit.data.chat import Chat
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.recipe import DPO, Adapter, Optimizer
from plaudit.rl.dpo import (
    Preference,
    add_reference,
    batch_gradients,
    cost,
    dpo,
    evaluate,
    prepare,
    response_logratios,
)
from plaudit.types import InputError, Judgement

LORA = Adapter(rank=4, alpha=8.0)
CONFIG = DPO(adapter=LORA, beta=0.5, optimizer=Optimizer(learning_rate=2e-2), batch_size=4, epochs=6)


def judgements(count: int, *, objective: str = "overall", seed: int = 0) -> list[Judgement]:
    """Three answers each; "yes" is best, and the two others are tied in every second ranking."""
    found: list[Judgement] = []
    for i, prompt in enumerate(tiny.questions(count, seed=seed)):
        ranking = [[0], [1, 2]] if i % 2 else [[0], [2], [1]]
        found.append(tiny.judgement(prompt, ["yes yes", "no", "cat red dog"], ranking, objective=objective))
    return found


def moved(split_depth: int = 0) -> Trunk:
    """A trunk whose policy is no longer the reference."""
    trunk = tiny.trunk(split_depth=split_depth)
    trunk.add_part("policy", "lora", rank=4, alpha=8.0, seed=0)
    tiny.move(trunk, "policy")
    return trunk


def prepared_with(trunk: Trunk, chat: Chat, some: Sequence[Judgement], weights: dict[str, float]) -> list[Preference]:
    found = prepare(trunk, chat, some, CONFIG, weights)
    add_reference(trunk, found, 4096)
    return found


def test_a_pair_by_hand() -> None:
    """-log sigma(beta x ((-3 + 5) - (-4 + 4.5))), and the same of three: the mean over their pairs."""

    def preference(ranks: Sequence[int], weight: float = 1.0, unordered: tuple[int, ...] = ()) -> Preference:
        return Preference(
            bundles=(),
            tokens_N=torch.zeros(0),
            lengths=(),
            ranks_K=torch.tensor(ranks),
            unordered=unordered,
            margin=0.0,
            weight=weight,
            reference_K=torch.zeros(len(ranks)),
        )

    ratios = torch.tensor([2.0, 0.5])
    plain = DPO(beta=0.1)
    assert cost(preference([0, 1]), ratios, plain).item() == pytest.approx(math.log(1 + math.exp(-0.15)), abs=1e-6)
    assert cost(preference([1, 0]), ratios, plain).item() == pytest.approx(math.log(1 + math.exp(0.15)), abs=1e-6)
    # twice as important, and the other way round
    turned = cost(preference([0, 1], weight=-2.0), ratios, plain).item()
    assert turned == pytest.approx(2 * math.log(1 + math.exp(0.15)), abs=1e-6)
    three = cost(preference([0, 1, 2]), torch.tensor([1.0, 0.0, 3.0]), DPO(beta=1.0)).item()
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2)) + math.log(1 + math.exp(3))) / 3
    assert three == pytest.approx(expected, abs=1e-6)
    # of the second and the third nobody asked which is better
    ends = cost(preference([0, 1, 1], unordered=(1, 2)), torch.tensor([1.0, 0.0, 3.0]), DPO(beta=1.0)).item()
    assert ends == pytest.approx((math.log(1 + math.exp(-1)) + math.log(1 + math.exp(2))) / 2, abs=1e-6)
    # conservative: a tenth of the chance is kept for the other one
    smooth = cost(preference([0, 1]), ratios, DPO(beta=0.1, smoothing=0.1)).item()
    assert smooth == pytest.approx(0.9 * math.log(1 + math.exp(-0.15)) + 0.1 * math.log(1 + math.exp(0.15)), abs=1e-6)


@pytest.mark.parametrize("split_depth", [0, 1])
def test_logratios_are_those_of_two_whole_models_in_float64(split_depth: int) -> None:
    trunk, chat = moved(split_depth), tiny.chat()
    ranked = judgements(3)
    merged = trunk.decoding_copy("policy").double()
    reference = trunk.decoding_copy(None).double() if split_depth == 0 else tiny.trunk().model.double()

    def logprob(model: torch.nn.Module, one: Judgement, text: str) -> float:
        encoded = chat.encode(one.prompt, text)
        ids = torch.tensor([encoded.tokens])
        with torch.no_grad():
            logprobs = model(input_ids=ids).logits[0, :-1].log_softmax(dim=-1)
        said = range(encoded.num_prompt, len(encoded.tokens))
        return sum(float(logprobs[place - 1, encoded.tokens[place]]) for place in said)

    found = response_logratios(trunk, prepared_with(trunk, chat, ranked, {}), part="policy")
    for one, ratios_K in zip(ranked, found, strict=True):
        for response, ratio in zip(one.responses, ratios_K.tolist(), strict=True):
            expected = logprob(merged, one, response.text) - logprob(reference, one, response.text)
            assert abs(expected) > 1e-3
            assert ratio == pytest.approx(expected, abs=1e-4)


def test_what_nobody_compared_is_not_compared_here() -> None:
    (whole,) = judgements(1)
    ends = replace(whole, ranking=((0,), (1, 2)), unordered=(1, 2))
    prepared = prepare(tiny.trunk(), tiny.chat(), [whole, ends], CONFIG, {})
    assert [one.unordered for one in prepared] == [(), (1, 2)]


def test_micro_batches_change_no_gradient() -> None:
    trunk, chat = moved(), tiny.chat()
    prepared = prepared_with(trunk, chat, judgements(7), {})

    def gradients(budget: int) -> tuple[dict[str, float], list[Tensor]]:
        for parameter in trunk.part("policy").parameters():
            parameter.grad = None
        figures = batch_gradients(trunk, prepared, CONFIG, budget)
        return figures, [p.grad.clone() for p in trunk.part("policy").parameters() if p.grad is not None]

    figures, expected = gradients(1)
    for budget in (60, 10_000):
        others, found = gradients(budget)
        assert others == pytest.approx(figures, abs=1e-5)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    tested = evaluate(trunk, prepared, CONFIG, 4096)
    assert tested["held_out_loss"] == pytest.approx(figures["loss"], abs=1e-5)


def test_it_begins_at_chance_and_learns_what_is_preferred(tmp_path: Path) -> None:
    trunk, chat = tiny.trunk(), tiny.chat()
    with Journal(tmp_path, quiet=True) as journal:
        result = dpo(
            trunk,
            chat,
            judgements(24),
            judgements(8, seed=9),
            CONFIG,
            objective_weights={},
            seed=0,
            journal=journal,
            folder=tmp_path,
        )
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert rows[0]["best_logratio"] == pytest.approx(0.0, abs=1e-5)
    assert result["held_out_accuracy"] > 0.9
    assert result["held_out_best_logratio"] > result["held_out_worst_logratio"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.tensor([chat.encode(tiny.asked("what is one"), "yes yes").tokens])
    expected = trunk.decoding_copy("policy")(input_ids=ids).logits
    torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


def test_objectives_that_weigh_nothing_are_left_out(tmp_path: Path) -> None:
    trunk = moved()
    mixed = [*judgements(2, objective="helpful"), *judgements(3, objective="harmless")]
    assert len(prepare(trunk, tiny.chat(), mixed, CONFIG, {"helpful": 0.0})) == 3
    weights = [one.weight for one in prepare(trunk, tiny.chat(), mixed, CONFIG, {"harmless": 2.0})]
    assert weights == [1.0, 1.0, 2.0, 2.0, 2.0]
    for given, wrong, message in (
        ([], {}, "no rankings are left"),
        (mixed, {"helpful": 0.0, "harmless": 0.0}, "every objective weighs 0"),
        (mixed, {"helpfull": 2.0}, "names helpfull, but the rankings' objectives are harmless, helpful"),
    ):
        with Journal(tmp_path, quiet=True) as journal, pytest.raises(InputError, match=message):
            dpo(
                trunk, tiny.chat(), given, [], CONFIG, objective_weights=wrong, seed=0, journal=journal, folder=tmp_path
            )


def test_accuracy_is_that_of_all_pairs_and_of_the_order_that_is_aimed_at() -> None:
    """A ranking of one pair and one of three; an objective of negative weight counts backwards."""
    trunk, chat = moved(), tiny.chat()
    short, long = judgements(1)[0], judgements(3)[2]
    short = tiny.judgement(short.prompt, [r.text for r in short.responses[:2]], [[0], [1]])
    one, other = (evaluate(trunk, prepared_with(trunk, chat, [j], {}), CONFIG, 4096) for j in (short, long))
    if one["held_out_accuracy"] == other["held_out_accuracy"]:
        short = tiny.judgement(short.prompt, [r.text for r in short.responses], [[1], [0]])
        one = {"held_out_accuracy": 1 - one["held_out_accuracy"]}
    both = evaluate(trunk, prepared_with(trunk, chat, [short, long], {}), CONFIG, 4096)["held_out_accuracy"]
    assert both == pytest.approx((one["held_out_accuracy"] + 3 * other["held_out_accuracy"]) / 4)
    assert one["held_out_accuracy"] != other["held_out_accuracy"]
    against = prepared_with(trunk, chat, [short, long], {"overall": -1.0})
    assert evaluate(trunk, against, CONFIG, 4096)["held_out_accuracy"] == pytest.approx(1 - both)
