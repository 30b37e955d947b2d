"""The typed recipe: what a YAML file may say, and nothing else.

Every field is read somewhere (a test holds it). Plug-ins are named `package.module:function`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from plaudit.recipe_feedback import Feedback
from plaudit.recipe_fields import Plugin, Positive, Rate, RewardName, Section, Share, StopStrings
from plaudit.types import MOST_RANKED


class Adapter(Section):
    """What is trained on top of the frozen trunk."""

    kind: Literal["lora", "full"] = "lora"
    rank: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0


class Model(Section):
    path: str | None = None
    """A local folder or a Hugging Face name; None: the world's own base model."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    decoding_dtype: Literal["float32", "bfloat16"] | None = None
    """What responses are drawn with. bfloat16 beside a dtype of float32: faster where the processor has units for it;
    PPO then takes its log-probs from the trunk once more (`ppo.old_logprobs`). null: dtype."""
    quantise: Literal["none", "nf4"] = "none"
    """nf4: the linear layers of the frozen trunk are held in 4 bits (needs plaudit[quantised], and adapters that are
    LoRA). Models that are written are whole again."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    chat_template: Path | None = None
    """A Jinja file that replaces the tokenizer's own template."""
    split_depth: Annotated[int, Field(ge=0)] = 0
    """Layers below it are shared by all parts, frozen, and run once per token. 0: all layers are adapted."""
    boundary_gigabytes: Annotated[float, Field(ge=0)] = 2.0
    """How much of what leaves the layers below the split is kept while an act needs it; the rest is computed again each
    time."""
    boundary_disk_gigabytes: Annotated[float, Field(ge=0)] = 0.0
    """How much more of it is kept in a temporary file (in `TMPDIR`): reading it is far cheaper than computing it, where
    an act has several epochs over more rows than memory holds."""
    activation_checkpointing: bool = False
    """Layers above the split keep their inputs alone while training, and are computed once more in the backward pass:
    far less memory per micro-batch, for half more arithmetic in training (a third, where all weights are trained)."""


PreferenceFormat = Literal[
    "auto",
    "native",
    "comparisons",
    "nemo",
    "nectar",
    "ultrafeedback",
    "lm-human-preferences",
    "rewardbench-2",
    "hh",
    "trl",
    "ultrafeedback-binarized",
    "rewardbench",
    "openai",
    "llama-factory",
    "llama-factory-kto",
    "trl-unpaired",
    "shp",
    "summarize-from-feedback",
    "summarize-from-feedback-axis",
    "webgpt",
    "helpsteer",
    "helpsteer3",
    "pku-saferlhf",
    "arena",
    "arena-texts",
    "alpaca-farm",
    "pandalm",
    "oasst",
    "oasst-messages",
    "argilla",
    "label-studio",
    "potato",
]
"""Those of docs/formats.md that hold rankings; auto: recognised from the fields."""


class PreferenceFile(Section):
    path: str
    objective: str = "overall"
    format: PreferenceFormat = "auto"
    limit: Positive | None = None
    """At most so many rankings, drawn by the recipe's seed."""


class Data(Section):
    demonstrations: str | None = None
    prompts: str | None = None
    """Prompts to sample from in Acts II and III."""
    evaluation_prompts: str | None = None
    """None: a share of `prompts` is set aside. What opens like a prompt or a demonstration that is learned from is left
    out."""
    preferences: tuple[PreferenceFile, ...] = ()
    """Rankings that exist already; with them nothing is sampled for people."""
    max_prompt_tokens: Positive = 512
    max_tokens: Positive = 1024
    """Prompt and response together; longer rows are left out and counted, never cut."""
    max_left_out: Share = 0.5
    """A larger share of rows left out is an error."""


