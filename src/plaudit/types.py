"""The vocabulary: what the rooms exchange. Imports nothing of ours, and no torch at run time.

Shape letters, used in names all over the project:
    B  sequences in a batch (one per response)      T  response tokens (padded to the longest)
    S  tokens of prompt and response together       D  width of the model
    V  vocabulary                                   K  responses to one prompt
    O  objectives (helpful, harmless, ...)          N  real tokens of a batch, flattened
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

Role = Literal["system", "user", "assistant"]
Flag = Literal["skip", "all_bad", "harmful", "unsure"]
Split = Literal["sft", "preference", "ppo", "evaluation", "tuning"]
QuestionForm = Literal["ranking", "best_and_worst"]
"""Of a question about several responses: all of them in order, or which is best and which is worst."""

OVERALL = "overall"
"""The objective of a ranking that speaks about nothing in particular."""
MOST_RANKED = 9
"""Responses that a person ranks at a time: on the page each rank is a digit."""


class PlauditError(Exception):
    """Something the user can put right: says what was wrong, where, and what to do.

    The command line prints it as one line and exits with `exit_code`; no traceback without --debug.
    """

    exit_code = 1


class InputError(PlauditError):
    """A file, row, key or model that cannot be used as it is."""

    exit_code = 2


class TrainingError(PlauditError):
    """Training cannot go on (a NaN, say); the last good checkpoint is kept."""

    exit_code = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    role: Role
    content: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Prompt:
    """A conversation that ends with a user's turn. `id` is stable: equal messages give equal ids."""

    id: str
    messages: tuple[Message, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Demonstration:
    """A prompt and the answer a person wrote for it (Act I)."""

    prompt: Prompt
    response: str
    source: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How a response was drawn from a model. Log-probs use the same temperature and top_p."""

    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 64
    stop: tuple[str, ...] = ()
    """The response ends where its text comes to contain one of these, and its text is cut before it."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """One answer to a prompt, and where it came from."""

    text: str
    checkpoint: str = ""
    sampling: Sampling | None = None
    finished: bool = True
    """True: it ended by itself (an EOS or stop string), not at the token limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One sitting of one annotator over the K responses to one prompt. Append-only; a correction supersedes.

    `ranking` holds tie groups of response indices from best to worst: ((2,), (0, 1), (3,)) says that
    response 2 is best, 0 and 1 are equal, 3 is worst. Pairs, margins and every export are derived from it.
    """

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]
    ranking: tuple[tuple[int, ...], ...]
    objective: str = OVERALL
    unordered: tuple[int, ...] = ()
    """A group of the ranking, ascending, whose responses nobody compared with each other: they are no ties. It stands
    where only the best and the worst were asked for."""
    strength: float | None = None
    """How much better, where it was asked: the margin of the best over the worst, in units of score."""
    flags: tuple[Flag, ...] = ()
    ratings: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, tuple[float | None, ...]])
    """Per aspect, one rating per response (None: not rated)."""
    rationale: str = ""
    edited: Mapping[int, str] = field(default_factory=dict[int, str])
    """Response index -> the text as the annotator bettered it."""
    display_order: tuple[int, ...] = ()
    annotator: str = ""
    guideline_version: str = ""
    seconds: float | None = None
    created: str = ""
    """ISO 8601, UTC."""
    supersedes: str | None = None


class Annotator(Protocol):
    """Anything that turns a prompt and its responses into a judgement."""

    @property
    def name(self) -> str: ...

    def judge(self, prompt: Prompt, responses: Sequence[Response], *, seed: int) -> Judgement: ...


@runtime_checkable
class RewardFunction(Protocol):
    """(prompts, responses) as text -> scores_BO, float32 on the CPU, one column per objective."""

    @property
    def objectives(self) -> tuple[str, ...]: ...

    def __call__(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Tensor: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a judge says of responses, and how sure it can be. float32 on the CPU."""

    scores_BEO: Tensor
    """Of each of E members: where they differ nobody knows."""
    strange_B: Tensor | None = None
    """Share of the answers held out in its training that lie nearer to what it learned from; None: not known."""


@runtime_checkable
class Judge(RewardFunction, Protocol):
    """A reward that knows its doubts. Called like any other it gives the mean of its members."""

    def judged(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> Judged: ...


Truth = Callable[[Prompt, str], Mapping[str, float]]
"""(prompt, response) -> every objective a world knows, each in 0..1, with `total` among them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SkillItem:
    """A plain-text beginning and the continuation that a model with the skill gives, greedily."""

    text: str
    answer: str


class World(Protocol):
    """A place in which what people prefer is known."""

    @property
    def base_model(self) -> Path: ...

    def prompts(self, split: Split, count: int, *, seed: int) -> list[Prompt]: ...

    def demonstrations(self, count: int, *, seed: int) -> list[Demonstration]: ...

    def annotators(self, *, seed: int) -> list[Annotator]: ...

    def truth(self) -> Truth: ...

    def skills(self) -> list[SkillItem]: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Some answers to one prompt, to be ranked."""

    place: int
    """Of the prompt, among those that could be asked about."""
    shown: tuple[int, ...]
    """Which of its answers, ascending."""
    gain: float
    """What naming the best and the worst of them would tell the judge, in nats; 0 where nobody knows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A prompt and some responses to it on one line, so that the prompt is computed once for all of them.

    The responses do not see each other, and each one's positions go on from the prompt's.
    """

    inputs: Tensor
    """Prompt, then response after response: token ids [S], or what stands for them at the trunk's split, [S, D]."""
    num_prompt: int
    lengths: tuple[int, ...]
    """How many of the inputs each response has."""

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What one PPO step collected. Everything on the response grid [B, T]; True in the mask means a real
    response token (its EOS, or the token that completed a stop string, among them). Outside the mask every tensor is 0
    and is never read."""

    prompts: tuple[Prompt, ...]
    texts: tuple[str, ...]
    finished_B: Tensor
    response_tokens_BT: Tensor
    response_mask_BT: Tensor
    logprobs_BT: Tensor
    """The policy's as the ratio takes them: the trunk's own, or the sampler's where both compute the same."""
    sampler_logprobs_BT: Tensor
    """Those of the distribution that the tokens were really drawn from."""
    ref_logprobs_BT: Tensor
    values_BT: Tensor
    scores_BO: Tensor
    """As the recipe takes them: the mean of a reward's members, or what a cautious reader makes of them."""
    spread_BO: Tensor
    """Deviation between the members of the reward; 0 where it has one."""
    unfamiliar_B: Tensor
    """True where a response is unlike what the judge learned from; nowhere, where the reward cannot say."""
    bundles: tuple[Bundle, ...]
    """What the trunk's top takes. Bundle after bundle, their responses are the rows of the grid; the last token of
    each is left out, since nothing is read from it."""
