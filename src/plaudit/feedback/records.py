"""What the people's room hands about inside itself: plain records, with no database and no web in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from plaudit.types import OVERALL, Estimate, Flag, InputError, Judgement, PlauditError, Prompt, QuestionForm, Response

Role = Literal["annotator", "adjudicator", "administrator"]
TaskKind = Literal["ranking", "demonstration", "review", "live", "contest"]
"""ranking: rank K responses. demonstration: write an answer, or better a draft. review: accept, reject or amend
somebody else's demonstration. live: an annotator's own prompt. contest: two checkpoints, blind."""
TaskState = Literal["open", "done", "disputed", "closed"]
"""disputed: its judgements disagree, an adjudicator is to decide. closed: it is not handed out any more."""
Verdict = Literal["accept", "reject", "amend"]
Standing = Literal["proposed", "accepted", "rejected", "superseded"]
Purpose = Literal["work", "gold", "repeat", "adjudication", "contest", "taken_over"]
"""Why a judgement was asked for. gold and repeat measure the annotator; a contest measures checkpoints; what was
taken over came from a log. None of these is handed to people twice as work."""


class LeaseLost(PlauditError):
    """The hand-out ran out, and somebody else has the task now."""


class NotYours(InputError):
    """The hand-out, the account or the right to do this is not this person's."""


class BadAnswer(InputError):
    """The answer does not fit the task: says what is missing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a project asks its people."""

    overlap: int = 1
    """Different people who judge each task."""
    lease_seconds: int = 1800
    gold_share: float = 0.0
    """Of the hand-outs: tasks whose answer is known."""
    repeat_share: float = 0.0
    """Of the hand-outs: tasks that this person has judged before."""
    qualification: int = 0
    """Gold tasks before the real work."""
    qualification_pass: float = 0.7
    """Share of the gold pairs to be had right."""
    adjudicate_below: float | None = None
    """Pairwise agreement under which a task goes to an adjudicator."""
    aspects: tuple[str, ...] = ()
    ask_strength: bool = False
    ask_rationale: bool = False
    blur: bool = True
    order: Literal["random", "active"] = "random"
    """active: a judge chooses which answers to a prompt are shown."""
    random_share: float = 0.15
    """Of the rankings of an active order: chosen by nobody, so that the judge can be measured on them."""
    ask: QuestionForm = "ranking"
    """What is asked about three responses or more."""
    shown: int | None = None
    """Responses that are ranked at a time; None: all there are, MOST_RANKED at most."""
    quota: int | None = None
    """Judgements after which a round is done; None: every task by `overlap` people."""
    review_demonstrations: bool = True
    objective: str = OVERALL
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenRanking:
    """A task with a place to fill, and everything that it could show."""

    id: int
    prompt: Prompt
    responses: tuple[Response, ...]
    begun: bool
    """Somebody has it in hands, or has judged it, and others are to judge it too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """How a task is asked in an active order."""

    task: int
    score: float
    """The highest comes first."""
    shown: tuple[int, ...] | None
    """Which of its responses; None: those that it shows already."""
    reserved: bool
    """It comes at random alone."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guideline:
    version: int
    text: str
    """Markdown."""
    created: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    id: int
    name: str
    """What the person is called on the page; judgements carry `handle`."""
    handle: str
    """A pseudonym that stays when the person is erased."""
    role: Role
    active: bool
    qualified: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class HandOut:
    """A task in one person's hands. It does not tell whether the task is gold or a repeat."""

    token: str
    """Unguessable; also the key under which a second submit gives the first one's result."""
    kind: TaskKind
    task_id: int
    prompt: Prompt
    responses: tuple[Response, ...]
    """In stored order; empty for demonstrations and reviews."""
    display_order: tuple[int, ...]
    """Position p shows responses[display_order[p]]."""
    draft: str
    """The demonstration to better or to review."""
    guideline: Guideline
    expires: datetime
    """UTC."""
    sensitive: bool
    corrects: Judgement | None
    """After undo: what was said before."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the page sends back."""

    ranking: tuple[tuple[int, ...], ...] = ()
    """Stored indices, tie groups from best to worst."""
    unordered: tuple[int, ...] = ()
    """A group of it whose order was not asked for."""
    flags: tuple[Flag, ...] = ()
    strength: float | None = None
    ratings: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict[str, tuple[float | None, ...]])
    rationale: str = ""
    edited: Mapping[int, str] = field(default_factory=dict[int, str])
    text: str = ""
    """A demonstration, or the amended one of a review."""
    verdict: Verdict | None = None
    seconds: float = 0.0
    """Time on the page, hidden tabs not counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """Of one person, and of the work as a whole."""

    done: int
    """His submissions, corrections not counted."""
    mine_today: int
    left: int
    """Places still to be filled by anybody, within the quota: by a count of some submissions ago, less his since. So it
    does not tell gold and repeats, which fill no place."""
    median_seconds: float | None
    quota: int | None
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class ProjectProgress:
    """Of the newest round."""

    tasks: int
    wanted: int
    """Judgements until the round is done: the quota, or tasks times overlap."""
    done: int
    disputed: int
    undecidable: int
    """Of these, by anybody: whoever may decide has judged them already."""
    live: int
    """Hand-outs in people's hands now."""
    demonstrations: Mapping[str, int]
    """Standing -> count."""
    finished: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRow:
    id: int
    kind: TaskKind
    state: TaskState
    round: int
    prompt: str
    """The last message."""
    wanted: int
    done: int
    gold: bool
    sensitive: bool
    score: float


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditRow:
    at: str
    account: int | None
    """None: the command line."""
    action: str
    details: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class PersonFigures:
    """One annotator. Every share is None where nothing was there to count."""

    annotator: str
    """The handle."""
    name: str
    """As an account, "" where there is none (any more)."""
    excluded: bool
    judgements: int
    skipped: int
    agreement: Estimate | None
    """Pairs on which he and another annotator agree, of those both ordered (a tie of one alone is no agreement)."""
    gold: Estimate | None
    """Gold pairs in the right order; a tie counts half."""
    self_consistency: Estimate | None
    """Pairs that he orders as he did the first time."""
    median_seconds: float | None
    total_seconds: float
    """On the page, over all submissions, demonstrations among them: for pay."""
    first_preferred: Estimate | None
    """Decided pairs in which what was shown further ahead won; 0.5 is no bias."""
    longer_preferred: Estimate | None
    """Decided pairs of unequal length in which the longer won. What is longer may be better: compare people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """How good a set of judgements is."""

    judgements: int
    prompts: int
    annotators: int
    pairs: int
    """Compared in all judgements, ties among them."""
    tie_share: float | None
    agreement: Estimate | None
    """Pairs of annotators that say the same of a pair of responses; interval by prompt, as all below."""
    decided_agreement: Estimate | None
    """The same over pairs that neither tied."""
    alpha: Estimate | None
    """Krippendorff's, of what is said of each pair (ordinal: worse, equal, better)."""
    kendall_tau: Estimate | None
    """tau-b between two annotators' rankings of the same responses, mean over annotator pairs."""
    ceiling: Estimate | None
    """The accuracy on single labels that the best judge can reach: (1 + sqrt(2p - 1)) / 2, p = decided_agreement."""
    first_preferred: Estimate | None
    longer_preferred: Estimate | None
    people: tuple[PersonFigures, ...]
