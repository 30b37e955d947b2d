"""A judge of several members: one pass for all of them, bootstraps, anchors, and one classifier on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from plaudit.models.fitting import micro_batches
from plaudit.models.heads import ScoreHead
from plaudit.progress import Journal
from plaudit.recipe import Adapter, Likelihood, Optimizer, Reward
from plaudit.reward import train
from plaudit.reward.likelihood import JudgementModel
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import open_reward
from plaudit.reward.train import drawn, train_judge


def judge_of(members: int) -> RewardModel:
    judge = RewardModel(
        tiny.trunk(),
        tiny.chat(),
        ["helpful", "kind"],
        part="reward",
        adapter=Adapter(rank=4, alpha=8.0),
        members=members,
        seed=5,
    )
    tiny.move(judge.trunk, "reward", by=0.05)
    return judge


def test_the_score_is_the_mean_of_members_on_their_own_scales() -> None:
    judge = judge_of(3)
    prompts, texts = tiny.questions(8), tiny.answers(8)
    judge.centre(prompts, texts)
    scores_BEO = judge.by_member(prompts, texts)
    assert scores_BEO.shape == (8, 3, 2)
    torch.testing.assert_close(scores_BEO.mean(0), torch.zeros(3, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(scores_BEO.std(0, unbiased=False), torch.ones(3, 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(judge(prompts, texts), scores_BEO.mean(1), atol=0, rtol=0)
    assert float((scores_BEO[:, 0] - scores_BEO[:, 1]).abs().max()) > 0.1


def test_all_members_take_one_pass() -> None:
    judge = judge_of(4)
    passes: list[int] = []
    judge.trunk.register_forward_hook(lambda *_: passes.append(1))
    judge.by_member(tiny.questions(6), tiny.answers(6))
    judge_of(1)
    alone = judge_of(1)
    single: list[int] = []
    alone.trunk.register_forward_hook(lambda *_: single.append(1))
    alone(tiny.questions(6), tiny.answers(6))
    assert len(passes) == len(single) > 0


@pytest.mark.filterwarnings("ignore")
def test_members_are_one_classifier_on_disk_and_come_back_as_they_were(tmp_path: Path) -> None:
    judge = judge_of(3)
    prompts, texts = tiny.questions(7), tiny.answers(7)
    judge.centre(prompts, texts)
    judge.save(tmp_path)
    again = RewardModel.load(tmp_path, tiny.trunk(), tiny.chat())
    assert again.members == 3
    assert torch.equal(again.by_member(prompts, texts), judge.by_member(prompts, texts))
    exported = open_reward(str(tmp_path / "model"), device="cpu")
    torch.testing.assert_close(exported(prompts, texts), judge(prompts, texts), atol=1e-4, rtol=1e-4)


def test_a_bootstrap_is_each_members_own_and_stays() -> None:
    counts = torch.stack([drawn(f"prompt {i}", 4, seed=0) for i in range(2000)])
    # Poisson of 1: mean 1, variance 1, and e^-1 of the prompts are never drawn.
    torch.testing.assert_close(counts.mean(0), torch.ones(4), atol=0.08, rtol=0)
    torch.testing.assert_close((counts == 0).float().mean(0), torch.full((4,), 0.3679), atol=0.04, rtol=0)
    assert float(torch.corrcoef(counts.T)[0, 1].abs()) < 0.08
    assert torch.equal(drawn("a", 4, seed=0), drawn("a", 4, seed=0))
    assert any(not torch.equal(drawn(f"p{i}", 4, seed=0), drawn(f"p{i}", 4, seed=1)) for i in range(5))
    assert drawn("a", 1, seed=0).tolist() == [1.0]


def test_the_anchor_is_the_prior_that_weights_were_drawn_from() -> None:
    head = ScoreHead(3, 1, members=2, seed=0)
    assert head.strayed().item() == 0.0
    with torch.no_grad():
        head.weight_EOD[0, 0, 0] += 0.5
    # variance 1 / (D + 1) = 1/4: 0.25 / (2 x 1/4)
    assert head.strayed().item() == pytest.approx(0.5)


def trained(tmp_path: Path, *, members: int, bootstrap: bool, anchor: float = 0.0, steps: int = 6) -> RewardModel:
    judge = judge_of(members)
    asked = tiny.questions(12)
    rankings = [tiny.judgement(p, ["yes yes", "no"], [[0], [1]], objective="helpful") for p in asked]
    config = Reward(
        members=members, bootstrap=bootstrap, anchor=anchor, epochs=steps, batch_size=12,
        optimizer=Optimizer(learning_rate=0.05),
    )  # fmt: skip
    with Journal(tmp_path, quiet=True) as journal:
        train_judge(judge, rankings, [], config, seed=0, journal=journal)
    return judge


def test_members_that_began_alike_and_drew_alike_stay_alike(tmp_path: Path) -> None:
    """Without a bootstrap two members with one beginning are one judge: mean and worst are the same."""
    judge = judge_of(2)
    with torch.no_grad():
        judge.head.weight_EOD[1] = judge.head.weight_EOD[0]
    scores_BEO = judge.by_member(tiny.questions(5), tiny.answers(5))
    assert torch.equal(scores_BEO[:, 0], scores_BEO[:, 1])
    assert torch.equal(scores_BEO.mean(1), scores_BEO.amin(1))
    apart = trained(tmp_path / "a", members=2, bootstrap=True)
    spread = apart.by_member(tiny.questions(5), tiny.answers(5))[:, :, 0].std(dim=1)
    assert float(spread.max()) > 0.01


def test_an_anchor_holds(tmp_path: Path) -> None:
    free = trained(tmp_path / "free", members=2, bootstrap=False)
    held = trained(tmp_path / "held", members=2, bootstrap=False, anchor=1000.0)
    assert held.head.strayed().item() < free.head.strayed().item() / 3


def test_annotators_are_found_by_a_judge_that_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The later half of the rankings is told from, and the judge is put back to the bit."""
    heard: list[int] = []
    monkeypatch.setattr(JudgementModel, "find_annotators", lambda self, said, scores: heard.append(len(said)))  # pyright: ignore
    judge = RewardModel(tiny.trunk(), tiny.chat(), ["overall"], part="reward", adapter=Adapter(rank=4), seed=0)
    ranked = [tiny.judgement(p, ["yes", "no"], [[0], [1]], annotator="ann") for p in tiny.questions(16)]
    likelihood = Likelihood(annotators="reliability")
    config = Reward(likelihood=likelihood, batch_size=4, optimizer=Optimizer(learning_rate=1e-2))
    model = JudgementModel(likelihood, objectives=1, annotators=["ann"])
    before = [parameter.detach().clone() for parameter in judge.parameters()]
    steps: list[bool] = []
    gradients = train.batch_gradients

    def watched(*args: Any) -> Any:
        moved = any(not torch.equal(a, b) for a, b in zip(judge.parameters(), before, strict=True))
        steps.append(moved)
        return gradients(*args)

    monkeypatch.setattr(train, "batch_gradients", watched)
    with Journal(tmp_path, quiet=True) as journal:
        train.find_annotators(
            judge, model, train.prepare(judge, model, ranked), config, micro_batches(4096), seed=0, journal=journal
        )
    assert steps == [False, True, True, True]  # it learned on the way
    assert heard == [8]
    assert all(torch.equal(a, b) for a, b in zip(judge.parameters(), before, strict=True))


@pytest.mark.parametrize("ties", ["half", "davidson", "rao_kupper"])
def test_finding_annotators_leaves_no_gradient_behind(ties: Any, tmp_path: Path) -> None:
    judge = RewardModel(tiny.trunk(), tiny.chat(), ["overall"], part="reward", adapter=Adapter(rank=4), seed=0)
    ranked = [tiny.judgement(p, ["yes", "no"], [[0], [1]], annotator="ann") for p in tiny.questions(16)]
    likelihood = Likelihood(annotators="reliability", ties=ties)
    config = Reward(likelihood=likelihood, batch_size=4)
    model = JudgementModel(likelihood, objectives=1, annotators=["ann"])
    with Journal(tmp_path, quiet=True) as journal:
        train.find_annotators(
            judge, model, train.prepare(judge, model, ranked), config, micro_batches(4096), seed=0, journal=journal
        )
    assert all(parameter.grad is None for parameter in [*judge.parameters(), *model.parameters()])
