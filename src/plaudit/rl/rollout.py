"""What the policy does and how it is judged: responses, scores, log-probs, values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

import torch
from torch import Tensor

from plaudit.answers import ask
from plaudit.data.batching import token_budget_batches
from plaudit.data.chat import Chat
from plaudit.models.decoding import Decoder
from plaudit.models.fitting import AtATime, micro_batches, sampled_rows
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.models.heads import ValueHead
from plaudit.models.memory import keys_of
from plaudit.models.sequences import bundle, predicting_states, run_lower, shared_prompts
from plaudit.models.trunk import Trunk
from plaudit.progress import Phases
from plaudit.recipe import PPO, Sample
from plaudit.rl.shaping import cautious, is_unfamiliar
from plaudit.tensors import token_logprobs
from plaudit.types import Bundle, Prompt, RewardFunction, Rollout, Sampling

POLICY, VALUE = "policy", "value"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What fits into memory, as far as is known."""

    rows: AtATime
    tokens: AtATime
    """In a micro-batch."""

    @classmethod
    def of(cls, config: PPO, say: Callable[[str], None]) -> Limits:
        rows = config.prompts_per_step * config.responses_per_prompt
        return cls(rows=sampled_rows(rows, say), tokens=micro_batches(config.tokens_per_microbatch, say))


def collect(
    trunk: Trunk,
    value_head: ValueHead,
    decoder: Decoder,
    chat: Chat,
    reward: RewardFunction,
    prompts: Sequence[Prompt],
    config: PPO,
    *,
    seed: int,
    step: int,
    phases: Phases,
    limits: Limits,
) -> Rollout:
    """Sample K responses to each prompt with `decoder` (the policy, merged), score them, and read log-probs and
    values off the trunk, as much at a time as fits. Nothing here has a gradient. `phases` takes the seconds of
    generate, reward and score."""
    repeated = numbered(prompts, config.responses_per_prompt)
    prompt_tokens = [torch.tensor(chat.prompt_ids(prompt)) for prompt, _ in repeated]
    sampling = sampling_of(config, seed)
    keys = [sample_key(seed, step, prompt.id, k) for prompt, k in repeated]
    longest = max(map(len, prompt_tokens)) + config.max_new_tokens + 1
    with phases("generate"):
        sampled = limits.rows.run(
            lambda rows: generate(
                decoder,
                [p.tolist() for p in prompt_tokens],
                keys,
                sampling,
                eos_ids=chat.eos_ids,
                stopped=chat.stopper(config.stop),
                batch_size=rows,
                closing=chat.eos_ids[0] if trunk.remembers(len(repeated) * longest) else None,
            ),
            where=f"Act III, step {step}, sampling",
        )
    remember(trunk, prompt_tokens, sampled, closing=chat.eos_ids[0])
    texts = [chat.text_of(s.tokens, config.stop) for s in sampled]
    with phases("reward"):
        said = ask(reward, [prompt for prompt, _ in repeated], texts)
    tokens_BT, mask_BT, sampler_logprobs_BT = response_grid(sampled, trunk.device)
    recompute = recomputes(trunk, config)
    with phases("score"):
        take_over(trunk, prompt_tokens, sampled, closing=chat.eos_ids[0])
        bundles = bundles_of(trunk, prompt_tokens, sampled)
        if all(one.inputs.dim() > 1 for one in bundles):
            trunk.memory.forget()  # the bundles have a copy of what is read from here on
        logprobs_BT, ref_logprobs_BT, values_BT = limits.tokens.run(
            partial(read_off, trunk, value_head, bundles, tokens_BT, mask_BT, config, policy=recompute),
            where=f"Act III, step {step}, scoring",
        )
    return Rollout(
        prompts=tuple(prompt for prompt, _ in repeated),
        texts=tuple(texts),
        finished_B=torch.tensor([s.finished for s in sampled]),
        response_tokens_BT=tokens_BT,
        response_mask_BT=mask_BT,
        logprobs_BT=logprobs_BT if recompute else sampler_logprobs_BT,
        sampler_logprobs_BT=sampler_logprobs_BT,
        ref_logprobs_BT=ref_logprobs_BT,
        values_BT=values_BT,
        scores_BO=cautious(said.scores_BEO, config.take, deviations=config.take_deviations),
        spread_BO=said.scores_BEO.std(dim=1, unbiased=False),
        unfamiliar_B=is_unfamiliar(said),
        bundles=tuple(bundles),
    )


def numbered(prompts: Sequence[Prompt], each: int) -> list[tuple[Prompt, int]]:
    """Each prompt so many times, with the number of the sample: a prompt that is drawn twice gets other answers."""
    seen: Counter[str] = Counter()
    rows: list[tuple[Prompt, int]] = []
    for prompt in prompts:
        rows += [(prompt, seen[prompt.id] + k) for k in range(each)]
        seen[prompt.id] += each
    return rows