class Optimizer(Section):
    learning_rate: Rate = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    warmup: Share = 0.05
    """Share of the optimiser steps."""
    final_rate: Share = 0.1
    """Learning rate at the end, as a share of the highest."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: Annotated[float, Field(gt=0)] = 1e-8


class SFT(Section):
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    examples: Positive = 1000
    """Demonstrations drawn from a world; a file is used whole."""
    epochs: Positive = 1
    batch_size: Positive = 32
    tokens_per_microbatch: Positive = 4096
    held_out: Share = 0.05


class Sample(Section):
    prompts: Positive = 256
    responses_per_prompt: Annotated[int, Field(ge=1)] = 4
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Rate = 1.0
    max_new_tokens: Positive = 64
    stop: StopStrings = ()
    """A response also ends where its text comes to contain one of these, and its text is cut before it."""
    batch_size: Positive = 64
    doubtful_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """In later rounds: of the prompts at most so many are those of answers that the last PPO gave and the judge knows
    least about, or likes best. People rank such an answer among new ones."""


class Likelihood(Section):
    """How likely what people said is under the judge's scores: what the judge is trained to raise."""

    ranking: Literal["pairs", "plackett_luce"] = "pairs"
    """pairs: each of the C(K,2) by itself, each weighing as much (Bradley-Terry). plackett_luce: a row of choices."""
    ties: Literal["half", "davidson", "rao_kupper"] = "half"
    """half: a tie aims at one half. The others foresee ties, by a parameter that is learned per objective."""
    margin: Annotated[float, Field(ge=0)] = 1.0
    """By how much the scores must differ, in units of the strength that was stated."""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Chance that is kept for the other one of a pair."""
    annotators: Literal["alike", "reliability"] = "alike"
    """reliability: how often each annotator names the wrong one, and what the first place on the page is worth to him.
    It takes an epoch more, in which they are found."""

    @model_validator(mode="after")
    def _of_pairs(self) -> Self:
        rest = {"ties": "half", "smoothing": 0.0, "annotators": "alike"}
        if self.ranking == "plackett_luce":
            for name, plain in rest.items():
                if getattr(self, name) != plain:
                    raise ValueError(f"likelihood.{name} speaks of pairs: it needs likelihood.ranking: pairs")
        return self


class Reward(Section):
    likelihood: Likelihood = Likelihood()
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    head_start: Literal["random", "probe"] = "random"
    """Where the heads begin. probe: at the best linear judge on the frozen model, its ridge chosen by cross-validation.
    With a thousand pairs or fewer that is hard to improve on."""
    epochs: Annotated[int, Field(ge=0)] = 1
    """0: the probe is the judge."""
    batch_size: Positive = 16
    """Prompts (whole rankings) per optimiser step."""
    tokens_per_microbatch: Positive = 4096
    held_out: Share = 0.15
    centring_samples: Positive = 64
    """Responses of the SFT model that set offset and scale, where none were sampled for people."""
    members: Positive = 1
    """Heads on the one adapter: the judge's score is their mean, and where they differ it is unsure."""
    bootstrap: bool = True
    """Each of several members learns from prompts drawn anew: some several times, a third of them never."""
    anchor: Annotated[float, Field(ge=0)] = 1.0
    """How strongly each of several members is held to where it began; 1: as a prior of that spread would."""
    learning_curve: bool = False
    """Judges from an eighth, a quarter and a half of the prompts as well, to say what more labels would bring."""
    second_judge: bool = False
    """Keep half of the prompts for a second judge that PPO never sees; evaluation asks it."""


class KL(Section):
    controller: Literal["fixed", "adaptive"] = "fixed"
    coefficient: Annotated[float, Field(ge=0)] = 0.05
    per: Literal["deviation", "log_odds"] = "deviation"
    """What a nat costs is told in. deviation: of the first model's own scores, so that every judge is followed equally
    far. log_odds: of the judge's own chances, so that one which is less sure of its pairs is followed less far."""
    target: Annotated[float, Field(gt=0)] = 6.0
    """Nats per response that the adaptive controller steers to."""
    horizon: Positive = 10_000
    """Episodes over which the adaptive controller corrects."""
    estimator: Literal["k1", "k2", "k3"] = "k1"


