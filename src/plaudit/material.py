"""What a recipe works on: demonstrations, prompts, rankings, people; from a world, or from files.

Everything is checked here before an act begins. What is left out is counted by reason, and too much is an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

import numpy as np

from plaudit.data.chat import Chat, Encoded, fit_tokens
from plaudit.data.formats import Loaded, content_hash, read_demonstrations, read_judgements, read_prompts
from plaudit.data.split import split_by_prompt
from plaudit.feedback.annotators.stand_in import stand_ins
from plaudit.models.loading import context_of
from plaudit.plugins import resolve_plugin
from plaudit.recipe import Recipe
from plaudit.types import Annotator, Demonstration, InputError, Judgement, Prompt, RewardFunction, Split, World

Item = TypeVar("Item")
EVALUATION_SHARE = 0.2
"""Of the prompts of a file, set aside for evaluation where it has no file of its own."""
SET_ASIDE = "evaluation"
"""The occasion of that draw, so that the judge's held-out share is drawn from all that is left."""
MOST_PPO_PROMPTS = 4096
"""Distinct prompts that a world is asked for; more steps pass over them again."""


class Material:
    """The recipe's inputs. `noted` fills as they are read: left out or repaired -> what -> reason -> count."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.noted: dict[str, dict[str, dict[str, int]]] = {"left_out": {}, "repaired": {}}
        self._judgements: list[Judgement] | None = None

    @cached_property
    def world(self) -> World | None:
        return None if self.recipe.world is None else cast(World, resolve_plugin(self.recipe.world)())

    @property
    def base_model(self) -> str:
        if self.recipe.model.path is not None:
            return self.recipe.model.path
        assert self.world is not None  # the recipe's validator asks for one of the two
        return str(self.world.base_model)

    # -- Act I --------------------------------------------------------------------------------------------------

    def demonstrations(self, chat: Chat, written: Sequence[Demonstration] = ()) -> list[Demonstration]:
        """Those of a file or the world, and behind them what people wrote at the desk."""
        config = self.recipe.sft
        if self.recipe.data.demonstrations is not None:
            loaded = read_demonstrations(self.recipe.data.demonstrations)
            items, left_out = self._taken("demonstrations", loaded), dict(loaded.left_out)
        elif self.world is not None and config is not None:
            items, left_out = self.world.demonstrations(config.examples, seed=self.recipe.seed), {}
        elif written:
            items, left_out = [], {}
        else:
            raise InputError(
                "Act I needs demonstrations: name a file in data.demonstrations, or set sft: null to leave it out"
            )
        items = [*items, *written]
        return self._fitting("demonstrations", items, left_out, lambda d: [chat.encode(d.prompt, d.response)])

    # -- Act II -------------------------------------------------------------------------------------------------

    def judgements(self, chat: Chat) -> list[Judgement]:
        """The rankings of files (data.preferences), read once."""
        if self._judgements is not None:
            return self._judgements
        judgements: list[Judgement] = []
        for file in self.recipe.data.preferences:
            loaded = read_judgements(file.path, format=file.format, objective=file.objective)
            items = self._taken(file.path, loaded)
            fitting = self._fitting(
                file.path, items, dict(loaded.left_out), lambda j: [chat.encode(j.prompt, r.text) for r in j.responses]
            )
            order = np.random.default_rng(self.recipe.seed).permutation(len(fitting))[: file.limit]
            judgements += [fitting[i] for i in sorted(order)]
        self._judgements = judgements
        return judgements

    def annotators(self) -> list[Annotator]:
        feedback = self.recipe.feedback
        name = feedback.annotators
        if name == "endpoint":
            from plaudit.feedback.annotators.endpoint import Endpoint

            return [Endpoint(**feedback.endpoint.model_dump())]
        if name == "stand_in":
            reward = cast(RewardFunction, resolve_plugin(feedback.stand_in.reward or "")())
            return list(
                stand_ins(
                    reward, feedback.stand_in.reward or "", count=feedback.judgements_per_prompt,
                    temperature=feedback.stand_in.temperature, seed=self.recipe.seed,
                )
            )  # fmt: skip
        if name is not None:
            return cast("list[Annotator]", resolve_plugin(name)(seed=self.recipe.seed))
        if self.world is None:
            raise InputError(
                "nobody judges: name feedback.annotators (package.module:function), a world, or data.preferences"
            )
        return self.world.annotators(seed=self.recipe.seed)

    # -- prompts ------------------------------------------------------------------------------------------------

    def sample_prompts(self, chat: Chat, round_index: int) -> list[Prompt]:
        """What people are shown responses to."""
        return self._prompts("preference", self.recipe.sample.prompts, chat, round_index)

    def ppo_prompts(self, chat: Chat, round_index: int) -> list[Prompt]:
        return self._prompts("ppo", self._num_ppo_prompts, chat, round_index)

    @property
    def _num_ppo_prompts(self) -> int:
        return min(self.recipe.ppo.steps * self.recipe.ppo.prompts_per_step, MOST_PPO_PROMPTS)

    def centring_prompts(self, chat: Chat, round_index: int) -> list[Prompt]:
        """The first of PPO's, where answers to them set the 0 and 1 of a reward."""
        return self._prompts("ppo", self.num_centring_prompts, chat, round_index)

    @property
    def num_centring_prompts(self) -> int:
        return min(self._num_ppo_prompts, self.recipe.reward.centring_samples)

    def evaluation_prompts(self, chat: Chat) -> list[Prompt]:
        return self._prompts(self.recipe.evaluation.split, self.recipe.evaluation.prompts, chat, 0)

    def _prompts(self, split: Split, count: int, chat: Chat, round_index: int) -> list[Prompt]:
        if self.recipe.data.prompts is None and self.world is not None:
            prompts = self.world.prompts(split, count, seed=self.recipe.seed + 1000 * round_index)
        else:
            part = self._unseen(self._files[1 if split in ("evaluation", "tuning") else 0], chat, split)
            order = np.random.default_rng([self.recipe.seed, round_index, len(split)]).permutation(len(part))
            prompts = [part[i] for i in order]
        fitting = self._fitting(
            f"{split} prompts", prompts, {}, lambda p: [chat.encode(p, "")], answer_tokens=self._answer_tokens
        )
        return fitting[:count]

    @cached_property
    def _files(self) -> tuple[list[Prompt], list[Prompt]]:
        """(prompts to learn on, prompts to evaluate on): no opening is in both, and none to evaluate on is among the
        demonstrations of a file."""
        data = self.recipe.data
        assert data.prompts is not None
        learned = self._taken("prompts", read_prompts(data.prompts))
        if data.evaluation_prompts is not None:
            asked = self._taken("evaluation prompts", read_prompts(data.evaluation_prompts))
        else:
            learned, asked = split_by_prompt(
                learned, EVALUATION_SHARE, self.recipe.seed, lambda p: p, occasion=SET_ASIDE
            )
        shown = learned
        if self.recipe.sft is not None and data.demonstrations is not None:
            shown = [*learned, *(d.prompt for d in read_demonstrations(data.demonstrations).items)]
        why = "it is among the prompts or demonstrations that are learned from"
        apart = self._apart(asked, shown, self.recipe.evaluation.split, why)
        if asked and not apart:
            raise InputError(
                "every prompt to evaluate on is among the prompts or demonstrations that are learned from: give other "
                "prompts in data.evaluation_prompts"
            )
        return learned, apart

    def _unseen(self, prompts: Sequence[Prompt], chat: Chat, split: Split) -> list[Prompt]:
        """The prompts whose opening no judge was trained on."""
        ranked = [j.prompt for j in self.judgements(chat)]
        kept = self._apart(prompts, ranked, split, "a judge was trained on rankings of it")
        if not kept:
            raise InputError(
                "every prompt of data.prompts is among the rankings of data.preferences: give other prompts"
            )
        return kept

    def _apart(self, prompts: Sequence[Prompt], others: Iterable[Prompt], split: Split, why: str) -> list[Prompt]:
        """The prompts that open like none of these others; the rest are left out and counted."""
        known = {_opening(p) for p in others}
        kept = [p for p in prompts if _opening(p) not in known]
        if len(kept) < len(prompts):
            self.noted["left_out"].setdefault(f"prompts of {split}", {})[why] = len(prompts) - len(kept)
        return kept

    def _taken(self, what: str, loaded: Loaded[Item]) -> list[Item]:
        if loaded.repaired:
            self.noted["repaired"][what] = dict(loaded.repaired)
        if loaded.left_out:
            self.noted["left_out"][what] = dict(loaded.left_out)
        return list(loaded.items)

    # -- what decides them, for the keys of acts ------------------------------------------------------------------

    def source_of_prompts(self, split: Split) -> dict[str, object]:
        """What decides the prompts of a split, but for the seed, the round and how many are asked for."""
        data, fitting = self.recipe.data, self.limits(self._answer_tokens)
        if data.prompts is None:
            return {"world": self.recipe.world, "fitting": fitting}
        source: dict[str, object] = {"prompts": source_of(data.prompts), "fitting": fitting}
        if data.evaluation_prompts is None:
            source["set_aside"] = [SET_ASIDE, EVALUATION_SHARE]
        if data.preferences:
            files = [[source_of(file.path), file.format, file.limit] for file in data.preferences]
            source["without"] = {"rankings": files, "fitting": self.limits()}
        if split in ("evaluation", "tuning"):
            source["evaluation_prompts"] = source_of(data.evaluation_prompts)
            source["demonstrations"] = source_of(data.demonstrations) if self.recipe.sft is not None else None
        return source

    def limits(self, answer_tokens: int = 0) -> dict[str, int]:
        """The most tokens of a prompt that leaves room for an answer, and of a prompt with its response: as the recipe
        has them, and no more than the model's context. How much may be left out changes nothing of what is kept."""
        data, context = self.recipe.data, context_of(self.base_model)
        return {
            "max_prompt_tokens": min(data.max_prompt_tokens, context - answer_tokens),
            "max_tokens": min(data.max_tokens, context),
        }

    @property
    def _answer_tokens(self) -> int:
        """The longest answer that a prompt must leave room for, with the EOS where a judge reads one that was cut."""
        return max(self.recipe.sample.max_new_tokens, self.recipe.ppo.max_new_tokens) + 1

    def _fitting(
        self,
        what: str,
        items: Sequence[Item],
        left_out: dict[str, int],
        encode: Callable[[Item], list[Encoded]],
        *,
        answer_tokens: int = 0,
    ) -> list[Item]:
        """What fits the recipe's token limits and the model's context; too many left out, or all, is an error."""
        kept, too_long = fit_tokens([encode(i) for i in items], **self.limits(answer_tokens))
        counts = dict(Counter(left_out) + Counter(too_long))
        lost = sum(counts.values())
        reasons = "; ".join(f"{count} × {reason}" for reason, count in counts.items())
        if lost:
            self.noted["left_out"][what] = counts
        if not kept:
            raise InputError(f"{what}: nothing is left to work with ({reasons or 'it is empty'})")
        share = lost / (lost + len(kept))
        allowed = self.recipe.data.max_left_out
        if share > allowed:
            raise InputError(
                f"{what}: {share:.0%} of the rows were left out ({reasons}); data.max_left_out allows {allowed:.0%}"
            )
        return [items[i] for i in kept]


def source_of(path: str | Path | None) -> str | None:
    """The content hash of a local file or folder, or the name as it stands (a hub name)."""
    if path is None:
        return None
    local = Path(path).expanduser()
    return content_hash(local) if local.exists() else str(path)


def _opening(prompt: Prompt) -> str:
    return next(m.content for m in prompt.messages if m.role == "user").strip()