def sampling_of(config: PPO | Sample, seed: int) -> Sampling:
    """How an act samples."""
    return Sampling(
        temperature=config.temperature,
        top_p=config.top_p,
        max_new_tokens=config.max_new_tokens,
        stop=config.stop,
        seed=seed,
    )


def remember(trunk: Trunk, prompt_tokens: Sequence[Tensor], sampled: Sequence[Generated], *, closing: int) -> None:
    """Boundary states of the sequences as a judge on this trunk reads them. It finds them where the text of a response
    gives the very ids that were drawn."""
    for prompt, one in zip(prompt_tokens, sampled, strict=True):
        if one.prompt_states is not None and one.states is not None:
            keys = keys_of(bundle(prompt, [closed(one, closing)]))
            for key, states in zip(keys, (one.prompt_states, one.states), strict=True):
                trunk.memory.put(key, states)


def closed(one: Generated, closing: int) -> Tensor:
    """A response's tokens as a judge reads them: closed by `closing`."""
    return torch.tensor([*(one.tokens[:-1] if one.finished else one.tokens), closing])


def take_over(trunk: Trunk, prompt_tokens: Sequence[Tensor], sampled: Sequence[Generated], *, closing: int) -> None:
    """Where generation has left no boundary states, those that a judge on this trunk has computed: its sequences begin
    as those that policy, reference and value read."""
    for prompt, one in zip(prompt_tokens, sampled, strict=True):
        if one.states is None:
            _, key = keys_of(bundle(prompt, [closed(one, closing)]))
            _, to = keys_of(bundle(prompt, [torch.tensor(one.tokens[:-1], dtype=torch.long)]))
            trunk.memory.shorten(key, to)


def recomputes(trunk: Trunk, config: PPO) -> bool:
    """Whether the old log-probs are the trunk's own, and not the sampler's."""
    return config.old_logprobs == "recomputed" or (config.old_logprobs == "auto" and not trunk.is_exact)


def bundles_of(trunk: Trunk, prompt_tokens: Sequence[Tensor], sampled: Sequence[Generated]) -> list[Bundle]:
    """What the top takes, with the states that generation has left, or computed now. Where memory has no room for
    them the bundles hold token ids, and the states are computed whenever they are needed."""
    said = [torch.tensor(s.tokens[:-1], dtype=torch.long) for s in sampled]
    groups = shared_prompts(trunk, prompt_tokens, [len(s) for s in said])
    states = [(s.prompt_states, s.states) for s in sampled if s.prompt_states is not None and s.states is not None]
    if len(states) == len(sampled):
        return [bundle(states[rows[0]][0], [states[r][1][: len(said[r])] for r in rows]) for rows in groups]
    bundles = [bundle(prompt_tokens[rows[0]], [said[r] for r in rows]) for rows in groups]
    return run_lower(trunk, bundles) if trunk.remembers(sum(map(len, bundles))) else bundles


def response_grid(sampled: Sequence[Generated], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Ragged responses on one grid: tokens, mask (True: a real token, its last among them), the sampler's log-probs."""
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
    bundles: Sequence[Bundle],
    tokens_BT: Tensor,
    mask_BT: Tensor,
    config: PPO,
    tokens_per_batch: int,
    *,
    policy: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probs of the policy (where `policy`) and of the reference (the frozen trunk), and values, each [B, T].

    The value reads the states of its own part, or of the policy's where it has none.
    """
    grids = tuple(torch.zeros_like(mask_BT, dtype=torch.float32) for _ in range(3))
    places = rows_of(bundles)
    for chosen in token_budget_batches([len(b) for b in bundles], tokens_per_batch):
        some, rows = [bundles[c] for c in chosen], [r for c in chosen for r in places[c]]
        tokens_N = tokens_BT[rows][mask_BT[rows]]
        for part in (POLICY, None, VALUE):
            values = part == (POLICY if config.value_adapter is None else VALUE)
            logprobs = part is None or (part == POLICY and policy)
            if not (values or logprobs):
                continue
            states_ND = predicting_states(trunk, some, part=part)
            if logprobs:
                found_N, _ = token_logprobs(
                    states_ND, tokens_N, trunk.head(part), temperature=config.temperature, top_p=config.top_p
                )
                grid = grids[part is None]
                grid[rows] = grid[rows].masked_scatter(mask_BT[rows], found_N)
            if values:
                grids[2][rows] = grids[2][rows].masked_scatter(mask_BT[rows], value_head(states_ND))
    return grids[0], grids[1], grids[2]


def rows_of(bundles: Sequence[Bundle]) -> list[range]:
    """The rows of the response grid that each bundle holds."""
    ends = list(accumulate(len(b.lengths) for b in bundles))
    return [range(end - len(b.lengths), end) for end, b in zip(ends, bundles, strict=True)]
