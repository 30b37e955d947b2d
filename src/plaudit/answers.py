"""The door of every reward: a finite number for each response and objective, or an error that says which is not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from plaudit.types import InputError, Judge, Judged, Prompt, RewardFunction

SHOWN = 120
"""Characters of a response that an error shows."""


def ask(
    reward: RewardFunction, prompts: Sequence[Prompt], responses: Sequence[str], *, name: str = "the reward function"
) -> Judged:
    """What the reward says; a plain one has one member and no doubts.

    Raises InputError where it gives another shape than one number for each response and objective, or a number that
    is not finite.
    """
    doubts = reward.judged(prompts, responses) if isinstance(reward, Judge) else None
    given = reward(prompts, responses) if doubts is None else doubts.scores_BEO
    expected = (len(responses), len(reward.objectives))
    try:
        scores = torch.as_tensor(given, dtype=torch.float32).cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} returned {type(given).__name__}, which is no table of numbers ({error})") from error
    found = tuple(scores.shape)
    fits = found == expected if doubts is None else len(found) == 3 and (found[0], found[2]) == expected
    if not fits:
        raise InputError(f"{name} returned shape {found}, expected {expected} (responses, objectives)")
    scores_BEO = scores.unsqueeze(1) if doubts is None else scores
    bad = (~scores_BEO.isfinite()).nonzero()
    if len(bad):
        row, _, column = bad[0].tolist()
        raise InputError(
            f"{name} returned {scores_BEO[row, :, column].tolist()} as {reward.objectives[column]!r} for the response "
            f"{responses[row][:SHOWN]!r}: scores must be finite"
        )
    return Judged(scores_BEO=scores_BEO, strange_B=None if doubts is None else doubts.strange_B)
