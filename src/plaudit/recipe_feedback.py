"""The recipe's sections about annotators: people on their page, a model behind an endpoint, a reward with noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from plaudit.recipe_fields import Annotators, Plugin, Positive, Section, Share
from plaudit.types import QuestionForm


class People(Section):
    """How people are asked, on the page of `plaudit label`. What is changed on the page later stays changed."""

    guidelines: Path | None = None
    """A Markdown file: what the annotators are asked to look for."""
    gold: str | None = None
    """A file of rankings whose answer is known."""
    gold_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Of the tasks handed out, those whose answer is known."""
    repeat_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Of the tasks handed out, those that the same person has judged before."""
    qualification: Annotated[int, Field(ge=0)] = 0
    """Gold tasks before the real work."""
    qualification_pass: Share = 0.7
    """Share of the gold pairs that must be right."""
    adjudicate_below: Share | None = None
    """Agreement under which a prompt goes to an adjudicator."""
    aspects: tuple[str, ...] = ()
    """What is rated for each response, as helpful or harmless."""
    ask_strength: bool = False
    ask_rationale: bool = False
    blur: bool = True
    """Prompts with one of the `sensitive` tags are shown only when asked for."""
    sensitive: tuple[str, ...] = ("sensitive", "harmful", "red-team")
    lease_seconds: Annotated[int, Field(ge=10)] = 1800
    """After so long without an answer a task may go to somebody else."""
    demonstrations: Annotated[int, Field(ge=0)] = 50
    """Prompts of a round that people may also write an answer to; every second one begins at a model's."""
    review_demonstrations: bool = True
    """A second person accepts, amends or rejects what was written."""


class Queue(Section):
    """What is asked, and in which order."""

    order: Literal["random", "active"] = "random"
    """active: of each prompt those answers are shown about whose order the judge's members disagree most. It is trained
    anew and asked again as judgements come in; the share that is held out from it (reward.held_out) is chosen by
    nobody."""
    quota: Positive | None = None
    """Judgements after which a round is done; None: every prompt by `judgements_per_prompt` annotators."""
    ask: QuestionForm = "ranking"
    """What is asked about three responses or more: all of them in order, or best_and_worst, two choices whatever their
    number."""
    shown: Annotated[int, Field(ge=2)] | None = None
    """Responses that are ranked at a time, where a prompt has more; None: all. An active order chooses which.
    People rank nine at most."""
    first: Positive = 64
    """Judgements before the judge is asked for the first time."""
    again_after: Annotated[float, Field(gt=0)] = 0.5
    """It is asked again when there are more judgements by this share."""


class Endpoint(Section):
    """A model behind an OpenAI-compatible endpoint, as annotator."""

    url: str = "https://api.openai.com/v1"
    model: str | None = None
    key_variable: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; the key itself is never written down."""
    dollars_per_million_read: Annotated[float, Field(ge=0)] = 0.0
    dollars_per_million_written: Annotated[float, Field(ge=0)] = 0.0
    dollars: Annotated[float, Field(gt=0)] | None = None
    """The most that may be spent; None: no limit."""
    instructions: str = ""
    """What the judge is asked to look for, besides the better answer."""
    retries: Annotated[int, Field(ge=0)] = 5
    timeout: Annotated[float, Field(gt=0)] = 60.0


class StandIn(Section):
    """A reward function in place of people, with the noise that the Bradley-Terry model takes them to have."""

    reward: Plugin | None = None
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """Of the noise, in units of the reward: a pair that far apart is told apart 73 times in 100."""


class Feedback(Section):
    annotators: Annotators | None = None
    """people, endpoint, stand_in, or a plug-in; None: the world's own people."""
    judgements_per_prompt: Positive = 1
    use_demonstrations: bool = False
    """What people wrote on the page, and others accepted, joins the demonstrations of Act I."""
    database: str | None = None
    """A PostgreSQL URL; None: feedback.db in the run folder."""
    queue: Queue = Queue()
    people: People = People()
    endpoint: Endpoint = Endpoint()
    stand_in: StandIn = StandIn()
