"""What the policy does and how it is judged: responses, scores, log-probs, values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.models.heads import ValueHead
from plaudit.models.sequences import predicting_states
from plaudit.models.trunk import Trunk
from plaudit.recipe import PPO
from plaudit.tensors import token_logprobs
from plaudit.types import InputError, Prompt, RewardFunction, Rollout, Sampling

POLICY, VALUE = "policy", "value"


def collect(
    trunk: Trunk,
    value_head: ValueHead,
    decoder: PreTrainedModel,
    chat: Chat,
    reward: RewardFunction,
    prompts: Sequence[Prompt],
    config: PPO,
    *,
    seed: int,
    step: int,
) -> Rollout:
    """Sample K responses to each prompt with `decoder` (the policy, merged), score them, and read log-probs and
    values off the trunk. Nothing here has a gradient."""
    repeated = [(prompt, k) for prompt in prompts for k in range(config.responses_per_prompt)]
    prompt_tokens = [torch.tensor(chat.prompt_ids(prompt)) for prompt, _ in repeated]
    sampling = Sampling(
        temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens, seed=seed
    )
    keys = [sample_key(seed, step, prompt.id, k) for prompt, k in repeated]
    sampled = generate(
        decoder, [p.tolist() for p in prompt_tokens], keys, sampling, eos_ids=chat.eos_ids, batch_size=len(repeated)
    )
    texts = [chat.decode(s.tokens) for s in sampled]
    scores_BO = checked_scores(reward, [prompt for prompt, _ in repeated], texts)
    tokens_BT, mask_BT, sampler_logprobs_BT = response_grid(sampled, trunk.device)
    inputs = trunk.lower([torch.cat([p, torch.tensor(s.tokens)]) for p, s in zip(prompt_tokens, sampled, strict=True)])
    logprobs_BT, ref_logprobs_BT, values_BT = read_off(
        trunk, value_head, inputs, prompt_tokens, tokens_BT, mask_BT, config
    )
    return Rollout(
        prompts=tuple(prompt for prompt, _ in repeated),
        texts=tuple(texts),
        finished_B=torch.tensor([s.finished for s in sampled]),
        prompt_tokens=tuple(prompt_tokens),
        response_tokens_BT=tokens_BT,
        response_mask_BT=mask_BT,
        logprobs_BT=sampler_logprobs_BT if config.old_logprobs == "sampler" else logprobs_BT,
        ref_logprobs_BT=ref_logprobs_BT,
        values_BT=values_BT,
        scores_BO=scores_BO,
        inputs=tuple(inputs),
    )


def checked_scores(reward: RewardFunction, prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
    """The reward's scores [B, O]; anything else than one finite number per response and objective is an error."""
    scores_BO = torch.as_tensor(reward(prompts, texts), dtype=torch.float32).cpu()
    expected = (len(texts), len(reward.objectives))
    if tuple(scores_BO.shape) != expected:
        raise InputError(
            f"the reward function returned shape {tuple(scores_BO.shape)}, expected {expected} (responses, objectives)"
        )
    if not bool(scores_BO.isfinite().all()):
        row = int((~scores_BO.isfinite()).any(dim=1).nonzero()[0])
        raise InputError(
            f"the reward function returned {scores_BO[row].tolist()} for the response {texts[row][:80]!r}: "
            "scores must be finite"
        )
    return scores_BO


def response_grid(sampled: Sequence[Generated], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged responses on one grid: tokens, mask (True: a real token, its EOS among them), the sampler's log-probs."""
    shape = (len(sampled), max(len(s.tokens) for s in sampled))
    tokens_BT = torch.zeros(shape, dtype=torch.long)
    mask_BT = torch.zeros(shape, dtype=torch.bool)
    logprobs_BT = torch.zeros(shape)
    for b, one in enumerate(sampled):
        tokens_BT[b, : len(one.tokens)] = torch.tensor(one.tokens)
        mask_BT[b, : len(one.tokens)] = True
        logprobs_BT[b, : len(one.tokens)] = torch.tensor(one.logprobs)
    return tokens_BT.to(device), mask_BT.to(device), logprobs_BT.to(device)


@torch.no_grad()
def read_off(
    trunk: Trunk,
    value_head: ValueHead,
    inputs: Sequence[Tensor],
    prompt_tokens: Sequence[Tensor],
    tokens_BT: Tensor,
    mask_BT: Tensor,
    config: PPO,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of the policy and of the reference (the frozen trunk), and values, each [B, T]."""
    grids = tuple(torch.zeros_like(mask_BT, dtype=torch.float32) for _ in range(3))
    for rows in token_budget_batches([len(i) for i in inputs], config.tokens_per_microbatch):
        chosen, lengths = [inputs[r] for r in rows], [len(prompt_tokens[r]) for r in rows]
        tokens_N = tokens_BT[rows][mask_BT[rows]]
        for grid, part in zip(grids, (POLICY, None), strict=False):
            states_ND = predicting_states(trunk, chosen, lengths, part=part)
            found_N, _ = token_logprobs(
                states_ND, tokens_N, trunk.unembed(part), temperature=config.temperature, top_p=config.top_p
            )
            grid[rows] = grid[rows].masked_scatter(mask_BT[rows], found_N)
        values_N = value_head(predicting_states(trunk, chosen, lengths, part=VALUE))
        grids[2][rows] = grids[2][rows].masked_scatter(mask_BT[rows], values_N)
    return grids[0], grids[1], grids[2]
