"""Running ragged prompts and responses through the trunk, and picking the states that something is read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from plaudit.data.batching import pad_right, token_budget_batches
from plaudit.models.memory import Key, keys_of, parts_of
from plaudit.models.trunk import Trunk
from plaudit.types import Bundle

SHARED_TOKENS = 512
"""Responses stand behind one copy of their prompt up to so many tokens, or the prompt's own number where that is more:
beyond it attention, which is computed between responses too and masked, would cost more than the prompt."""


def bundle(prompt: Tensor, responses: Sequence[Tensor]) -> Bundle:
    """One prompt with its responses, as ids or as states alike."""
    return Bundle(
        inputs=torch.cat([prompt, *responses]), num_prompt=len(prompt), lengths=tuple(len(r) for r in responses)
    )


def shared_prompts(trunk: Trunk, prompts: Sequence[Tensor], lengths: Sequence[int]) -> list[list[int]]:
    """Rows (a prompt and a response of so many tokens each) in groups that one bundle should hold: neighbours with the
    same prompt, as long as that pays."""
    groups: list[list[int]] = []
    room = 0
    for row, (prompt, length) in enumerate(zip(prompts, lengths, strict=True)):
        if groups and length <= room and torch.equal(prompts[groups[-1][0]], prompt):
            groups[-1].append(row)
        else:
            groups.append([row])
            room = min(max(SHARED_TOKENS, len(prompt)), trunk.window - len(prompt)) if trunk.shares_prompts else 0
        room -= length
    return groups


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How a padded micro-batch of bundles is read."""

    mask_BS: Tensor
    """True: a real token."""
    positions_BS: Tensor
    allowed_BSS: Tensor | None
    """True where a token (second axis) may look (third). None: at all before it, each row being one sequence."""


def lay_out(bundles: Sequence[Bundle], device: torch.device) -> Layout:
    """Positions and masks of bundles that are padded on the right. Put together on the CPU and sent as a whole: a GPU
    would be asked for many small things."""
    if all(len(b.lengths) == 1 for b in bundles):
        lengths_B = torch.tensor([len(b) for b in bundles])
        places_S = torch.arange(int(lengths_B.max()))
        mask_BS = places_S < lengths_B.unsqueeze(1)
        positions_BS = torch.where(mask_BS, places_S, 0)
        return Layout(mask_BS=mask_BS.to(device), positions_BS=positions_BS.to(device), allowed_BSS=None)
    positions, owners = zip(*(positions_and_owners(b) for b in bundles), strict=True)
    positions_BS, mask_BS = (part.to(device) for part in pad_right(positions, 0))
    owners_BS = pad_right(owners, 0)[0].to(device)
    length = mask_BS.shape[1]
    # Nothing real stands behind padding, so that looking back alone keeps it out of sight.
    back_SS = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    same_BSS = (owners_BS[:, None, :] == 0) | (owners_BS[:, None, :] == owners_BS[:, :, None])
    return Layout(mask_BS=mask_BS, positions_BS=positions_BS, allowed_BSS=same_BSS & back_SS)


def positions_and_owners(one: Bundle) -> tuple[Tensor, Tensor]:
    """Of each input [S]: its position in its own sequence, whose it is (0: the prompt's, k: the k-th response's)."""
    begin = torch.arange(one.num_prompt)
    places = [begin, *(torch.arange(one.num_prompt, one.num_prompt + n) for n in one.lengths)]
    return torch.cat(places), torch.cat([torch.full_like(p, k) for k, p in enumerate(places)])


def run(
    trunk: Trunk,
    bundles: Sequence[Bundle],
    *,
    part: str | None,
    mode: Literal["top", "lower"],
    read: Sequence[Sequence[int]] | None = None,
) -> Tensor:
    """Pad a micro-batch and run one half of the trunk: states [B, S, D], or those [n, D] that are read. `read` names
    some tokens of each bundle; one may come more than once."""
    layout = lay_out(bundles, trunk.device)
    padded, _ = pad_right([b.inputs.to(trunk.device) for b in bundles], 0)
    given = {"positions_BS": layout.positions_BS, "allowed_BSS": layout.allowed_BSS}
    if read is None:
        return trunk(padded, layout.mask_BS, part=part, mode=mode, **given)
    length = padded.shape[1]
    places = torch.tensor([row * length + place for row, own in enumerate(read) for place in own])
    if bool((places.diff() > 0).all()):  # each once, and in order
        return trunk(padded, layout.mask_BS, part=part, mode=mode, read=places.to(trunk.device), **given)
    distinct, inverse = (x.to(trunk.device) for x in places.unique(return_inverse=True))
    states_nD = trunk(padded, layout.mask_BS, part=part, mode=mode, read=distinct, **given)
    return states_nD.index_select(0, inverse)


