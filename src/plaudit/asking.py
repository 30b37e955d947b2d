"""What a run's judge, as it is by now, would learn most from."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from plaudit.data.formats import content_hash
from plaudit.data.split import split_by_prompt
from plaudit.feedback.collect import by_chance
from plaudit.judges import PART, taught
from plaudit.progress import Journal
from plaudit.reward.asking import ask_next
from plaudit.reward.model import RewardModel
from plaudit.run_folder import write_json
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
        kept = self.folder / f"questions_{self._key(tasks, judgements, shown)}.json"
        if kept.is_file():
            rows = json.loads(kept.read_text(encoding="utf-8"))
            return [Question(place=place, shown=tuple(shown), gain=gain) for place, shown, gain in rows]
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
        write_json(kept, [[one.place, list(one.shown), one.gain] for one in questions])
        return questions

    def _key(
        self,
        tasks: Sequence[tuple[Prompt, Sequence[Response]]],
        judgements: Sequence[Judgement],
        shown: int | None,
    ) -> str:
        """Of all that the questions follow from: a run that goes on asks the same ones without a new training."""
        recipe = self.workshop.recipe
        texts = [[prompt.id, [response.text for response in responses]] for prompt, responses in tasks]
        of_others = {"learning_curve", "second_judge", "centring_samples"}
        settings = [recipe.seed, recipe.reward.model_dump(mode="json", exclude=of_others), shown]
        return content_hash([settings, texts, [one.id for one in judgements]])[:16]


def states_of(judge: RewardModel, tasks: Sequence[tuple[Prompt, Sequence[Response]]]) -> list[Tensor]:
    """What the judge's heads read of the responses of each task [K, D]."""
    texts = [(prompt, response.text) for prompt, responses in tasks for response in responses]
    states_BD = judge.states([prompt for prompt, _ in texts], [text for _, text in texts])
    return list(states_BD.split([len(responses) for _, responses in tasks]))