class PPO(Section):
    reward: RewardName | None = None
    """None: the judge trained in Act II. package.module:function, the folder or Hugging Face name of a sequence
    classifier, or the URL of a service."""
    objective_weights: dict[str, float] = {}
    """Objective -> weight in the score; objectives not named weigh 1."""
    take: Literal["mean", "lower", "worst"] = "mean"
    """Of the scores of a judge's members: their mean, the mean less `take_deviations` of them, or the worst."""
    take_deviations: Annotated[float, Field(ge=0)] = 1.0
    adapter: Adapter = Adapter()
    value_adapter: Adapter | None = Adapter()
    """null: no part of its own, but a head on the policy's states (detached): half the arithmetic of an update."""
    optimizer: Optimizer = Optimizer()
    value_learning_rate: Rate | None = None
    """None: the policy's."""
    kl: KL = KL()
    steps: Positive = 50
    prompts_per_step: Positive = 32
    responses_per_prompt: Positive = 1
    epochs: Positive = 2
    minibatches: Positive = 1
    tokens_per_microbatch: Positive = 4096
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Rate = 1.0
    max_new_tokens: Positive = 64
    stop: StopStrings = ()
    """As in `sample`; evaluation's answers end there too."""
    gamma: Share = 1.0
    lam: Share = 0.95
    clip: Annotated[float, Field(gt=0)] = 0.2
    value_clip: Annotated[float, Field(gt=0)] = 0.2
    whiten_advantages: bool = True
    baseline: Literal["none", "leave_one_out"] = "none"
    """leave_one_out: a score counts against the mean of the prompt's other responses, since a judge's scores of
    different prompts are not comparable. Needs responses_per_prompt of 2 or more."""
    score_bend: Literal["none", "sigmoid", "clip"] = "none"
    """How far ends of the score are drawn in: high scores are where a judge is furthest from what it has learned."""
    score_limit: Annotated[float, Field(gt=0)] = 2.0
    """What a bent score does not pass, in deviations of the first model's own."""
    value_start: Literal["judge", "zero"] = "judge"
    """Where the value begins. A judge trained on few pairs is a poor one in mid-sentence: then zero is better."""
    missing_eos_penalty: Annotated[float, Field(ge=0)] = 1.0
    unfamiliar_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Taken off the score of a response that is stranger to the judge than 19 in 20 of its held-out answers."""
    stop_epochs_at_kl: Annotated[float, Field(gt=0)] | None = 0.1
    """Approximate KL to the sampling policy at which the epochs of a step end early."""
    old_logprobs: Literal["auto", "sampler", "recomputed"] = "auto"
    """Whose log-probs the ratio is taken to. auto: the sampler's where numbers are exact (float32), else those that
    the trunk computes once more."""
    sampler_weight_cap: Annotated[float, Field(ge=1)] | None = 2.0
    """Where the trunk computes log-probs once more, each token's loss is weighted by how much likelier it is to the
    trunk than to the sampler, up to this cap. None: all tokens weigh the same."""
    checkpoint_every: Positive = 25
    samples_every: Positive = 10
    """Every so many steps three decoded samples are shown with score and KL."""
    keep_policy_every: Positive | None = None
    """Every so many steps the policy's adapter is kept, for `plaudit evaluate overoptimization`."""
    dump_rollouts: bool = False

    @property
    def episodes(self) -> int:
        return self.steps * self.prompts_per_step * self.responses_per_prompt


class DPO(Section):
    """Direct preference optimisation on the judge's rankings: no judge, no sampling. The objectives weigh as in PPO."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """The leash: the score that a pair is told apart by is beta log(policy / reference)."""
    adapter: Adapter = Adapter()
    optimizer: Optimizer = Optimizer()
    epochs: Positive = 1
    batch_size: Positive = 16
    """Prompts (whole rankings) per optimiser step."""
    tokens_per_microbatch: Positive = 4096
    margin: Annotated[float, Field(ge=0)] = 0.0
    """By how much the scores must differ, per unit of the strength that was stated."""
    smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Chance that is kept for the other one of a pair (conservative DPO)."""


class Evaluation(Section):
    split: Literal["evaluation", "tuning"] = "evaluation"
    """A world's prompts to ask: numbers of a recipe are chosen on "tuning", results are told on "evaluation"."""
    ceiling: Plugin | None = None
    """A reward that knows the truth: PPO runs against it too, and the report says which share of its gain was had."""
    dpo: bool = False
    """DPO on the same rankings stands beside PPO in the report."""
    best_of: Annotated[int, Field(ge=2)] | None = None
    """Of so many answers of the SFT model the one that the judge likes best stands beside PPO in the report."""
    prompts: Positive = 200
    temperature: Annotated[float, Field(gt=0)] = 1.0
    top_p: Rate = 1.0
    batch_size: Positive = 64
    resamples: Positive = 2000
    """Bootstrap resamples (of prompts) behind the intervals."""


