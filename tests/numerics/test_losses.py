"""The geometry of PPO's clipped losses, the leash, and the schedules: numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

import tiny
from plaudit.models.optimization import Stepper, learning_rate_at
from plaudit.models.trunk import Trunk
from plaudit.recipe import KL, Optimizer
from plaudit.rl.controllers import KLController
from plaudit.rl.loss import approximate_kl, policy_loss, sampler_weights, value_loss
from plaudit.rl.shaping import combine_objectives, kl_estimate, leave_one_out, shape_rewards
from plaudit.tensors import logprobs_and_entropy
from plaudit.types import InputError, TrainingError

# -- clip geometry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [
        # The loss is -min(rho A, clip(rho) A), its slope along log rho is -rho A where the clip is not chosen.
        (2.0, 0.5, -1.0, -1.0),
        (2.0, 1.0, -2.0, -2.0),
        (2.0, 1.1, -2.2, -2.2),
        (2.0, 1.3, -2.4, 0.0),
        (-2.0, 0.7, 1.6, 0.0),
        (-2.0, 0.9, 1.8, 1.8),
        (-2.0, 1.0, 2.0, 2.0),
        (-2.0, 1.5, 3.0, 3.0),
        (0.0, 1.5, 0.0, 0.0),
    ],
)
def test_the_policy_loss_stops_only_where_the_step_has_gone_far_enough(
    advantage: float, ratio: float, loss: float, slope: float
) -> None:
    old = torch.tensor([-1.0])
    new = (old + math.log(ratio)).requires_grad_()
    found = policy_loss(new, old, torch.tensor([advantage]), clip=0.2)
    (gradient,) = torch.autograd.grad(found.sum(), new)
    assert found.item() == pytest.approx(loss, abs=1e-5)
    assert gradient.item() == pytest.approx(slope, abs=1e-5)


def test_equal_rewards_push_nowhere() -> None:
    """Advantages of 0 (what whitening makes of equal rewards) give a gradient of 0, not NaN."""
    new = torch.tensor([-1.0, -2.0], requires_grad=True)
    (gradient,) = torch.autograd.grad(policy_loss(new, torch.tensor([-3.0, -1.5]), torch.zeros(2), clip=0.2).sum(), new)
    assert gradient.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("value", "old", "target", "loss", "slope"),
    [
        (1.1, 1.0, 3.0, 0.5 * 1.9**2, -1.9),  # within the clip: the square
        (1.5, 1.0, 3.0, 0.5 * 1.8**2, 0.0),  # moved .5 towards the target: the clipped one is worse, no slope
        (0.5, 1.0, 3.0, 0.5 * 2.5**2, -2.5),  # moved away: the square is worse, full slope
    ],
)
def test_the_value_loss(value: float, old: float, target: float, loss: float, slope: float) -> None:
    new = torch.tensor([value], requires_grad=True)
    found = value_loss(new, torch.tensor([old]), torch.tensor([target]), clip=0.2)
    (gradient,) = torch.autograd.grad(found.sum(), new)
    assert found.item() == pytest.approx(loss, abs=1e-6)
    assert gradient.item() == pytest.approx(slope, abs=1e-6)


def test_tokens_weigh_what_the_sampler_owes_them() -> None:
    """The trunk gives the tokens 0.2, 0.3, 0.9 and 0.9 where the sampler gave 0.2, 0.4, 0.6 and 0.0009."""
    trunk, sampler = torch.tensor([0.2, 0.3, 0.9, 0.9]).log(), torch.tensor([0.2, 0.4, 0.6, 0.0009]).log()
    found = sampler_weights(trunk, sampler, cap=2.0)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.75, 1.5, 2.0]), atol=1e-6, rtol=0)
    assert sampler_weights(trunk, sampler, cap=1.25)[2] == 1.25
    assert sampler_weights(trunk, sampler, cap=None).tolist() == [1.0] * 4
    assert sampler_weights(trunk, trunk, cap=1.0).tolist() == [1.0] * 4  # exactly


def test_approximate_kl() -> None:
    new = torch.tensor([-1.0, -1.0 + math.log(2.0), -1.0 - math.log(2.0)])
    old = torch.full((3,), -1.0)
    # (rho - 1) - log rho for rho = 1, 2, 1/2
    torch.testing.assert_close(approximate_kl(new, old), torch.tensor([0.0, 0.3068528, 0.1931472]), atol=1e-6, rtol=0)


# -- the KL and its estimators --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("estimator", "value"), [("k1", 0.5), ("k2", 0.125), ("k3", 0.1065307)])
def test_the_estimators_by_hand(estimator: str, value: float) -> None:
    """log pi = -1, log ref = -1.5: k1 = .5, k2 = .5^2 / 2, k3 = exp(-.5) - 1 + .5."""
    found = kl_estimate(torch.tensor([-1.0]), torch.tensor([-1.5]), estimator)  # pyright: ignore[reportArgumentType]
    assert found.item() == pytest.approx(value, abs=1e-6)


POLICY = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
REFERENCE = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
KL_EXACT = 0.6 * math.log(3.0) + 0.1 * math.log(0.2)
"""KL(policy || reference), summed over the three outcomes."""


def test_k1_and_k3_are_unbiased_and_k2_is_not() -> None:
    def mean(estimator: str) -> float:
        return float((POLICY * kl_estimate(POLICY.log(), REFERENCE.log(), estimator)).sum())  # pyright: ignore

    assert mean("k1") == pytest.approx(KL_EXACT, abs=1e-12)
    assert mean("k3") == pytest.approx(KL_EXACT, abs=1e-12)
    assert mean("k2") == pytest.approx((0.6 * math.log(3) ** 2 + 0.1 * math.log(0.2) ** 2) / 2, abs=1e-12)
    assert abs(mean("k2") - KL_EXACT) > 0.005
    assert bool((kl_estimate(POLICY.log(), REFERENCE.log(), "k3") >= 0).all())


def test_gradients_of_the_estimators_as_losses() -> None:
    """By exact enumeration: k1 has none on average, k2 that of KL(pi || ref), k3 that of KL(ref || pi)."""
    logits = POLICY.log().requires_grad_()

    def logprobs() -> Tensor:
        return logits.log_softmax(-1)

    def on_policy(estimator: str) -> Tensor:
        loss = (POLICY * kl_estimate(logprobs(), REFERENCE.log(), estimator)).sum()  # pyright: ignore
        return torch.autograd.grad(loss, logits)[0]

    reverse = (logprobs().exp() * (logprobs() - REFERENCE.log())).sum()
    forward = (REFERENCE * (REFERENCE.log() - logprobs())).sum()
    assert on_policy("k1").abs().max().item() < 1e-12
    torch.testing.assert_close(on_policy("k2"), torch.autograd.grad(reverse, logits)[0], atol=1e-12, rtol=0)
    torch.testing.assert_close(on_policy("k3"), torch.autograd.grad(forward, logits)[0], atol=1e-12, rtol=0)


def test_logprobs_of_a_coarse_model_are_fine() -> None:
    """log(1 / (1 + e^10)) = -10.0000454: bfloat16 would say -10."""
    found, entropy = logprobs_and_entropy(torch.tensor([[10.0, 0.0]], dtype=torch.bfloat16), torch.tensor([1]))
    assert found.dtype == entropy.dtype == torch.float32
    assert found.item() == pytest.approx(-10.0000454, abs=4e-6)


def test_parts_of_a_coarse_trunk_are_trained_in_float32() -> None:
    made = Trunk(tiny.model().to(torch.bfloat16))  # pyright: ignore
    for kind in ("lora", "full"):
        part = made.add_part(kind, kind, rank=2)
        assert {p.dtype for p in part.parameters()} == {torch.float32}


# -- from scores to rewards -----------------------------------------------------------------------------------------


def test_the_score_is_paid_once_at_the_last_real_token_and_the_leash_at_each() -> None:
    nan = float("nan")
    kl = torch.tensor([[0.1, 0.2, nan], [0.5, -0.4, 0.3]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    rewards = shape_rewards(torch.tensor([2.0, -1.0]), kl, mask, coefficient=0.5)
    expected = torch.tensor([[-0.05, 1.9, 0.0], [-0.25, 0.2, -1.15]])
    torch.testing.assert_close(rewards, expected, atol=1e-6, rtol=0)
    # A response's rewards sum to its score less the coefficient times its KL: 2 - .5 * .3 and -1 - .5 * .4.
    torch.testing.assert_close(rewards.sum(dim=1), torch.tensor([1.85, -1.2]), atol=1e-6, rtol=0)


def test_objectives_are_weighed_by_name() -> None:
    scores = torch.tensor([[1.0, 10.0], [2.0, -4.0]])
    assert combine_objectives(scores, ("helpful", "harmless"), {"harmless": 0.5}).tolist() == [6.0, 0.0]
    assert combine_objectives(scores, ("helpful", "harmless"), {}).tolist() == [11.0, -2.0]
    with pytest.raises(InputError, match=r"objective_weights names kind.*helpful, harmless"):
        combine_objectives(scores, ("helpful", "harmless"), {"kind": 1.0})


def test_a_score_against_the_other_responses_to_its_prompt() -> None:
    """1 - (2 + 6)/2, 2 - (1 + 6)/2, 6 - (1 + 2)/2; then the second prompt, on its own."""
    found = leave_one_out(torch.tensor([1.0, 2.0, 6.0, 0.0, 4.0, 2.0]), 3)
    assert found.tolist() == [-3.0, -1.5, 4.5, -3.0, 3.0, 0.0]
    assert leave_one_out(torch.tensor([5.0, 1.0]), 2).tolist() == [4.0, -4.0]


def test_what_a_prompt_is_worth_falls_out_of_leave_one_out() -> None:
    """Adding 100 to all scores of one prompt changes nothing, and each prompt's sum to 0."""
    found = leave_one_out(torch.tensor([101.0, 102.0, 106.0, 0.0, 4.0, 2.0]), 3)
    assert found.tolist() == [-3.0, -1.5, 4.5, -3.0, 3.0, 0.0]
    assert found.reshape(2, 3).sum(dim=1).tolist() == [0.0, 0.0]


