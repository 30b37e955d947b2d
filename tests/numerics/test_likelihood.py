"""What a batch of judgements costs, and what is learned of those who made them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import tiny
from plaudit.rankings import plackett_luce_loss, ranking_loss, ranks_of
from plaudit.recipe import Likelihood
from plaudit.reward.likelihood import JudgementModel, Said, said_by
from plaudit.types import Judgement, Response

WAYS = [
    Likelihood(),
    Likelihood(ties="davidson", margin=0.5),
    Likelihood(ties="rao_kupper", smoothing=0.1),
    Likelihood(ranking="plackett_luce"),
    Likelihood(annotators="reliability"),
]
RANKINGS = [((2,), (0, 1)), ((0,), (1,)), ((1, 3), (0,), (2,)), ((1,), (0,))]
OBJECTIVES = [0, 1, 1, 0]
STRENGTHS = [None, 1.5, 0.5, None]


def judgement(
    ranking: tuple[tuple[int, ...], ...],
    *,
    annotator: str = "ann",
    shown: tuple[int, ...] = (),
    strength: float | None = None,
) -> Judgement:
    count = sum(map(len, ranking))
    return Judgement(
        id="",
        prompt=tiny.asked("what"),
        responses=tuple(Response(text=str(i)) for i in range(count)),
        ranking=ranking,
        annotator=annotator,
        display_order=shown,
        strength=strength,
    )


def said(one: Judgement, model: JudgementModel, objective: int = 0) -> Said:
    ranks = ranks_of(one.ranking, len(one.responses))
    return said_by(one, ranks, objective=objective, annotator=model.index_of(one.annotator))


def batch(model: JudgementModel) -> list[Said]:
    rows = zip(RANKINGS, OBJECTIVES, STRENGTHS, strict=True)
    return [said(judgement(ranking, strength=strength), model, objective) for ranking, objective, strength in rows]


def model_of(config: Likelihood, *annotators: str) -> JudgementModel:
    return JudgementModel(config, objectives=2, annotators=annotators)


@pytest.mark.parametrize("config", WAYS, ids=lambda c: f"{c.ranking}-{c.ties}-{c.annotators}")
def test_judgements_in_company_cost_what_they_cost_alone(config: Likelihood) -> None:
    model = model_of(config, "ann")
    scores = torch.randn(11, 2, generator=torch.Generator().manual_seed(1))
    together = model.losses(scores, batch(model))
    start = 0
    for one, found in zip(batch(model), together, strict=True):
        rows = scores[start : start + len(one.ranks_K)]
        start += len(one.ranks_K)
        assert found.item() == pytest.approx(model.losses(rows, [one]).item(), abs=1e-6)


@pytest.mark.parametrize("config", WAYS[:4], ids=lambda c: f"{c.ranking}-{c.ties}")
def test_a_batch_costs_what_the_formulas_say(config: Likelihood) -> None:
    model = model_of(config, "ann")
    with torch.no_grad():
        model.log_tie_O.copy_(torch.tensor([-0.5, 0.7]))
    scores = torch.randn(11, 2, generator=torch.Generator().manual_seed(1))
    start = 0
    rows = zip(RANKINGS, OBJECTIVES, STRENGTHS, model.losses(scores, batch(model)), strict=True)
    for ranking, objective, strength, found in rows:
        ranks = ranks_of(ranking, sum(map(len, ranking)))
        own = scores[start : start + len(ranks), objective]
        start += len(ranks)
        if config.ranking == "plackett_luce":
            expected = plackett_luce_loss(own, ranks)
        else:
            expected = ranking_loss(
                own,
                ranks,
                margin=config.margin * (strength or 0.0),
                ties=config.ties,
                log_tie=model.log_tie_O[objective],
                smoothing=config.smoothing,
            )
        assert found.item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("config", [Likelihood(), Likelihood(annotators="reliability")], ids=["alike", "reliability"])
def test_of_answers_that_nobody_compared_nothing_is_learned(config: Likelihood) -> None:
    """Of five the best and the worst: seven pairs, and two of them are news; the three between feel no pull."""
    model = model_of(config, "ann")
    one = replace(judgement(((4,), (0, 1, 3), (2,)), shown=(4, 3, 2, 1, 0)), unordered=(0, 1, 3))
    heard = said(one, model)
    assert (len(heard.first_M), heard.news) == (7, 2.0)
    assert said(replace(one, unordered=()), model).news == 4.0
    scores = torch.tensor([[0.3], [0.3], [-1.0], [0.3], [1.0]], requires_grad=True)
    model.losses(scores, [heard]).sum().backward()
    assert scores.grad is not None
    pull = scores.grad[[0, 1, 3], 0]
    if config.annotators == "alike":
        apart = [math.exp(-0.7) / (1 + math.exp(-0.7)), math.exp(-1.3) / (1 + math.exp(-1.3))]
        assert pull.tolist() == pytest.approx([(apart[0] - apart[1]) / 7] * 3, abs=1e-6)
    assert pull.max().item() == pytest.approx(pull.min().item(), abs=1e-6)


def test_one_who_errs_and_looks_at_the_first_place() -> None:
    """By hand: eta = 0.1, the first place worth 0.5, D = ln 4 - 0.5, and the better one was shown second."""
    model = model_of(Likelihood(annotators="reliability"), "ann")
    with torch.no_grad():
        model.mistakes_A[0] = math.log(0.2 / 0.8)
        model.first_A[0] = 0.5
    assert model.flip_A[0].item() == pytest.approx(0.1)
    scores = torch.tensor([[math.log(4), 0.0], [0.0, 0.0]])

    def cost(shown: tuple[int, ...], ranking: tuple[tuple[int, ...], ...] = ((0,), (1,))) -> float:
        return model.losses(scores, [said(judgement(ranking, shown=shown), model)]).item()

    def expected(difference: float) -> float:
        return -math.log(0.8 / (1 + math.exp(-difference)) + 0.1)

    assert cost((1, 0)) == pytest.approx(expected(math.log(4) - 0.5), abs=1e-6)
    assert cost((0, 1)) == pytest.approx(expected(math.log(4) + 0.5), abs=1e-6)
    assert cost(()) == pytest.approx(expected(math.log(4)), abs=1e-6)
    assert cost((1, 0), ((1,), (0,))) == pytest.approx(expected(0.5 - math.log(4)), abs=1e-6)


def test_careless_people_are_found_and_so_is_what_they_fall_for() -> None:
    """Known scores; three people err in 2, 25 and 50 of a hundred pairs, and one gives a point to the first place."""
    rng = np.random.default_rng(0)
    errs, leans = {"ann": 0.02, "ben": 0.25, "cem": 0.5, "dot": 0.02}, {"dot": 1.0}
    model = model_of(Likelihood(annotators="reliability"), *errs)
    scores, rows = [], []
    for name, err in errs.items():
        for _ in range(600):
            pair = rng.normal(size=2) * 2
            shown = (0, 1) if rng.random() < 0.5 else (1, 0)
            difference = pair[0] - pair[1] + leans.get(name, 0.0) * (1 if shown == (0, 1) else -1)
            wins = rng.random() < 1 / (1 + math.exp(-difference))
            wins = wins != (rng.random() < err)
            rows.append(said(judgement(((0,), (1,)) if wins else ((1,), (0,)), annotator=name, shown=shown), model))
            scores += [[pair[0], 0.0], [pair[1], 0.0]]
    known = torch.tensor(scores, dtype=torch.float32)
    # A young judge: its scores are four times too small, and it has a fifth of the pairs the wrong way round.
    young = torch.where(torch.rand(len(known) // 2, generator=torch.Generator().manual_seed(3)) < 0.2, -1.0, 1.0)
    model.find_annotators(rows, list((known / 4 * young.repeat_interleave(2)[:, None]).split(2)))
    found = dict(zip(errs, zip(model.flip_A.tolist(), model.first_A.tolist(), strict=False), strict=False))
    assert found["ann"][0] < 0.08
    assert found["ben"][0] == pytest.approx(0.25, abs=0.08)
    assert found["cem"][0] > 0.4
    assert found["dot"][1] == pytest.approx(1.0, abs=0.4)
    assert abs(found["ann"][1]) < 0.4
    assert not any(parameter.requires_grad for parameter in (model.mistakes_A, model.first_A))
    # Nobody in particular stays what annotators usually are.
    assert model.flip_A[-1].item() == pytest.approx(0.08, abs=1e-3)
    figures = model.figures([judgement(((0,), (1,)), annotator="ben")] * 3)["annotators"]
    assert figures["ben"]["judgements"] == 3
    assert figures["ann"]["judgements"] == 0
    assert figures["cem"]["mistakes"] == pytest.approx(found["cem"][0])


def test_what_is_not_asked_for_is_not_learned() -> None:
    assert model_of(Likelihood(), "ann").trained() == []
    assert len(model_of(Likelihood(ties="davidson"), "ann").trained()) == 1
    assert len(model_of(Likelihood(ties="davidson", annotators="reliability"), "ann").trained()) == 1
    assert model_of(Likelihood(), "ann").figures([]) == {}
    for more in ({"ties": "davidson"}, {"smoothing": 0.1}, {"annotators": "reliability"}):
        with pytest.raises(ValidationError, match="ranking: pairs"):
            Likelihood.model_validate({"ranking": "plackett_luce", **more})