class Recipe(Section):
    name: Annotated[str, StringConstraints(pattern=r"^[\w.-]+$")]
    out: Path = Path("runs")
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Positive = 1
    world: Plugin | None = None
    cache: Path | None = None
    """Acts whose inputs are equal are taken over from here, between runs. None: no cache."""
    align: Literal["ppo", "dpo"] = "ppo"
    """What Act III is: PPO against the judge, or DPO on the rankings themselves."""
    model: Model = Model()
    data: Data = Data()
    sft: SFT | None = None
    """None: the model is taken as it is."""
    sample: Sample = Sample()
    feedback: Feedback = Feedback()
    reward: Reward = Reward()
    ppo: PPO = PPO()
    dpo: DPO = DPO()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _has_material(self) -> Recipe:
        if self.world is None and self.model.path is None:
            raise ValueError("model.path is needed where no world gives a base model")
        judged = self.world or self.data.preferences or self.feedback.annotators or self.ppo.reward
        if not judged:
            raise ValueError("data.preferences is needed where nobody judges: no world, no feedback.annotators")
        if self.world is None and self.data.prompts is None:
            raise ValueError("data.prompts is needed where no world gives prompts")
        if not self.data.preferences and self.sample.responses_per_prompt < 2 and self.ppo.reward is None:
            raise ValueError("sample.responses_per_prompt is 1: a ranking needs at least two responses")
        shown = self.feedback.queue.shown
        if self.feedback.annotators == "people" and (shown or self.sample.responses_per_prompt) > MOST_RANKED:
            name = "sample.responses_per_prompt" if shown is None else "feedback.queue.shown"
            raise ValueError(
                f"{name} is {shown or self.sample.responses_per_prompt}: people rank at most {MOST_RANKED} at a time; "
                f"set feedback.queue.shown to {MOST_RANKED} or fewer"
            )
        chooses = self.feedback.queue.order == "active" and not self.data.preferences
        if chooses and (shown is None or shown >= self.sample.responses_per_prompt):
            raise ValueError(
                "feedback.queue.order: active chooses among the answers to a prompt: set feedback.queue.shown below "
                f"sample.responses_per_prompt, which is {self.sample.responses_per_prompt}"
            )
        if self.feedback.annotators == "endpoint" and self.feedback.queue.ask != "ranking":
            raise ValueError("feedback.queue.ask: best_and_worst spares people; an endpoint is paid for what it reads")
        if self.feedback.annotators == "endpoint" and self.feedback.endpoint.model is None:
            raise ValueError("feedback.endpoint.model is needed: which model judges")
        if self.feedback.annotators == "stand_in" and self.feedback.stand_in.reward is None:
            raise ValueError("feedback.stand_in.reward is needed: whose scores stand in for people")
        if self.feedback.use_demonstrations and self.sft is None:
            raise ValueError("feedback.use_demonstrations needs Act I: sft is null")
        begins_as_judge = self.ppo.reward is None and self.ppo.value_start == "judge"
        if begins_as_judge and self.ppo.value_adapter is None:
            raise ValueError(
                "ppo.value_start must be zero where ppo.value_adapter is null: an adapter begins as a judge"
            )
        if begins_as_judge and self.ppo.value_adapter != self.reward.adapter:
            raise ValueError("ppo.value_adapter must equal reward.adapter where ppo.value_start is judge")
        if self.reward.epochs == 0 and self.reward.likelihood.annotators == "reliability":
            raise ValueError("reward.likelihood.annotators: reliability is found in training: reward.epochs is 0")
        if self.reward.epochs == 0 and self.reward.head_start != "probe":
            raise ValueError("reward.epochs is 0: nothing would be learned, unless reward.head_start is probe")
        if self.ppo.reward is not None and (self.align == "dpo" or self.evaluation.dpo):
            raise ValueError(
                "dpo learns from rankings, of which there are none where ppo.reward scores: set it to null"
            )
        if self.ppo.kl.per == "log_odds" and self.ppo.reward is not None:
            raise ValueError("ppo.kl.per: log_odds is the judge's: where ppo.reward scores, it must be deviation")
        if self.align == "dpo" and self.rounds > 1:
            raise ValueError("align: dpo does one round: its reference is the model that was ranked")
        if self.ppo.baseline == "leave_one_out" and self.ppo.responses_per_prompt < 2:
            raise ValueError("ppo.baseline: leave_one_out needs ppo.responses_per_prompt of 2 or more")
        trained = [self.reward.adapter, self.ppo.adapter, self.ppo.value_adapter, self.dpo.adapter]
        trained.append(self.sft and self.sft.adapter)
        if self.model.quantise != "none" and any(adapter and adapter.kind == "full" for adapter in trained):
            raise ValueError("adapter.kind: full trains every weight: it needs model.quantise: none")
        return self
