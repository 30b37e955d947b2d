"""The order of the acts. What is done is skipped; what was stopped goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from plaudit.asking import Asker
from plaudit.contest import Contest
from plaudit.data.formats import content_hash
from plaudit.data.responses import response_row
from plaudit.data.split import split_by_prompt
from plaudit.evaluation.run_files import acts_of
from plaudit.feedback.contests import TAGS
from plaudit.feedback.project import RESPONSES
from plaudit.feedback.statistics import ceiling_of
from plaudit.judges import make_judge, open_judge, open_judges
from plaudit.labels import Labels
from plaudit.material import Material, source_of
from plaudit.progress import Journal
from plaudit.recipe import PPO, Recipe
from plaudit.recipe_file import dump_recipe
from plaudit.reward.model import RewardModel
from plaudit.reward.ready import open_reward
from plaudit.reward.scale import Standardised
from plaudit.rl.doubtful import DOUBTFUL, doubtful_answers, is_doubtful
from plaudit.rl.dpo import dpo
from plaudit.rl.ppo import ppo
from plaudit.rl.rollout import sampling_of
from plaudit.run_folder import Result, RunFolder, write_json, write_rows
from plaudit.sft.train import train_sft
from plaudit.sources import Sources, of_rankings
from plaudit.summary import summarise, write_report
from plaudit.types import Estimate, InputError, Judgement, Prompt, Response, RewardFunction
from plaudit.workshop import Workshop

Act = Literal["sft", "sample", "reward", "ppo", "evaluate"]
FOLDERS: dict[Act, str] = {
    "sft": "sft", "sample": "responses", "reward": "reward", "ppo": "ppo", "evaluate": "evaluation",
}  # fmt: skip
SAMPLING, CENTRING = -1, -1_000_000
"""Occasions on which models speak (a round counts down from the first); PPO's steps are 0 and more."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    folder: Path
    summary: Result
    report: Path


def run(recipe: Recipe, *, quiet: bool = False, profile: bool = False) -> RunResult:
    """All acts of every round. Writes summary.json and report.html into the run folder, and returns them.

    `profile` leaves a trace of a few steps in the folder of each act that trains; it changes nothing else.
    """
    job = Job(recipe, quiet=quiet, profile=profile)
    for index in range(recipe.rounds):
        for act in job.acts:
            job.perform(act, index)
    summary = summarise(job.folder, job.recipe)
    return RunResult(folder=job.folder.path, summary=summary, report=write_report(job.folder.path))


def run_act(recipe: Recipe, act: Act, *, round_index: int = 0, quiet: bool = False, profile: bool = False) -> Path:
    """One act of one round; those before it must be done. Returns its folder."""
    if not 0 <= round_index < recipe.rounds:
        raise InputError(f"round {round_index} is not in this recipe: it has rounds 0..{recipe.rounds - 1}")
    job = Job(recipe, quiet=quiet, profile=profile, fresh=True)
    if act not in job.acts:
        raise InputError(f"this recipe has no act {act!r}: it has {', '.join(job.acts)}")
    job.perform(act, round_index)
    summarise(job.folder, job.recipe)
    return job.path(round_index, recipe.align if act == "ppo" else FOLDERS[act])


