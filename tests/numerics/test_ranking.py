"""The ranking loss and the judge: numbers by hand, K forward passes, and the exported classifier."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

import tiny
from plaudit.models.heads import ValueHead
from plaudit.models.sequences import last_states, run_lower
from plaudit.rankings import pair_accuracy, ranking_loss, ranks_of
from plaudit.recipe import Adapter, Likelihood
from plaudit.reward.likelihood import JudgementModel
from plaudit.reward.model import RewardModel
from plaudit.reward.train import judge_rankings, prepare, whole_rankings
from plaudit.rl.shaping import combine_objectives
from plaudit.types import InputError, Judgement

LOG_1_E1, LOG_1_E2 = 0.3132617, 0.1269280
"""log(1 + exp(-1)) and log(1 + exp(-2)): what a pair costs that is right by 1 and by 2."""


def loss_of(scores: list[float], ranks: list[int], *, margin: float = 0.0) -> float:
    return ranking_loss(torch.tensor(scores), torch.tensor(ranks), margin=margin).item()


def test_ranks_of_tie_groups() -> None:
    assert ranks_of(((2,), (0, 1), (3,)), 4).tolist() == [1, 1, 0, 2]


def test_two_responses_are_bradley_terry() -> None:
    assert loss_of([1.5, 0.5], [0, 1]) == pytest.approx(LOG_1_E1, abs=1e-6)
    assert loss_of([1.5, 0.5], [1, 0]) == pytest.approx(1 + LOG_1_E1, abs=1e-6)
    # As Plackett-Luce has it: -log(e^a / (e^a + e^b)).
    assert loss_of([0.2, 0.9], [0, 1]) == pytest.approx(
        -math.log(math.exp(0.2) / (math.exp(0.2) + math.exp(0.9))), abs=1e-6
    )


def test_a_ranking_weighs_1_over_its_number_of_pairs() -> None:
    """Three pairs: differences 1, 2, 1. One sitting is one loss, not three."""
    assert loss_of([1.0, 0.0, -1.0], [0, 1, 2]) == pytest.approx((2 * LOG_1_E1 + LOG_1_E2) / 3, abs=1e-6)
    # With equal scores every pair costs log 2, whatever their number.
    for count in (2, 3, 4, 9):
        assert loss_of([0.7] * count, list(range(count))) == pytest.approx(math.log(2), abs=1e-6)


def test_a_tie_aims_at_one_half() -> None:
    # 0.5 log(1 + e^-1) + 0.5 log(1 + e^1)
    assert loss_of([1.0, 0.0], [0, 0]) == pytest.approx(0.5 * LOG_1_E1 + 0.5 * (1 + LOG_1_E1), abs=1e-6)
    scores = torch.tensor([1.0, 1.0], requires_grad=True)
    ranking_loss(scores, torch.tensor([0, 0])).backward()
    assert scores.grad is not None
    assert scores.grad.tolist() == [0.0, 0.0]
    # Both sides of a tie together cost as much as a pair seen from either side: the targets sum to 1.
    assert loss_of([1.0, 0.0], [0, 0]) * 2 == pytest.approx(loss_of([1.0, 0.0], [0, 1]) + loss_of([1.0, 0.0], [1, 0]))


def test_a_margin_is_shared_by_rank() -> None:
    # Ranks 0, 1, 2 and a margin of 2 from best to worst: 1 for neighbours, 2 for the ends; every difference is used up.
    assert loss_of([1.0, 0.0, -1.0], [0, 1, 2], margin=2.0) == pytest.approx(math.log(2), abs=1e-6)
    # A pair in the other order has its margin the other way.
    assert loss_of([-1.0, 1.0], [1, 0], margin=1.0) == pytest.approx(LOG_1_E1, abs=1e-6)
    assert loss_of([3.0, 3.0], [0, 0], margin=1.0) == pytest.approx(math.log(2), abs=1e-6)


def test_the_order_of_candidates_and_a_shift_change_nothing() -> None:
    scores, ranks = torch.tensor([0.3, -1.0, 2.0, 0.5]), torch.tensor([1, 2, 0, 1])
    expected = ranking_loss(scores, ranks, margin=0.5)
    for order in itertools.permutations(range(4)):
        shuffled = ranking_loss(scores[list(order)], ranks[list(order)], margin=0.5)
        torch.testing.assert_close(shuffled, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(ranking_loss(scores + 13.0, ranks, margin=0.5), expected, atol=1e-5, rtol=0)


def test_accuracy_counts_pairs_that_are_no_ties() -> None:
    assert pair_accuracy(torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0, 1, 2])) == (3.0, 3)
    assert pair_accuracy(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 2])) == (0.0, 3)
    assert pair_accuracy(torch.tensor([1.0, 2.0, 1.0]), torch.tensor([0, 0, 1])) == (1.5, 2)


# -- the judge ------------------------------------------------------------------------------------------------------


def judge_on(
    kind: str = "llama", split_depth: int = 0, *, objectives: Sequence[str] = ("helpful", "kind")
) -> RewardModel:
    judge = RewardModel(
        tiny.trunk(kind, split_depth),
        tiny.chat(),
        objectives,
        part="reward",
        adapter=Adapter(rank=4, alpha=8.0),
        seed=5,
    )
    tiny.move(judge.trunk, "reward", by=0.05)
    return judge


def plain(judge: RewardModel) -> JudgementModel:
    """Pairs, each weighing as much; annotators alike."""
    return JudgementModel(Likelihood(), objectives=len(judge.objectives), annotators=())


def rankings() -> list[Judgement]:
    asked = tiny.questions(3)
    return [
        tiny.judgement(asked[0], ["yes", "no one two three", "red cat"], [[1], [0], [2]], objective="helpful"),
        tiny.judgement(asked[1], ["blue dog", "yes yes yes yes yes"], [[1], [0]], objective="kind"),
        tiny.judgement(asked[2], ["a", "the cat", "what", "one"], [[0, 3], [1, 2]], objective="helpful", strength=0.5),
    ]


@pytest.mark.parametrize(("shares", "passes"), [(True, 3), (False, 3 + 2 + 4)])
def test_k_forward_passes_for_all_pairs(shares: bool, passes: int) -> None:
    """K, not C(K,2); on one line where the prompt is shared."""
    judge = judge_on()
    judge.trunk.shares_prompts = shares
    prepared = prepare(judge, plain(judge), rankings())
    rows: list[int] = []
    judge.trunk.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    losses, _, decided, _ = judge_rankings(judge, plain(judge), prepared)
    assert sum(rows) == passes
    assert losses.shape == (3, 1)
    assert decided == 3 + 1 + 4  # of 3 + 1 + 6 pairs, two are ties


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_rankings_in_company_cost_what_they_cost_alone(kind: str) -> None:
    """Padding, the head of each objective, and the micro-batch leave loss and gradient as they are."""
    judge = judge_on(kind)
    prepared = prepare(judge, plain(judge), rankings())

    def gradients(budget: int) -> tuple[list[float], list[Tensor]]:
        for parameter in judge.parameters():
            parameter.grad = None
        costs: list[float] = []
        for group in whole_rankings(prepared, budget):
            losses, _, _, _ = judge_rankings(judge, plain(judge), group)
            (losses.sum() / len(prepared)).backward()
            costs += losses[:, 0].tolist()
        return costs, [parameter.grad.clone() for parameter in judge.parameters() if parameter.grad is not None]

    costs, expected = gradients(1)  # one ranking at a time
    for budget in (30, 10_000):
        found_costs, found = gradients(budget)
        assert sorted(found_costs) == pytest.approx(sorted(costs), abs=1e-5)
        assert len(found) == len(expected) == len(judge.parameters())
        for one, other in zip(found, expected, strict=True):
            assert (one - other).norm() <= 1e-5 * other.norm() + 1e-8


@pytest.mark.parametrize(("kind", "depth"), [("llama", 0), ("llama", 1), ("gpt2", 0), ("gpt_neox", 1)])
@torch.no_grad()
def test_scores_in_a_batch_equal_scores_alone(kind: str, depth: int) -> None:
    """Read at the EOS of each response: against the merged model, one sequence at a time, without padding."""
    judge = judge_on(kind, depth)
    prompts, texts = tiny.questions(6), tiny.answers(6)
    merged = judge.trunk.decoding_copy("reward")
    expected: list[Tensor] = []
    for prompt, text in zip(prompts, texts, strict=True):
        tokens = torch.tensor(judge.chat.encode(prompt, text).tokens)
        assert tokens[-1] == tiny.END
        state = merged.base_model(input_ids=tokens[None]).last_hidden_state[0, -1]  # pyright: ignore
        expected.append(judge.head.weight_EOD[0] @ state)
    for budget in (1, 25, 8192):
        judge.trunk.reading.count = budget
        torch.testing.assert_close(judge(prompts, texts), torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_the_models_own_responses_average_0_with_deviation_1() -> None:
    judge = judge_on()
    prompts, texts = tiny.questions(8), tiny.answers(8)
    raw = judge(prompts, texts)
    judge.centre(prompts, texts)
    scores = judge(prompts, texts)
    torch.testing.assert_close(scores, (raw - raw.mean(0)) / raw.std(0, unbiased=False), atol=1e-5, rtol=0)
    judge.centre(prompts, texts)  # again is the same: it is not centred on what is centred
    torch.testing.assert_close(judge(prompts, texts), scores, atol=0, rtol=0)
    judge.centre(prompts[:1], texts[:1])  # one response has no spread to divide by
    assert judge.scale_EO.tolist() == [[1.0, 1.0]]
    assert judge(prompts[:1], texts[:1]).abs().max().item() < 1e-6


@torch.no_grad()
def test_the_value_begins_as_the_combined_score() -> None:
    judge = judge_on()
    prompts, texts = tiny.questions(6), tiny.answers(6)
    judge.centre(prompts, texts)
    weights = {"kind": 0.25}
    start = judge.value_start(weights)
    head = ValueHead(judge.trunk.width)
    head.weight.copy_(start.weight_D)
    head.bias.fill_(start.bias)
    values = head(last_states(judge.trunk, run_lower(judge.trunk, judge.bundles(prompts, texts)), part=start.part))
    expected = combine_objectives(judge(prompts, texts), judge.objectives, weights)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)


def test_a_response_longer_than_the_context_is_an_error() -> None:
    with pytest.raises(InputError, match="context is 64"):
        judge_on()([tiny.asked("what")], ["yes " * 70])


@pytest.mark.parametrize(("kind", "depth"), [("llama", 1), ("qwen2", 0), ("gpt_neox", 0), ("gpt2", 0)])
@pytest.mark.filterwarnings("ignore")
@torch.no_grad()
def test_the_export_scores_as_the_judge_does(kind: str, depth: int, tmp_path: Path) -> None:
    """With transformers alone, on a padded batch: (logits - offset) / scale, read at the EOS, which is not the pad."""
    judge = judge_on(kind, depth)
    prompts, texts = tiny.questions(7), tiny.answers(7)
    judge.centre(prompts, texts)
    ours = judge(prompts, texts)
    judge.save(tmp_path)

    theirs: Any = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "model")
    assert theirs.config.pad_token_id not in judge.chat.eos_ids
    assert theirs.config.id2label == {0: "helpful", 1: "kind"}
    chats = [
        [{"role": "user", "content": p.messages[-1].content}, {"role": "assistant", "content": t}]
        for p, t in zip(prompts, texts, strict=True)
    ]
    written = tokenizer.apply_chat_template(chats, tokenize=False)
    batch = tokenizer(written, padding=True, return_tensors="pt", add_special_tokens=False)
    assert not bool(batch["attention_mask"].all())
    logits = theirs(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    offset, scale = torch.tensor(theirs.config.reward_offset), torch.tensor(theirs.config.reward_scale)
    torch.testing.assert_close((logits - offset) / scale, ours, atol=1e-4, rtol=1e-4)
    for o in range(2):
        assert logits[:, o].argsort().tolist() == ours[:, o].argsort().tolist()


@pytest.mark.parametrize("way", ["lora", "full"])
def test_a_saved_judge_scores_as_before_to_the_bit(way: Literal["lora", "full"], tmp_path: Path) -> None:
    judge = RewardModel(
        tiny.trunk(),
        tiny.chat(),
        ["overall"],
        part="reward",
        adapter=Adapter(kind=way, rank=4),
        seed=5,  # pyright: ignore
    )
    tiny.move(judge.trunk, "reward", by=0.05)
    prompts, texts = tiny.questions(5), tiny.answers(5)
    judge.centre(prompts, texts)
    judge.save(tmp_path, export=False)
    again = RewardModel.load(tmp_path, tiny.trunk(), tiny.chat())
    assert torch.equal(again(prompts, texts), judge(prompts, texts))
    with pytest.raises(InputError, match="another trunk"):
        RewardModel.load(tmp_path, tiny.trunk(seed=3), tiny.chat())
    with pytest.raises(InputError, match="there is no judge"):
        RewardModel.load(tmp_path / "nowhere", tiny.trunk(), tiny.chat())
