"""The door of every reward: a finite number for each response and objective, or an error that says which is not."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.types import Ensemble, InputError, Prompt, RewardFunction

SHOWN = 120
"""Characters of a response that an error shows."""


def checked_scores(
    reward: RewardFunction, prompts: Sequence[Prompt], responses: Sequence[str], *, name: str = "the reward function"
) -> Tensor:
    """What the reward says, float32 on the CPU, [B, E, O]: E is 1 where it has no members.

    Raises InputError where it gives another shape than one number for each response and objective, or a number that
    is not finite.
    """
    ensemble = isinstance(reward, Ensemble)
    given = reward.by_member(prompts, responses) if ensemble else reward(prompts, responses)
    expected = (len(responses), len(reward.objectives))
    try:
        scores = torch.as_tensor(given, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} returned {type(given).__name__}, which is no table of numbers ({error})") from error
    found = tuple(scores.shape)
    fits = len(found) == 3 and (found[0], found[2]) == expected if ensemble else found == expected
    if not fits:
        raise InputError(f"{name} returned shape {found}, expected {expected} (responses, objectives)")
    scores_BEO = scores if ensemble else scores.unsqueeze(1)
    bad = (~scores_BEO.isfinite()).nonzero()
    if len(bad):
        row, _, column = bad[0].tolist()
        raise InputError(
            f"{name} returned {scores_BEO[row, :, column].tolist()} as {reward.objectives[column]!r} for the response "
            f"{responses[row][:SHOWN]!r}: scores must be finite"
        )
    return scores_BEO