class Job:
    """A recipe at work in its run folder. Each act is a method; all of them read what earlier ones wrote."""

    def __init__(self, recipe: Recipe, *, quiet: bool, profile: bool = False, fresh: bool = False) -> None:
        self.recipe = recipe
        self.material = Material(recipe)
        self.folder = RunFolder(recipe.out / recipe.name, cache=recipe.cache, quiet=quiet, profile=profile)
        self.workshop = Workshop(recipe, self.material, self.folder)
        self.labels = Labels(recipe, self.material, self.folder, fresh=fresh)
        self.sources = Sources(self.workshop)
        (self.folder.path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")

    @property
    def acts(self) -> list[Act]:
        folders = acts_of(self.recipe)
        return [act for act, folder in FOLDERS.items() if act == "ppo" or folder in folders]

    def perform(self, act: Act, index: int) -> None:
        methods: dict[Act, Callable[[int], None]] = {
            "sft": self.sft, "sample": self.sample, "reward": self.reward, "ppo": self.ppo, "evaluate": self.evaluate,
        }  # fmt: skip
        # The trunk stays as it is for the whole run, or older judges would be invalid: SFT is round 0's alone.
        if act != "sft" or index == 0:
            methods[act](index)

    def path(self, index: int, *names: str) -> Path:
        return self.folder.path.joinpath(f"round_{index}", *names)

    # -- Act I --------------------------------------------------------------------------------------------------

    def sft(self, index: int) -> None:
        config = self.recipe.sft
        assert config is not None
        written = self.labels.demonstrations()

        def do(folder: Path, journal: Journal) -> Result:
            chat = self.workshop.load_chat(self.material.base_model)
            demonstrations = self.material.demonstrations(chat, list(written.values()))
            depth = self.recipe.model.split_depth if config.adapter.kind == "lora" else 0
            trunk = self.workshop.load_trunk(self.material.base_model, depth)
            with trunk.memory.kept():
                trained = train_sft(
                    trunk, chat, demonstrations, config, seed=self.recipe.seed, journal=journal, folder=folder
                )
            return trained | self.material.noted | {"repairs": list(chat.repairs)}

        inputs = self.sources.inputs(
            "sft",
            "model",
            demonstrations=source_of(self.recipe.data.demonstrations) or self.recipe.world,
            fitting=self.material.limits(),
            people=content_hash([[d.prompt.id, d.response] for d in written.values()]) if written else None,
        )
        labels = {"demonstrations": list(written)} if self.recipe.feedback.use_demonstrations else None
        self.folder.act(f"round_{index}/sft", inputs, do, labels=labels)

    # -- Act II -------------------------------------------------------------------------------------------------

    def sample(self, index: int) -> None:
        """Several responses per prompt from the current policy, and people's rankings of them."""
        recipe, config, workshop = self.recipe, self.recipe.sample, self.workshop
        if config.responses_per_prompt < 2:
            raise InputError("sample.responses_per_prompt is 1: a ranking needs at least two responses")
        asks_again = index > 0 and config.doubtful_share > 0
        shown = recipe.feedback.queue.shown if asks_again else None
        noted = source_of(self.path(index - 1, "ppo", DOUBTFUL)) if asks_again else None

        def do(folder: Path, journal: Journal) -> Result:
            prompts = self.material.sample_prompts(workshop.chat, index)
            many, share = round(config.doubtful_share * len(prompts)), recipe.reward.held_out
            doubtful = doubtful_answers(self.path(index - 1, "ppo"), many, held_out=share, seed=recipe.seed)
            asked = {prompt.id for prompt, _ in doubtful}
            rest = [p for p in prompts if p.id not in asked][: len(prompts) - len(doubtful)]
            # All answers to such a prompt are shown, that which PPO gave among them.
            repeated = [p for p, _ in doubtful for _ in range((shown or config.responses_per_prompt) - 1)]
            repeated += [p for p in rest for _ in range(config.responses_per_prompt)]
            sampling = sampling_of(config, recipe.seed)
            policy = workshop.load_model(str(self.path(index - 1, "ppo", "model"))) if index else workshop.trunk.model
            said = workshop.speak(
                policy, repeated, sampling, occasion=SAMPLING - index, batch_size=config.batch_size, journal=journal
            )
            checkpoint = self._checkpoint_name(index)
            texts = [workshop.chat.text_of(one.tokens, sampling.stop) for one in said]
            responses = [
                Response(text=text, checkpoint=checkpoint, sampling=sampling, finished=one.finished)
                for text, one in zip(texts, said, strict=True)
            ]
            rows = [*zip(repeated, responses, strict=True), *doubtful]
            write_rows(folder / RESPONSES, [response_row(prompt, response) for prompt, response in rows])
            return {"prompts": len(rest) + len(doubtful), "responses": len(rows), "doubtful": len(doubtful)}

        inputs = self.sources.inputs(
            "sample",
            "model",
            policy=self.sources.policy(index),
            prompts=self.material.source_of_prompts("preference"),
            doubtful=[noted, recipe.reward.held_out, shown] if asks_again else None,
        )
        self.folder.act(f"round_{index}/responses", inputs, do)
        self.labels.collect(index, Asker(workshop, self.path(index, "asking")))

    def reward(self, index: int) -> None:
        """The judge, trained on every ranking so far; a second one on other prompts where the recipe asks for it."""
        recipe, config, workshop = self.recipe, self.recipe.reward, self.workshop
        judgements = self._judgements(index)
        at_desk = self.labels.by_people and not recipe.data.preferences
        known = self.labels.ceiling(index) if at_desk else None

        def ceiling(some: Sequence[Judgement]) -> Estimate | None:
            # Those of a desk are the rest of them, where an adjudicator has decided what people disagreed on.
            return known if at_desk else ceiling_of(some)

        def do(folder: Path, journal: Journal) -> Result:
            with self.workshop.trunk.memory.kept():
                made = {"judgements": len(judgements), "judgements_by": self.labels.made_by}
                return made | self.material.noted | judges(folder, journal)

        def judges(folder: Path, journal: Journal) -> Result:
            first, second, held_out = self._split(judgements)
            if config.held_out and not held_out and not second:
                self.folder.say("no ranking was drawn to be held out, so nothing says how good this judge is")
            own = self._own_responses(index, journal)
            every = len(judgements)
            if not config.second_judge:
                return make_judge(
                    workshop, own, first, held_out, [], folder, journal,
                    every=every, ceiling_of=ceiling, seed=recipe.seed,
                )  # fmt: skip
            # Each judge is tested on what the other learned from too: more pairs, and none that it has seen or chosen.
            by_chance = [[j for j in part if not any(map(is_doubtful, j.responses))] for part in (first, second)]
            result = make_judge(
                workshop, own, first, held_out, by_chance[1], folder, journal,
                every=every, ceiling_of=ceiling, seed=recipe.seed,
            )  # fmt: skip
            with Journal(folder / "second", quiet=self.folder.quiet, profile=self.folder.profile) as beside:
                tested = make_judge(
                    workshop, own, second, held_out, by_chance[0], folder / "second", beside,
                    every=every, ceiling_of=ceiling, seed=recipe.seed + 1,
                )  # fmt: skip
            return result | {"second": tested}

        inputs = self.sources.inputs(
            "reward",
            "model",
            labels=of_rankings(judgements),
            sft=self.sources.sft,
            own=self._own_source(index),
            resamples=recipe.evaluation.resamples,
            **({"ceiling": None if known is None else known.as_dict()} if at_desk else {}),
        )
        self.folder.act(f"round_{index}/reward", inputs, do, labels={"judgements": [j.id for j in judgements]})

    def _split(self, judgements: Sequence[Judgement]) -> tuple[list[Judgement], list[Judgement], list[Judgement]]:
        """Rankings by prompt: the judge's, the second judge's (none where there is none), and those held out."""
        config, seed = self.recipe.reward, self.recipe.seed
        training, held_out = split_by_prompt(judgements, config.held_out, seed, lambda j: j.prompt)
        if not config.second_judge:
            return training, [], held_out
        return *split_by_prompt(training, 0.5, seed + 1, lambda j: j.prompt), held_out

    def _judgements(self, index: int) -> list[Judgement]:
        """Every ranking up to this round: those of files, or those that people made of earlier policies' responses."""
        if self.recipe.data.preferences:
            return self.material.judgements(self.workshop.chat)
        if self.folder.done(f"round_{index}/responses") is None:
            raise InputError(f"round {index} has no rankings yet: run `plaudit sample` (or `plaudit run`) first")
        return self.labels.judgements(index, [self._checkpoint_name(i) for i in range(index + 1)])

    def _checkpoint_name(self, index: int) -> str:
        """The model whose responses people rank in a round, with the hash of its weights: the lineage of a label."""
        name = f"round_{index - 1}/ppo" if index else "sft"
        return f"{name}@{(self.sources.policy(index) or '')[:8]}"

    def _own_responses(self, index: int, journal: Journal) -> tuple[list[Prompt], list[str]]:
        """What the SFT model itself says: it sets the judge's 0 and 1."""
        recipe, workshop = self.recipe, self.workshop
        if self._were_sampled:
            pairs = [(prompt, r.text) for prompt, responses in self.labels.responses(0) for r in responses]
            return [prompt for prompt, _ in pairs], [text for _, text in pairs]
        prompts = self.material.centring_prompts(self.workshop.chat, index)
        sampling = self.workshop.ppo_sampling
        said = workshop.speak(
            workshop.trunk.model,
            prompts,
            sampling,
            occasion=CENTRING - index,
            batch_size=recipe.sample.batch_size,
            journal=journal,
        )
        return prompts, [workshop.chat.text_of(s.tokens, sampling.stop) for s in said]

    @property
    def _were_sampled(self) -> bool:
        return "sample" in self.acts and self.folder.done("round_0/responses") is not None

    def _own_source(self, index: int) -> object:
        """What decides `_own_responses`, besides the SFT model."""
        if self._were_sampled:
            return source_of(self.path(0, FOLDERS["sample"], RESPONSES))
        return {
            "prompts": self.material.source_of_prompts("ppo"),
            "asked": self.material.num_centring_prompts,
            "round": index,
            "sampling": asdict(self.workshop.ppo_sampling),
        }

    # -- Act III ------------------------------------------------------------------------------------------------

    def ppo(self, index: int) -> None:
        if self.recipe.align == "ppo":
            self._run_ppo(index, "ppo", self.recipe.ppo.reward)
        if self.recipe.align == "dpo" or self.recipe.evaluation.dpo:
            self._run_dpo(index)
        if self.recipe.evaluation.ceiling is not None:
            self._run_ppo(index, "ceiling", self.recipe.evaluation.ceiling)

    def _run_ppo(self, index: int, name: Literal["ppo", "ceiling"], plugin: str | None) -> None:
        recipe, workshop = self.recipe, self.workshop

        def do(folder: Path, journal: Journal) -> Result:
            config = self._leashed(index)
            reward: RewardFunction
            if plugin is None:
                reward = open_judge(workshop, self.path(index))
            else:
                reward = open_reward(plugin, device=recipe.model.device)
            value_start = None
            if isinstance(reward, RewardModel) and config.value_start == "judge":
                value_start = reward.value_start(config.objective_weights)
            if name == "ceiling":
                # On the judge's own scale, so that the leash is as long; the weights speak of the judge's objectives.
                reward = Standardised(reward, *self._own_responses(index, journal))
                config = config.model_copy(update={"objective_weights": {}})
            trained = ppo(
                workshop.trunk,
                workshop.chat,
                reward,
                self.material.ppo_prompts(self.workshop.chat, index),
                config,
                seed=recipe.seed + index,
                journal=journal,
                folder=folder,
                value_start=value_start,
                start_from=self.path(index - 1, name) if index else None,
            )
            for part in list(workshop.trunk.parts):
                workshop.trunk.remove_part(part)
            return trained | {"steps": config.steps, "episodes": config.episodes} | self.material.noted

        inputs = self.sources.inputs(
            "ppo",
            "model",
            prompts=self.material.source_of_prompts("ppo"),
            reward=source_of(plugin) or self.sources.judge(index),
            sft=self.sources.sft,
            policy=self.sources.policy(index, name),
            own=self._own_source(index) if name == "ceiling" else None,
            # A ready reward's leash may count in the judge's units, as the ceiling's does.
            leash=None if plugin is None else self._leashed(index).kl.coefficient,
        )
        self.folder.act(f"round_{index}/{name}", inputs, do)

    def _leashed(self, index: int) -> PPO:
        """PPO's section with the leash's coefficient per deviation of the score, as PPO takes it."""
        config = self.recipe.ppo
        if config.kl.per == "deviation":
            return config
        deviations: dict[str, float] = (self.folder.done(f"round_{index}/reward") or {}).get("deviation", {})
        if not deviations:
            raise InputError(f"round {index}: its judge does not say how far its scores spread: train it anew")
        weights = {name: abs(config.objective_weights.get(name, 1.0)) for name in deviations}
        if not sum(weights.values()):
            raise InputError("ppo.objective_weights: all are 0, so there is nothing for PPO to raise")
        deviation = sum(weights[name] * deviations[name] for name in deviations) / sum(weights.values())
        kl = config.kl.model_copy(update={"coefficient": config.kl.coefficient / deviation})
        return config.model_copy(update={"kl": kl})

    def _run_dpo(self, index: int) -> None:
        """The policy from the very rankings that the judge learned from: a second judge's stay unseen."""
        recipe, workshop, judgements = self.recipe, self.workshop, self._judgements(index)

        def do(folder: Path, journal: Journal) -> Result:
            training, _, held_out = self._split(judgements)
            with workshop.trunk.memory.kept():
                trained = dpo(
                    workshop.trunk,
                    workshop.chat,
                    training,
                    held_out,
                    recipe.dpo,
                    objective_weights=recipe.ppo.objective_weights,
                    seed=recipe.seed,
                    journal=journal,
                    folder=folder,
                )
            workshop.trunk.remove_part("policy")
            return trained | self.material.noted

        inputs = self.sources.inputs(
            "dpo", "model", labels=of_rankings(judgements), sft=self.sources.sft,
            weights=recipe.ppo.objective_weights, held_out=recipe.reward.held_out,
            second_judge=recipe.reward.second_judge,
        )  # fmt: skip
        self.folder.act(f"round_{index}/dpo", inputs, do, labels={"judgements": [j.id for j in judgements]})

    # -- evaluation ---------------------------------------------------------------------------------------------

    def evaluate(self, index: int) -> None:
        """Base, SFT and RLHF (and the ceiling) answer the same held-out prompts."""
        recipe, checkpoints = self.recipe, self._checkpoints(index)

        def do(folder: Path, journal: Journal) -> Result:
            contest = Contest(
                recipe=recipe,
                workshop=self.workshop,
                world=self.material.world,
                judges=open_judges(self.workshop, self.path(index)),
                sampling=self.workshop.evaluation_sampling,
            )
            prompts = self.material.evaluation_prompts(self.workshop.chat)
            what = f"prompts of {recipe.evaluation.split}"
            for why, many in self.material.noted["left_out"].get(what, {}).items():
                self.folder.say(f"{what}: {many} left out ({why})")
            result, answers = contest.hold(prompts, checkpoints, journal)
            rows = [{"prompt": p.messages[-1].content} for p in prompts]
            write_rows(
                folder / "samples.jsonl",
                [row | {n: a.texts[i] for n, a in answers.items()} for i, row in enumerate(rows)],
            )
            # A contest of these answers covers what a ranking would.
            write_json(folder / TAGS, [prompt.tags for prompt in prompts])
            return result | self.material.noted

        made = {name: source_of(path) for name, path in checkpoints.items()}
        inputs = self.sources.inputs(
            "evaluation",
            "model",
            "world",
            prompts=self.material.source_of_prompts(recipe.evaluation.split),
            checkpoints=made,
            reward=source_of(recipe.ppo.reward) or self.sources.judge(index),
            second_judge=self.sources.judge(index, "second") if recipe.reward.second_judge else None,
            weights=recipe.ppo.objective_weights,
            sampling=asdict(self.workshop.evaluation_sampling),
        )
        self.folder.act(f"round_{index}/evaluation", inputs, do)

    def _checkpoints(self, index: int) -> dict[str, str]:
        align = self.recipe.align
        wanted = [align, *(["dpo"] if self.recipe.evaluation.dpo else [])]
        if any(self.folder.done(f"round_{index}/{name}") is None for name in wanted):
            raise InputError(f"round {index} has no trained policy yet: run `plaudit ppo` (or `plaudit run`) first")
        base = {} if self.recipe.sft is None else {"base": self.material.base_model}
        best = {} if self.recipe.evaluation.ceiling is None else {"ceiling": str(self.path(index, "ceiling", "model"))}
        if self.recipe.evaluation.dpo and align != "dpo":
            best = {"dpo": str(self.path(index, "dpo", "model"))} | best
        return base | {"sft": self.workshop.sft_model, "rlhf": str(self.path(index, align, "model"))} | best
