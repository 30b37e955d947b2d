"""What an act depends on, as hashes: it is done again where one of them has changed, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from plaudit.data.formats import content_hash
from plaudit.material import source_of
from plaudit.rl.records import STATE
from plaudit.types import Judgement
from plaudit.workshop import Workshop

ONLY_MEMORY = ("boundary_gigabytes", "boundary_disk_gigabytes", "activation_checkpointing")
"""Of the recipe's model: what the memory is used for changes nothing that is computed."""


class Sources:
    """Of one run. What earlier acts have made counts by what is in it, and so does a file, wherever it lies."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop, self.recipe = workshop, workshop.recipe

    def inputs(self, *sections: str, **sources: object) -> dict[str, object]:
        """Of an act: sections of the recipe, the seed, and hashes of what it reads."""
        dumped = self.recipe.model_dump(mode="json")
        dumped["model"]["chat_template"] = source_of(self.recipe.model.chat_template)
        for name in ONLY_MEMORY:
            del dumped["model"][name]
        chosen = {name: dumped[name] for name in sections}
        return {"base": self._base, "seed": self.recipe.seed, "recipe": chosen, "sources": sources}

    @cached_property
    def _base(self) -> str | None:
        return source_of(self.workshop.material.base_model)

    @property
    def sft(self) -> str | None:
        return source_of(self.workshop.sft_model)

    def policy(self, index: int, name: str = "ppo") -> str | None:
        """The policy that a round begins with."""
        return self.sft if index == 0 else source_of(self._path(index - 1, name, STATE))

    def judge(self, index: int, *names: str) -> dict[str, str | None]:
        """A round's judge. The second file names the objectives."""
        files = ("judge.safetensors", "judge.json")
        return {file: source_of(self._path(index, "reward", *names, file)) for file in files}

    def _path(self, index: int, *names: str) -> Path:
        return self.workshop.folder.path.joinpath(f"round_{index}", *names)


def of_rankings(judgements: Sequence[Judgement]) -> str:
    """The hash of all that is learned from rankings: their ids may stay as they are where a file is edited."""
    said = (
        [
            j.id, j.prompt.id, [[m.role, m.content] for m in j.prompt.messages],
            [[r.text, r.checkpoint] for r in j.responses], j.ranking, j.objective, j.strength, j.annotator,
            j.display_order, j.seconds, *([j.unordered] if j.unordered else []),
        ]
        for j in judgements
    )  # fmt: skip
    return content_hash(sorted(map(content_hash, said)))
