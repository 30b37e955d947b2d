"""What a run's judge, as it is by now, would learn most from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from plaudit.data.split import split_by_prompt
from plaudit.feedback.collect import by_chance
from plaudit.judges import PART, taught
from plaudit.progress import Journal
from plaudit.reward.asking import ask_next
from plaudit.reward.model import RewardModel
from plaudit.types import Judgement, Prompt, Question, Response
from plaudit.workshop import Workshop

MEMBERS = 4
"""Of the judge that is asked, where the recipe has fewer: what a judge of one does not know, nobody can tell."""
SAME = 1e-9
"""Nats up to which members are one and the same."""


class Asker:
    """`plaudit.labels.Asks`. Writes down how good the judge was each time, on the rankings that nobody chose."""

    def __init__(self, workshop: Workshop, folder: Path) -> None:
        self.workshop, self.folder = workshop, folder

    def __call__(
        self,
        tasks: Sequence[tuple[Prompt, Sequence[Response]]],
        judgements: Sequence[Judgement],
        *,
        shown: int | None,
        count: int,
    ) -> list[Question]:
        """Of each of the first `count` tasks what to show, after a judge was trained on these judgements."""
        recipe, trunk = self.workshop.recipe, self.workshop.trunk
        training, held_out = split_by_prompt(judgements, recipe.reward.held_out, recipe.seed, lambda j: j.prompt)
        if not training:  # there is no judge to ask
            return by_chance(tasks[:count], shown, recipe.seed)
        objectives = sorted({j.objective for j in judgements})
        members = max(recipe.reward.members, MEMBERS)
        with trunk.memory.kept(), Journal(self.folder / "judge", quiet=True) as journal:
            journal.rewind(-1)
            judge, figures = taught(
                self.workshop, objectives, training, held_out, journal, seed=recipe.seed, members=members
            )
            found = ask_next(scores_of(judge, tasks[:count]), shown=shown)
        trunk.remove_part(PART)
        with Journal(self.folder, quiet=True) as journal:
            journal.rewind(len(judgements) - 1)
            journal.log(len(judgements), {key: figures[key] for key in figures if key.startswith("held_out_")})
        if not any(one.gain > SAME for one in found):  # its members are one and the same
            return by_chance(tasks[:count], shown, recipe.seed)
        return found


def scores_of(judge: RewardModel, tasks: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[Tensor]:
    """Of the responses of each task by every member, [K, E, O]."""
    texts = [(prompt, response.text) for prompt, responses in tasks for response in responses]
    scores_BEO = judge.by_member([prompt for prompt, _ in texts], [text for _, text in texts])
    return list(scores_BEO.split([len(responses) for _, responses in tasks]))