def run_top(trunk: Trunk, bundles: Sequence[Bundle], *, part: str | None, read: Sequence[Sequence[int]]) -> Tensor:
    """The states [n, D] that are read of a micro-batch of bundles, be they of token ids or of boundary states."""
    given = run_lower(trunk, bundles)
    passes = passes_of(trunk, bundles)
    if len(passes) == 1:
        return run(trunk, given, part=part, mode="top", read=read)
    found: dict[int, Tensor] = {}
    for rows in passes:
        states_nD = run(trunk, [given[r] for r in rows], part=part, mode="top", read=[read[r] for r in rows])
        found |= zip(rows, states_nD.split([len(read[r]) for r in rows]), strict=True)
    return torch.cat([found[row] for row in range(len(bundles))])


def passes_of(trunk: Trunk, bundles: Sequence[Bundle]) -> list[list[int]]:
    """Which bundles may be padded together. What several responses to a prompt may see is said token by token, and
    layers that look through a window forget it then: lines longer than the window go by themselves."""
    several = [row for row, one in enumerate(bundles) if len(one.lengths) > 1]
    if not several or max(map(len, bundles)) <= trunk.window:
        return [list(range(len(bundles)))]
    alone = [row for row, one in enumerate(bundles) if len(one.lengths) == 1]
    return [rows for rows in (several, alone) if rows]


@torch.no_grad()
def run_lower(trunk: Trunk, bundles: Sequence[Bundle]) -> list[Bundle]:
    """What the top takes: bundles of token ids get their boundary states, remembered ones where the trunk has them."""
    if trunk.split_depth == 0:
        return list(bundles)
    given = [one for one in bundles if one.inputs.dim() == 1]
    known = {key: states for one in given for key in keys_of(one) if (states := trunk.memory.get(key)) is not None}
    unknown = [rest for one in given if (rest := without(known, one)) is not None]
    read = trunk.reading.run(partial(read_lower, trunk, unknown), where="reading below the split")
    for rest, found in zip(unknown, read, strict=True):
        for key, states in zip(keys_of(rest), parts_of(found), strict=True):
            known[key] = states
            trunk.memory.put(key, states)
    return [
        replace(one, inputs=torch.cat([known[key] for key in keys_of(one)])) if one.inputs.dim() == 1 else one
        for one in bundles
    ]


def read_lower(trunk: Trunk, bundles: Sequence[Bundle], tokens_per_batch: int) -> list[Bundle]:
    """Bundles of token ids with the states that leave the layers below the split, computed now."""
    found: dict[int, Bundle] = {}
    for rows in token_budget_batches([len(one) for one in bundles], tokens_per_batch):
        batch = [bundles[r] for r in rows]
        for places in passes_of(trunk, batch):
            states_BSD = run(trunk, [batch[i] for i in places], part=None, mode="lower")
            for i, states_SD in zip(places, states_BSD, strict=True):
                # A copy, so that no padding is kept with it.
                found[rows[i]] = replace(batch[i], inputs=states_SD[: len(batch[i])].clone())
    return [found[row] for row in range(len(bundles))]


def without(known: Mapping[Key, Tensor], one: Bundle) -> Bundle | None:
    """What of a bundle of token ids is not known: its prompt, with the responses that are not."""
    prompt, *responses = parts_of(one)
    start, *keys = keys_of(one)
    missing = [response for key, response in zip(keys, responses, strict=True) if key not in known]
    return bundle(prompt, missing) if missing or start not in known else None


def predicting_states(trunk: Trunk, bundles: Sequence[Bundle], *, part: str | None) -> Tensor:
    """The states [N, D] from which response tokens are predicted, response after response.

    The token at position s is predicted at s - 1: the first at the prompt's last token, and n inputs of a response
    predict n + 1 tokens. The value of a token stands at the same place.
    """
    return run_top(trunk, bundles, part=part, read=[predicting_places(b) for b in bundles])


def predicting_places(one: Bundle) -> list[int]:
    places: list[int] = []
    start = one.num_prompt
    for length in one.lengths:
        places += [one.num_prompt - 1, *range(start, start + length)]
        start += length
    return places


def last_states(trunk: Trunk, bundles: Sequence[Bundle], *, part: str | None) -> Tensor:
    """The states [B, D] at each response's last input, its EOS."""
    ends = [[one.num_prompt - 1 + end for end in accumulate(one.lengths)] for one in bundles]
    return run_top(trunk, bundles, part=part, read=ends)