def test_equal_scores_of_a_prompt_leave_the_leash_alone() -> None:
    kl = torch.tensor([[0.1, 0.2], [0.5, -0.4], [0.0, 0.3], [0.2, 0.2]])
    relative = leave_one_out(torch.tensor([7.0, 7.0, -2.0, -2.0]), 2)
    rewards = shape_rewards(relative, kl, torch.ones_like(kl, dtype=torch.bool), coefficient=0.5)
    expected = torch.tensor([[-0.05, -0.1], [-0.25, 0.2], [0.0, -0.15], [-0.1, -0.1]])
    torch.testing.assert_close(rewards, expected, atol=1e-6, rtol=0)


def test_the_adaptive_coefficient() -> None:
    controller = KLController(KL(controller="adaptive", coefficient=0.1, target=6.0, horizon=1000))
    controller.update(6.6, 100)  # 10 % too much: 1 + .1 * 100 / 1000
    assert controller.coefficient == pytest.approx(0.101)
    controller.update(60.0, 100)  # far too much counts as 20 %
    assert controller.coefficient == pytest.approx(0.101 * 1.02)
    controller.update(-3.0, 500)  # far too little as well
    assert controller.coefficient == pytest.approx(0.101 * 1.02 * 0.9)
    controller.update(-3.0, 9000)  # one step is one correction, however many episodes it has
    assert controller.coefficient == pytest.approx(0.101 * 1.02 * 0.9 * 0.8)


