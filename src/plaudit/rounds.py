"""The order of the acts. What is done is skipped; what was stopped goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor

from plaudit.data.chat import Chat
from plaudit.data.formats import content_hash, current_judgements, prompt_of, read_judgements
from plaudit.data.split import split_by_prompt
from plaudit.evaluation.compare import Answers, compare
from plaudit.evaluation.pairs import beats_length, display_baseline, length_baseline, pair_accuracy, pair_outcomes
from plaudit.evaluation.report import write_report
from plaudit.evaluation.truth import skill
from plaudit.evaluation.winrate import Prefer
from plaudit.feedback.collect import collect_judgements
from plaudit.material import Material
from plaudit.models.generate import Generated, generate, sample_key
from plaudit.models.loading import load_causal_lm
from plaudit.models.trunk import Trunk
from plaudit.plugins import resolve_plugin
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.recipe_file import dump_recipe
from plaudit.reward.model import RewardModel
from plaudit.reward.train import train_judge
from plaudit.rl.ppo import ppo
from plaudit.rl.shaping import combine_objectives
from plaudit.run_folder import Result, RunFolder, write_json
from plaudit.sft.train import train_sft
from plaudit.types import Annotator, InputError, Judgement, Prompt, Response, RewardFunction, Sampling

Act = Literal["sft", "sample", "reward", "ppo", "evaluate"]
FOLDERS: dict[Act, str] = {"sft": "sft", "sample": "responses", "reward": "reward", "ppo": "ppo", "evaluate": "evaluation"}

__all__ = ["Act", "RunResult", "run", "run_act", "write_report"]


@dataclass(frozen=True, kw_only=True)
class RunResult:
    folder: Path
    summary: Result
    report: Path


def run(recipe: Recipe, *, quiet: bool = False) -> RunResult:
    """All acts of every round. Writes summary.json and report.html into the run folder, and returns them."""
    job = Job(recipe, quiet=quiet)
    for index in range(recipe.rounds):
        for act in job.acts:
            job.perform(act, index)
    summary = job.summary()
    return RunResult(folder=job.folder.path, summary=summary, report=write_report(job.folder.path))


def run_act(recipe: Recipe, act: Act, *, round_index: int = 0, quiet: bool = False) -> Path:
    """One act of one round; those before it must be done. Returns its folder."""
    if not 0 <= round_index < recipe.rounds:
        raise InputError(f"round {round_index} is not in this recipe: it has rounds 0..{recipe.rounds - 1}")
    job = Job(recipe, quiet=quiet)
    if act not in job.acts:
        raise InputError(f"this recipe has no act {act!r}: it has {', '.join(job.acts)}")
    job.perform(act, round_index)
    job.summary()
    return job.folder.path / f"round_{round_index}" / FOLDERS[act]


class Job:
    """A recipe at work in its run folder. Each method below is one act; all of them read what earlier ones wrote."""

    def __init__(self, recipe: Recipe, *, quiet: bool) -> None:
        self.recipe, self.quiet = recipe, quiet
        self.material = Material(recipe)
        self.folder = RunFolder(recipe.out / recipe.name, cache=recipe.cache, quiet=quiet)
        (self.folder.path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")

    @property
    def acts(self) -> list[Act]:
        recipe = self.recipe
        wanted: dict[Act, bool] = {
            "sft": recipe.sft is not None,
            "sample": recipe.ppo.reward is None and not recipe.data.preferences,
            "reward": recipe.ppo.reward is None,
            "ppo": True,
            "evaluate": True,
        }
        return [act for act, yes in wanted.items() if yes]

    def perform(self, act: Act, index: int) -> None:
        if act == "sft" and index > 0:
            return  # the trunk stays as it is for the whole run, or older judges would be invalid
        {"sft": self.sft, "sample": self.sample, "reward": self.reward, "ppo": self.ppo, "evaluate": self.evaluate}[act](index)

    def summary(self) -> Result:
        """summary.json of what is done so far."""
        rounds: list[Result] = []
        for index in range(self.recipe.rounds):
            names = {"sft": "sft", "responses": "responses", "reward": "reward", "ppo": "ppo", "ceiling": "ceiling", "evaluation": "evaluation"}
            found = {key: self.folder.done(f"round_{index}/{name}") for key, name in names.items()}
            rounds.append({key: value for key, value in found.items() if value is not None})
        summary = {"name": self.recipe.name, "seed": self.recipe.seed, "rounds": rounds}
        write_json(self.folder.path / "summary.json", summary)
        return summary

    # -- models -------------------------------------------------------------------------------------------------

    @cached_property
    def base_hash(self) -> str:
        path = Path(self.material.base_model)
        return content_hash(path) if path.is_dir() else self.material.base_model

    @property
    def sft_model(self) -> str:
        """Where the model that Acts II and III start from lies."""
        if self.recipe.sft is None:
            return self.material.base_model
        if self.folder.done("round_0/sft") is None:
            raise InputError(f"Act I is not done in {self.folder.path}: run `plaudit sft` (or `plaudit run`) first, or set sft: null")
        return str(self.folder.path / "round_0" / "sft" / "model")

    @cached_property
    def chat(self) -> Chat:
        chat = Chat.load(self.sft_model, self.recipe.model.chat_template)
        self._say(*chat.repairs)
        return chat

    @cached_property
    def trunk(self) -> Trunk:
        return self._load_trunk(self.sft_model, self.recipe.model.split_depth)

    def _load_trunk(self, path: str, split_depth: int) -> Trunk:
        model = self.recipe.model
        trunk = Trunk(load_causal_lm(path, dtype=model.dtype, device=model.device), split_depth)
        self._say(*trunk.notes)
        return trunk

    # -- Act I --------------------------------------------------------------------------------------------------

    def sft(self, index: int) -> None:
        recipe = self.recipe
        assert recipe.sft is not None
        config = recipe.sft

        def do(folder: Path, journal: Journal) -> Mapping[str, object]:
            chat = Chat.load(self.material.base_model, recipe.model.chat_template)
            self._say(*chat.repairs)
            demonstrations = self.material.demonstrations(chat)
            depth = recipe.model.split_depth if config.adapter.kind == "lora" else 0
            trunk = self._load_trunk(self.material.base_model, depth)
            journal.rewind(0)
            result = train_sft(trunk, chat, demonstrations, config, seed=recipe.seed, journal=journal, folder=folder)
            return result | {"left_out": self.material.left_out, "repairs": list(chat.repairs)}

        self.folder.act(f"round_{index}/sft", self._inputs("sft", "model", demonstrations=self._demonstration_source()), do)

    def _demonstration_source(self) -> str:
        path = self.recipe.data.demonstrations
        return self.recipe.world or "" if path is None else content_hash(Path(path)) if Path(path).exists() else path

    # -- Act II -------------------------------------------------------------------------------------------------

    def sample(self, index: int) -> None:
        """Several responses per prompt from the current policy, and people's rankings of them."""
        recipe, config = self.recipe, self.recipe.sample
        if config.responses_per_prompt < 2:
            raise InputError("sample.responses_per_prompt is 1: a ranking needs at least two responses")

        def do(folder: Path, journal: Journal) -> Mapping[str, object]:
            prompts = self.material.sample_prompts(self.chat, index)
            sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens, seed=recipe.seed)
            repeated = [p for p in prompts for _ in range(config.responses_per_prompt)]
            policy = self._policy(index)
            sampled = self._speak(policy, repeated, sampling, step=-1 - index, batch_size=config.batch_size, journal=journal)
            checkpoint = "sft" if index == 0 else f"round_{index - 1}/ppo"
            responses = [
                Response(text=self.chat.decode(s.tokens), checkpoint=checkpoint, sampling=sampling, finished=s.finished) for s in sampled
            ]
            rows = [{"prompt": [dataclasses.asdict(m) for m in p.messages], "response": dataclasses.asdict(r)} for p, r in zip(repeated, responses, strict=True)]
            write_rows(folder / "responses.jsonl", rows)
            return {"prompts": len(prompts), "responses": len(responses)}

        inputs = self._inputs("sample", "model", policy=self._policy_source(index), world=recipe.world)
        self.folder.act(f"round_{index}/responses", inputs, do)
        self._ask_people(index)

    def _ask_people(self, index: int) -> None:
        """Every prompt's responses to annotators, their judgements into the run's append-only log."""
        recipe, tasks = self.recipe, dict[str, tuple[Prompt, list[Response]]]()
        for row in read_json_rows(self.folder.path / f"round_{index}" / "responses" / "responses.jsonl"):
            prompt = prompt_of(row["prompt"])
            response = row["response"] | {"sampling": Sampling(**row["response"]["sampling"])}
            tasks.setdefault(prompt.id, (prompt, []))[1].append(Response(**response))
        # People are shown what there is to tell apart: empty and equal answers are left out before they are asked.
        worth_asking = [(p, distinct) for p, r in tasks.values() if len(distinct := distinct_responses(r)) > 1]
        collect_judgements(
            worth_asking, self.material.annotators(), per_prompt=recipe.feedback.judgements_per_prompt, seed=recipe.seed, path=self.judgement_log
        )

    @property
    def judgement_log(self) -> Path:
        return self.folder.path / "judgements.jsonl"

    def reward(self, index: int) -> None:
        """The judge, trained on every ranking so far; a second one on other prompts where the recipe asks for it."""
        recipe, config = self.recipe, self.recipe.reward
        judgements = self._judgements(index)

        def do(folder: Path, journal: Journal) -> Mapping[str, object]:
            training, held_out = split_by_prompt(judgements, config.held_out, recipe.seed, lambda j: j.prompt)
            result: dict[str, object] = {"left_out": self.material.left_out, "rankings": len(judgements)}
            parts = [("reward", training)]
            if config.second_judge:
                first, second = split_by_prompt(training, 0.5, recipe.seed + 1, lambda j: j.prompt)
                parts = [("reward", first), ("second", second)]
            own_prompts, own_texts = self._own_responses(index)
            for number, (name, part) in enumerate(parts):
                objectives = sorted({j.objective for j in judgements})
                judge = RewardModel(self.trunk, self.chat, objectives, part=name, adapter=config.adapter, seed=recipe.seed + number)
                journal.rewind(0)
                if number:
                    with Journal(folder / name, quiet=self.quiet) as own_journal:
                        trained = train_judge(judge, part, held_out, config, seed=recipe.seed + number, journal=own_journal)
                else:
                    trained = train_judge(judge, part, held_out, config, seed=recipe.seed, journal=journal)
                judge.centre(own_prompts, own_texts)
                judge.save(folder / name if number else folder)
                tested = trained | judge_figures(judge, held_out, recipe.evaluation.resamples, recipe.seed)
                self.trunk.remove_part(name)
                result |= {name: tested} if number else tested
            return result

        labels = content_hash(sorted(j.id for j in judgements))
        self.folder.act(f"round_{index}/reward", self._inputs("reward", "model", "data", labels=labels, model=self._sft_source()), do)

    def _judgements(self, index: int) -> list[Judgement]:
        if self.recipe.data.preferences:
            return self.material.judgements(self.chat)
        if self.folder.done(f"round_{index}/responses") is None:
            raise InputError(f"round {index} has no rankings yet: run `plaudit sample` (or `plaudit run`) first")
        known = {f"round_{i - 1}/ppo" if i else "sft" for i in range(index + 1)}
        collected = current_judgements(read_judgements(self.judgement_log, format="native").items)
        return [j for j in collected if j.responses[0].checkpoint in known]

    def _own_responses(self, index: int) -> tuple[list[Prompt], list[str]]:
        """What the SFT model itself says: the scale on which the judge's 0 and 1 are set."""
        if not self.recipe.data.preferences:
            rows = read_json_rows(self.folder.path / "round_0" / "responses" / "responses.jsonl")
            return [prompt_of(row["prompt"]) for row in rows], [row["response"]["text"] for row in rows]
        prompts = self._ppo_prompts(index)[: self.recipe.reward.centring_samples]
        config = self.recipe.ppo
        sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=config.max_new_tokens, seed=self.recipe.seed)
        sampled = self._speak(None, prompts, sampling, step=-1000, batch_size=self.recipe.sample.batch_size, journal=None)
        return prompts, [self.chat.decode(s.tokens) for s in sampled]

    # -- Act III ------------------------------------------------------------------------------------------------

    def ppo(self, index: int) -> None:
        self._run_ppo(f"round_{index}/ppo", self.recipe.ppo.reward, index)
        if self.recipe.evaluation.ceiling is not None:
            self._run_ppo(f"round_{index}/ceiling", self.recipe.evaluation.ceiling, index)

    def _run_ppo(self, name: str, plugin: str | None, index: int) -> None:
        recipe = self.recipe

        def do(folder: Path, journal: Journal) -> Mapping[str, object]:
            reward, value_start = self._reward_function(plugin, index), None
            if isinstance(reward, RewardModel):
                value_start = reward.value_start(recipe.ppo.objective_weights)
            # A ceiling's objectives are its own: the recipe's weights speak about the judge's.
            config = recipe.ppo if name.endswith("/ppo") else recipe.ppo.model_copy(update={"objective_weights": {}})
            start_from = self.folder.path / f"round_{index - 1}" / name.split("/")[-1] if index else None
            result = ppo(
                self.trunk,
                self.chat,
                reward,
                self._ppo_prompts(index),
                config,
                seed=recipe.seed + index,
                journal=journal,
                folder=folder,
                value_start=value_start,
                start_from=start_from,
            )
            for part in list(self.trunk.parts):
                self.trunk.remove_part(part)
            episodes = recipe.ppo.steps * recipe.ppo.prompts_per_step * recipe.ppo.responses_per_prompt
            return result | {"steps": recipe.ppo.steps, "episodes": episodes}

        judged = self._judge_source(index) if plugin is None else plugin
        inputs = self._inputs("ppo", "model", "data", reward=judged, model=self._sft_source(), policy=self._policy_source(index))
        self.folder.act(name, inputs, do)

    def _reward_function(self, plugin: str | None, index: int, part: str = "reward") -> RewardFunction:
        if plugin is not None:
            reward = resolve_plugin(plugin)()
            if not isinstance(reward, RewardFunction):
                raise InputError(f"{plugin} gave {type(reward).__name__}: a reward function has `objectives` and can be called with prompts and responses")
            return reward
        if self.folder.done(f"round_{index}/reward") is None:
            raise InputError(f"round {index} has no judge yet: run `plaudit reward` (or `plaudit run`) first")
        folder = self.folder.path / f"round_{index}" / "reward"
        return RewardModel.load(folder if part == "reward" else folder / part, self.trunk, self.chat, part=part)

    def _ppo_prompts(self, index: int) -> list[Prompt]:
        prompts = self.material.ppo_prompts(self.chat, index)
        return self.material.unseen(prompts, self._judgements(index)) if self.recipe.data.preferences else prompts

    # -- evaluation ---------------------------------------------------------------------------------------------

    def evaluate(self, index: int) -> None:
        recipe, config = self.recipe, self.recipe.evaluation
        if self.folder.done(f"round_{index}/ppo") is None:
            raise InputError(f"round {index} has no trained policy yet: run `plaudit ppo` (or `plaudit run`) first")
        round_folder = self.folder.path / f"round_{index}"
        checkpoints = {"base": self.material.base_model, "sft": self.sft_model, "rlhf": str(round_folder / "ppo" / "model")}
        if recipe.sft is None:
            del checkpoints["base"]
        if config.ceiling is not None:
            checkpoints["ceiling"] = str(round_folder / "ceiling" / "model")

        def do(folder: Path, journal: Journal) -> Mapping[str, object]:
            prompts = self.material.evaluation_prompts(self.chat)
            if recipe.data.preferences:
                prompts = self.material.unseen(prompts, self._judgements(index))
            answers: dict[str, Answers] = {}
            skills: dict[str, object] = {}
            for name, path in checkpoints.items():
                model = load_causal_lm(path, dtype=recipe.model.dtype, device=recipe.model.device)
                sampling = Sampling(temperature=config.temperature, top_p=config.top_p, max_new_tokens=recipe.ppo.max_new_tokens, seed=recipe.seed)
                said = self._speak(model, prompts, sampling, step=-2000, batch_size=config.batch_size, journal=journal)
                answers[name] = Answers(texts=tuple(self.chat.decode(s.tokens) for s in said), finished=tuple(s.finished for s in said))
                if self.material.world is not None:
                    skills[name] = skill(self.material.world.skills(), lambda texts, model=model: self._complete(model, texts)).as_dict()
            scorers = {}
            if recipe.ppo.reward is None:
                scorers["judge"] = self._scorer(index, "reward")
            if recipe.ppo.reward is None and recipe.reward.second_judge:
                scorers["second_judge"] = self._scorer(index, "second")
            world = self.material.world
            truth = None if world is None else world.truth()
            prefer, by = self._prefer(scorers)
            result = compare(prompts, answers, truth=truth, prefer=prefer, scorers=scorers, resamples=config.resamples, seed=recipe.seed)
            for name, estimate in skills.items():
                result["truth"][name]["skill"] = estimate
            write_rows(
                folder / "samples.jsonl",
                [{"prompt": p.messages[-1].content} | {n: a.texts[i] for n, a in answers.items()} for i, p in enumerate(prompts)],
            )
            return result | {"win_rate_by": by}

        made = {name: content_hash(Path(path)) if Path(path).is_dir() else path for name, path in checkpoints.items()}
        self.folder.act(f"round_{index}/evaluation", self._inputs("evaluation", "data", checkpoints=made, reward=self._judge_source(index)), do)

    def _scorer(self, index: int, part: str):  # noqa: ANN202 - a closure over the loaded judge
        judge = self._reward_function(None, index, part)

        def score(prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
            return combine_objectives(judge(prompts, texts), judge.objectives, self.recipe.ppo.objective_weights).tolist()

        return score

    def _prefer(self, scorers: Mapping[str, Any]) -> tuple[Prefer, str]:
        """Who says which of two answers is better: people where there are any, else the judge that PPO has not seen."""
        if self.material.world is not None:
            # Other people than those who taught the judge.
            panel = self.material.world.annotators(seed=self.recipe.seed + 500_000)
            return lambda prompt, one, two: ask_panel(panel, prompt, one, two), "people of the world who did not teach the judge"
        name = "second_judge" if "second_judge" in scorers else "judge"
        if name not in scorers:
            raise InputError("nobody can compare answers here: no world, and no judge (ppo.reward is a plug-in)")

        def by_score(prompt: Prompt, one: str, two: str) -> float:
            first, second = scorers[name]([prompt, prompt], [one, two])
            return float(first > second) if first != second else 0.5

        return by_score, "the second judge" if name == "second_judge" else "the judge itself"

    # -- speaking -----------------------------------------------------------------------------------------------

    def _policy(self, index: int) -> Any:
        """The model that speaks at the beginning of a round; None: the SFT model."""
        if index == 0:
            return None
        path = str(self.folder.path / f"round_{index - 1}" / "ppo" / "model")
        return load_causal_lm(path, dtype=self.recipe.model.dtype, device=self.recipe.model.device)

    def _speak(
        self, model: Any, prompts: Sequence[Prompt], sampling: Sampling, *, step: int, batch_size: int, journal: Journal | None
    ) -> list[Generated]:
        """One response per prompt; the n-th time a prompt comes it gets its n-th sample."""
        model = self.trunk.model if model is None else model
        times: dict[str, int] = {}
        keys: list[int] = []
        for prompt in prompts:
            times[prompt.id] = times.get(prompt.id, -1) + 1
            keys.append(sample_key(sampling.seed, step, prompt.id, times[prompt.id]))
        tokens = [self.chat.prompt_ids(p) for p in prompts]
        if journal is None:
            return generate(model, tokens, keys, sampling, eos_ids=self.chat.eos_ids, batch_size=batch_size)
        with journal.bar("sampling", len(prompts)) as advance:
            return generate(model, tokens, keys, sampling, eos_ids=self.chat.eos_ids, batch_size=batch_size, on_progress=advance)

    def _complete(self, model: Any, texts: list[str]) -> list[str]:
        """Greedy continuations of plain text."""
        tokens = [cast("list[int]", self.chat.tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
        said = generate(model, tokens, None, Sampling(max_new_tokens=12), eos_ids=self.chat.eos_ids)
        return [self.chat.decode(s.tokens) for s in said]

    # -- lineage ------------------------------------------------------------------------------------------------

    def _inputs(self, *sections: str, **more: object) -> dict[str, object]:
        """What an act depends on: sections of the recipe, the seed, and hashes of what it reads."""
        dumped = self.recipe.model_dump(mode="json")
        return {"base": self.base_hash, "seed": self.recipe.seed, **{s: dumped[s] for s in sections}, **{f"of_{k}": v for k, v in more.items()}}

    def _sft_source(self) -> str:
        return self.base_hash if self.recipe.sft is None else content_hash(Path(self.sft_model))

    def _policy_source(self, index: int) -> str:
        return self._sft_source() if index == 0 else content_hash(self.folder.path / f"round_{index - 1}" / "ppo" / "state.safetensors")

    def _judge_source(self, index: int) -> str:
        path = self.folder.path / f"round_{index}" / "reward" / "judge.safetensors"
        return content_hash(path) if path.is_file() else ""

    def _say(self, *lines: str) -> None:
        if not self.quiet:
            for line in lines:
                print(line)


def distinct_responses(responses: Sequence[Response]) -> list[Response]:
    """Each text once, and no empty one."""
    return list({r.text: r for r in responses if r.text.strip()}.values())


def ask_panel(panel: Sequence[Annotator], prompt: Prompt, one: str, two: str) -> float:
    """Share of the panel that puts the first answer above the second; a tie counts half."""
    responses = [Response(text=one), Response(text=two)]
    votes = [annotator.judge(prompt, responses, seed=0).ranking for annotator in panel]
    return sum(0.5 if len(ranking) == 1 else float(0 in ranking[0]) for ranking in votes) / len(votes)


def judge_figures(judge: RewardModel, held_out: Sequence[Judgement], resamples: int, seed: int) -> Result:
    """Accuracy on held-out rankings with its interval, beside the rules that need no judge; per objective too."""
    if not held_out:
        return {}
    scores_BO: Tensor = judge([j.prompt for j in held_out for _ in j.responses], [r.text for j in held_out for r in j.responses])
    rows: list[list[float]] = []
    start = 0
    for judgement in held_out:
        column = judge.objectives.index(judgement.objective)
        rows.append(scores_BO[start : start + len(judgement.responses), column].tolist())
        start += len(judgement.responses)

    def figures(objective: str | None) -> Result:
        chosen = [i for i, j in enumerate(held_out) if objective in (None, j.objective)]
        judgements, scores = [held_out[i] for i in chosen], [rows[i] for i in chosen]
        outcomes = pair_outcomes(judgements, scores)
        if not outcomes:
            return {}
        return {
            "accuracy": pair_accuracy(outcomes, resamples=resamples, seed=seed).as_dict(),
            "pairs": len(outcomes),
            "length_baseline": length_baseline(judgements)["best"],
            "majority_baseline": display_baseline(judgements)["best"],
            "beats_length": beats_length(judgements, scores, resamples=resamples, seed=seed).as_dict(),
        }

    return figures(None) | {"objectives": {o: figures(o) for o in judge.objectives}}


def read_json_rows(path: Path) -> list[Result]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
