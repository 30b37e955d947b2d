"""What a run's judge, as it is by now, would learn most from."""

from __future__ import annotations

import math
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
    ) -> list[Question]:
        """One question for each task, those that teach most first, after a judge was trained on these judgements."""
        recipe, trunk = self.workshop.recipe, self.workshop.trunk
        queue = recipe.feedback.queue
        training, held_out = split_by_prompt(judgements, recipe.reward.held_out, recipe.seed, lambda j: j.prompt)
        if not training:  # there is no judge to ask
            return by_chance(tasks, shown, recipe.seed)
        objectives = sorted({j.objective for j in judgements})
        with trunk.memory.kept(), Journal(self.folder / "judge", quiet=True) as journal:
            journal.rewind(-1)
            judge, figures = taught(self.workshop, objectives, training, held_out, journal, seed=recipe.seed)
            asked = [(j.prompt, j.responses) for j in training]
            questions = ask_next(
                states_of(judge, tasks),
                states_of(judge, asked),
                shown=shown,
                # More than will be asked before the judge is asked again; the order of the rest does not matter.
                count=queue.first + math.ceil(len(judgements) * queue.again_after),
            )
        trunk.remove_part(PART)
        with Journal(self.folder, quiet=True) as journal:
            journal.rewind(len(judgements) - 1)
            journal.log(len(judgements), {key: figures[key] for key in figures if key.startswith("held_out_")})
        return questions


def states_of(judge: RewardModel, tasks: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[Tensor]:
    """What the judge's heads read of the responses of each task [K, D]."""
    texts = [(prompt, response.text) for prompt, responses in tasks for response in responses]
    states_BD = judge.states([prompt for prompt, _ in texts], [text for _, text in texts])
    return list(states_BD.split([len(responses) for _, responses in tasks]))