def test_the_fixed_coefficient_stays() -> None:
    controller = KLController(KL(coefficient=0.07))
    controller.update(100.0, 1000)
    assert controller.coefficient == 0.07


# -- optimisation ---------------------------------------------------------------------------------------------------


def test_schedules_by_hand() -> None:
    def rates(schedule: str, warmup: float = 0.25) -> list[float]:
        config = Optimizer(schedule=schedule, warmup=warmup, final_rate=0.1)  # pyright: ignore[reportArgumentType]
        return [learning_rate_at(step, 8, config) for step in range(9)]

    assert rates("constant") == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 1, 1])
    assert rates("linear") == pytest.approx([0.5, 1.0, 1.0, 0.85, 0.7, 0.55, 0.4, 0.25, 0.1])
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 6)) / 2 for k in range(7)]
    assert cosine[3] == pytest.approx(0.55)
    assert rates("cosine") == pytest.approx([0.5, 1.0, *cosine])
    assert rates("linear", warmup=0.0)[:2] == pytest.approx([1.0, 1 - 0.9 / 8])


def stepper(max_grad_norm: float, weight: nn.Parameter, **more: float) -> Stepper:
    config = Optimizer(max_grad_norm=max_grad_norm, schedule="constant", warmup=0.0, betas=(0.9, 0.999), **more)  # pyright: ignore
    return Stepper([([weight], 0.01)], config, 10)


@pytest.mark.parametrize(("limit", "used"), [(1.0, [0.6, -0.8]), (100.0, [3.0, -4.0])])
def test_the_gradient_clip_really_clips(limit: float, used: list[float]) -> None:
    """What reaches Adam is seen in its first moment, 0.1 of the gradient; it tells the norm before clipping."""
    weight = nn.Parameter(torch.zeros(2))
    taking = stepper(limit, weight)
    (weight * torch.tensor([3.0, -4.0])).sum().backward()
    assert taking.step("here") == pytest.approx(5.0)
    torch.testing.assert_close(taking.state()["0.exp_avg"], 0.1 * torch.tensor(used), atol=1e-5, rtol=1e-5)
    assert weight.grad is None


def test_weight_decay_is_decoupled_and_spares_vectors() -> None:
    for shape, expected in (((1, 1), 2.0 * (1 - 0.01 * 0.5)), ((1,), 2.0)):
        weight = nn.Parameter(torch.full(shape, 2.0))
        taking = stepper(1.0, weight, weight_decay=0.5)
        (weight * 0).sum().backward()
        taking.step("here")
        assert weight.item() == pytest.approx(expected)


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    weight = nn.Parameter(torch.ones(2))
    taking = stepper(1.0, weight)
    (weight * float("inf")).sum().backward()
    with pytest.raises(TrainingError, match="Act III, step 4"):
        taking.step("Act III, step 4")
    assert weight.tolist() == [1.0, 1.0]


def test_a_stepper_goes_on_from_its_state_to_the_bit() -> None:
    def walk(weight: nn.Parameter, taking: Stepper, steps: int) -> None:
        for _ in range(steps):
            (weight.square() * torch.tensor([1.0, 3.0])).sum().backward()
            taking.step("here")
            taking.advance()

    straight, broken = nn.Parameter(torch.tensor([1.0, -2.0])), nn.Parameter(torch.tensor([1.0, -2.0]))
    walk(straight, stepper(1.0, straight), 6)
    first = stepper(1.0, broken)
    walk(broken, first, 3)
    second = stepper(1.0, broken)
    second.load_state(first.state())
    assert second.place == 3
    walk(broken, second, 3)
    assert torch.equal(straight, broken)


def test_a_state_that_was_read_goes_where_its_parameters_are() -> None:
    """Files are read to the CPU; `meta` stands for any other device."""
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    taking = stepper(1.0, weight)
    weight.square().sum().backward()
    taking.step("here")
    elsewhere = nn.Parameter(torch.empty(2, device="meta"))
    again = stepper(1.0, elsewhere)
    again.load_state(taking.state())
    state = again.optimizer.state[elsewhere]
    assert {key: value.device.type for key, value in state.items()} == {
        "step": "cpu", "exp_avg": "meta", "exp_avg_sq": "meta",
    }  # fmt: skip
