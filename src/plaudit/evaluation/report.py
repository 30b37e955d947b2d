"""report.html: what a run did, on one page that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from plaudit.evaluation import figures
from plaudit.evaluation.figures import (
    Figure,
    figure,
    interval,
    look_up,
    mapping,
    number,
    objects,
    percent,
    plain,
    shown,
    signed,
)
from plaudit.evaluation.findings import (
    CHECKPOINTS,
    Finding,
    Measure,
    contest_of,
    maker_of,
    measures,
    shortfalls,
    verdict,
    weightiest,
)
from plaudit.evaluation.judge_page import JudgePage, judge_page
from plaudit.evaluation.plots import PANELS, Plot, draw, draw_overoptimization
from plaudit.evaluation.run_files import ACTS, Json, Round, Run, read_run
from plaudit.recipe import Recipe

ACT_TITLES: Mapping[str, str] = {
    "sft": "Fine-tuning",
    "responses": "Responses",
    "judgements": "People",
    "reward": "Judge",
    "ppo": "PPO",
    "dpo": "DPO",
    "ceiling": "Oracle’s PPO",
    "evaluation": "Evaluation",
}
_ALWAYS = ("evaluation",)
"""Acts of every run; the others a recipe may do without."""
_MOST_SAMPLES = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Tile:
    label: str
    value: str
    note: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Strip:
    """A point with its whiskers on an axis of 0..100, per row of a table."""

    marks: Sequence[tuple[str, float, float, float]]
    """(checkpoint or rule, value, low, high)."""
    axis: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    prompt: str
    answers: Sequence[tuple[str, str, Sequence[tuple[str, str]]]]
    """(checkpoint, text, scores as (objective, figure))."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundView:
    number: int
    steps: Sequence[tuple[str, bool]]
    """(act, done)."""
    verdict: Finding
    tiles: Sequence[Tile]
    checkpoints: Sequence[str]
    rows: Sequence[tuple[Measure, Strip]]
    wins: Figure | None
    wins_by: str
    """Who compared the answers."""
    contests: Sequence[tuple[str, Figure, str]]
    """What people said who compared two checkpoints blind: (which won against which, share, counts)."""
    shortfalls: Sequence[Finding]
    is_evaluated: bool
    curves: Sequence[tuple[str, Sequence[Plot]]]
    judge: Sequence[tuple[str, str, str, Strip | None]]
    """(name, value, interval, mark)."""
    judge_margin: Figure | None
    trust: JudgePage | None
    followed: Sequence[Plot]
    """How far the judge can be followed, where that was measured."""
    rivals: Sequence[tuple[str, Sequence[tuple[str, Figure]]]]
    """Other ways from the same rankings: (name, [(measure, RLHF's less theirs)])."""
    people: Sequence[tuple[str, str, str]]
    """How good people's labels are: (name, value, interval)."""
    people_made: str
    text: Sequence[tuple[str, Mapping[str, str]]]
    samples: Sequence[Sample]
    lineage: Sequence[tuple[str, Sequence[str], str]]
    """(act, [wall time, seed, versions, damaged lines], whole manifest)."""


def write_report(folder: Path, recipe: Recipe | None = None) -> Path:
    """Writes `folder`/report.html from what the run folder holds, finished or not, and gives its path.

    Of a recipe its own acts and rounds are told, without one whatever there is.

    Raises InputError where the folder holds no run or a .json in it is damaged.
    """
    run = read_run(folder, recipe)
    rounds = [_view(item) for item in run.rounds]
    html = (
        _environment()
        .get_template("report.html.j2")
        .render(
            name=shown(run.name),
            facts=_facts(run),
            rounds=rounds,
            headline=next((view for view in reversed(rounds) if view.is_evaluated), rounds[-1]),
            checkpoint_names=CHECKPOINTS,
        )
    )
    path, partial = folder / "report.html", folder / "report.html.partial"
    partial.write_text(html, encoding="utf-8")
    partial.replace(path)  # a reader never sees half a page
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("plaudit.evaluation", "templates"),
        autoescape=True,  # every name and text comes from files and models
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": plain, "signed": signed, "percent": percent, "interval": interval, "shown": shown}
    return environment


def _facts(run: Run) -> list[str]:
    manifests = [act.manifest for item in run.rounds for act in item.acts.values() if act.manifest is not None]
    known = [seconds for manifest in manifests if (seconds := number(manifest, "seconds")) is not None]
    facts = [f"{len(run.rounds)} round" + ("s" if len(run.rounds) != 1 else "")]
    seeds = [
        run.seed,
        *(look_up(manifest, "inputs", "seed") for manifest in manifests),
    ]  # the summary comes last in a run
    seed = next((seed for seed in seeds if seed is not None), None)
    if seed is not None:
        facts.insert(0, f"seed {shown(seed)}")
    return [*facts, f"{figures.duration(sum(known))} of work"] if known else facts


def _view(item: Round) -> RoundView:
    evaluation = mapping(item.summary, "evaluation")
    rows = measures(evaluation)
    return RoundView(
        number=item.number,
        steps=[
            (ACT_TITLES[name], item.acts[name].is_done)
            for name in ACTS
            if name in _ALWAYS or item.acts[name].manifest is not None
        ],
        verdict=verdict(weightiest(rows), item.summary),
        tiles=_tiles(rows, item.summary),
        checkpoints=[name for name in CHECKPOINTS if any(name in row.values for row in rows)],
        rows=[(row, _strip(row)) for row in rows],
        wins=figure(evaluation, "win_rate"),
        wins_by=shown(evaluation.get("win_rate_by") or ""),
        contests=_contests(item.summary),
        shortfalls=shortfalls(rows, item.summary),
        is_evaluated=bool(rows or figure(evaluation, "win_rate") or objects(item.summary, "contests")),
        curves=_curves(item),
        judge=_judge(item.summary),
        judge_margin=figure(item.summary, "reward", "beats_length"),
        trust=judge_page(mapping(item.summary, "reward"), prefix=f"r{item.number}-judge"),
        followed=draw_overoptimization(item.overoptimization, prefix=f"r{item.number}-followed"),
        rivals=_rivals(mapping(evaluation, "rivals")),
        people=_people(mapping(item.summary, "judgements")),
        people_made=_people_made(mapping(item.summary, "judgements")),
        text=_text(evaluation),
        samples=[_sample(row) for row in item.samples[:_MOST_SAMPLES]],
        lineage=_lineage(item),
    )


def _tiles(rows: Sequence[Measure], summary: Json) -> list[Tile]:
    tiles: list[Tile] = []
    main = weightiest(rows)
    if main is not None and main.gain is not None and {"sft", "rlhf"} <= main.values.keys():
        value = f"{plain(main.values['sft'].value)} → {plain(main.values['rlhf'].value)}"
        tiles.append(Tile(label=f"{main.name}, SFT → RLHF", value=value, note=f"gain {signed(main.gain.value)}"))
    share = figure(summary, "evaluation", "share_of_ceiling")
    if share is not None:
        note = interval(share, as_percent=True) or "the oracle is PPO on the truth itself"
        tiles.append(Tile(label="of the oracle’s gain", value=percent(share.value), note=note))
    wins = figure(summary, "evaluation", "win_rate")
    if wins is not None:
        tiles.append(
            Tile(label="win rate, RLHF over SFT", value=percent(wins.value), note=interval(wins, as_percent=True))
        )
    people = contest_of(summary)
    if people is not None:
        note = f"RLHF over SFT, {interval(people, as_percent=True)}"
        tiles.append(Tile(label="win rate by people, blind", value=percent(people.value), note=note))
    accuracy, rule = figure(summary, "reward", "accuracy"), number(summary, "reward", "length_baseline")
    if accuracy is not None:
        note = f"a length rule: {percent(rule)}" if rule is not None else interval(accuracy, as_percent=True)
        tiles.append(Tile(label="judge’s accuracy, held out", value=percent(accuracy.value), note=note))
    maker = maker_of(summary)
    # As the verdict has it; PPO's own is that of its last step's answers.
    measured = figure(summary, "evaluation", "kl", "rlhf") or figure(summary, "ppo", "kl")
    kl, steps = None if measured is None else measured.value, number(summary, maker, "steps")
    if kl is not None:
        note = "nats per response" + (f", after {plain(steps, 0)} steps" if steps is not None else "")
        tiles.append(Tile(label="KL to the SFT model", value=plain(kl), note=note))
    return tiles


def _strip(row: Measure) -> Strip:
    marks = [(name, value) for name, value in row.values.items()]
    ends = [end for _, value in marks for end in (value.low, value.high, value.value) if end is not None]
    if not ends:
        return Strip(marks=[], axis=("", ""))
    low, high = row.known_range or (min(ends), max(ends))
    if row.known_range is None:
        margin = (high - low) * 0.08 or 1.0
        low, high = low - margin, high + margin
    placed = [(name, *_place(value, low, high)) for name, value in marks]
    return Strip(marks=placed, axis=(plain(low, 0 if row.known_range else 1), plain(high, 0 if row.known_range else 1)))


def _place(value: Figure, low: float, high: float) -> tuple[float, float, float]:
    ends = (
        value.value,
        value.value if value.low is None else value.low,
        value.value if value.high is None else value.high,
    )
    first, second, third = (round(100 * min(1.0, max(0.0, (end - low) / (high - low))), 2) for end in ends)
    return first, second, third


def _curves(item: Round) -> list[tuple[str, list[Plot]]]:
    baseline = number(item.summary, "reward", "length_baseline")
    found: list[tuple[str, list[Plot]]] = []
    for act, panels in PANELS.items():
        drawn = [
            draw(
                panel,
                item.acts[act].metrics,
                prefix=f"r{item.number}-{act}-{index}",
                level=("length rule", baseline) if baseline is not None and panel.title == "Accuracy" else None,
            )
            for index, panel in enumerate(panels)
        ]
        plots = [plot for plot in drawn if plot is not None]
        if plots:
            found.append((ACT_TITLES[act], plots))
    return found


def _judge(summary: Json) -> list[tuple[str, str, str, Strip | None]]:
    reward = mapping(summary, "reward")
    entries: list[tuple[str, str, Figure | None]] = [("rlhf", "The judge", figure(reward, "accuracy"))]
    objectives = mapping(reward, "objectives")
    for objective in objectives if len(objectives) > 1 else ():
        accuracy = figure(reward, "objectives", objective, "accuracy")
        entries.append(("rlhf", f"The judge on {shown(objective)}", accuracy))
    entries.append(("rlhf", "The second judge", figure(reward, "second", "accuracy")))
    entries.append(("rule", "The best that such labels allow", figure(reward, "ceiling")))
    entries.append(("rule", "The longer or the shorter wins", figure(reward, "length_baseline")))
    entries.append(("rule", "The first or the last shown wins", figure(reward, "majority_baseline")))
    return [
        (
            name,
            percent(accuracy.value, 1),
            interval(accuracy, as_percent=True),
            Strip(marks=[(kind, *_place(accuracy, 0.4, 1.0))], axis=(percent(0.4), percent(1.0))),
        )
        for kind, name, accuracy in entries
        if accuracy is not None
    ]


def _rivals(rivals: Json) -> list[tuple[str, list[tuple[str, Figure]]]]:
    labels = (
        ("win_rate", "RLHF’s answer is preferred"),
        ("truth", "Hidden total, RLHF’s less theirs"),
        ("second_judge", "Second judge’s score, RLHF’s less theirs"),
        ("judge", "Judge’s score, RLHF’s less theirs"),
    )
    found: list[tuple[str, list[tuple[str, Figure]]]] = []
    for name in rivals:
        rows = [(label, one) for key, label in labels if (one := figure(rivals, name, key)) is not None]
        found.append((CHECKPOINTS.get(name, shown(name)), rows))
    return found


def _contests(summary: Json) -> list[tuple[str, Figure, str]]:
    found: list[tuple[str, Figure, str]] = []
    for one in objects(summary, "contests"):
        share = figure(one, "share")
        first, second = (str(one.get(key) or "") for key in ("first", "second"))
        if share is not None:
            names = f"{CHECKPOINTS.get(first, shown(first))} over {CHECKPOINTS.get(second, shown(second))}"
            said = [f"{plain(number(one, key), 0)} {key}" for key in ("wins", "ties", "losses")]
            many = f"{plain(number(one, 'judgements'), 0)} judgements of {plain(number(one, 'prompts'), 0)} prompts"
            found.append((names, share, f"{', '.join(said)}; {many}"))
    return found


def _people(judgements: Json) -> list[tuple[str, str, str]]:
    labels = (
        ("agreement", "Two annotators say the same of a pair", True),
        ("decided_agreement", "The same, where neither ties", True),
        ("alpha", "Krippendorff’s alpha", False),
        ("kendall_tau", "Kendall’s tau-b between two rankings", False),
        ("ceiling", "The accuracy that the best judge could reach on such labels", True),
        ("first_preferred", "What was shown further ahead wins (50 %: no bias)", True),
        ("longer_preferred", "The longer wins", True),
        ("tie_share", "Pairs that were tied", True),
    )
    found = ((label, figure(judgements, key), is_share) for key, label, is_share in labels)
    return [
        (label, percent(one.value, 1) if is_share else plain(one.value), interval(one, as_percent=is_share))
        for label, one, is_share in found
        if one is not None
    ]


def _people_made(judgements: Json) -> str:
    count, people = number(judgements, "judgements"), number(judgements, "annotators")
    return "" if count is None or people is None else f"{count:.0f} judgements by {people:.0f} people"


def _text(evaluation: Json) -> list[tuple[str, dict[str, str]]]:
    labels = (
        ("words", "Words per answer", False),
        ("distinct_2", "Different word pairs, of all", True),
        ("repeated_3", "Word triples that came before in the same answer", True),
        ("finished", "Ended by itself", True),
    )
    table: list[tuple[str, dict[str, str]]] = []
    for key, label, is_share in labels:
        cells = {name: number(evaluation, "text", name, key) for name in CHECKPOINTS}
        if any(value is not None for value in cells.values()):
            written = {name: percent(value, 1) if is_share else plain(value, 1) for name, value in cells.items()}
            table.append((label, {name: written[name] for name, value in cells.items() if value is not None}))
    return table


def _sample(row: Json) -> Sample:
    names = [name for name in CHECKPOINTS if isinstance(row.get(name), str)]
    return Sample(
        prompt=shown(row.get("prompt", "")),
        answers=[(name, shown(row[name]), _scores(mapping(row, "scores").get(name))) for name in names],
    )


def _scores(found: object) -> list[tuple[str, str]]:
    """A number, or one per objective."""
    single = number(found)
    if single is not None:
        return [("score", plain(single))]
    pairs = ((shown(key), number(found, key)) for key in mapping(found))
    return [(key, plain(value)) for key, value in pairs if value is not None]


def _lineage(item: Round) -> list[tuple[str, list[str], str]]:
    found: list[tuple[str, list[str], str]] = []
    for name in ACTS:
        act = item.acts[name]
        if act.manifest is None:
            continue
        versions = ", ".join(f"{shown(key)} {shown(value)}" for key, value in mapping(act.manifest, "versions").items())
        seed = look_up(act.manifest, "inputs", "seed")
        cells = [
            figures.duration(number(act.manifest, "seconds")),
            "–" if seed is None else shown(seed),
            versions or "–",
        ]
        cells.append(f"{act.damaged} damaged lines of metrics.jsonl left out" if act.damaged else "")
        # Thousands of label ids are for the manifest's readers, not for a page.
        labels = {
            key: f"{len(ids)} ids" for key, ids in mapping(act.manifest, "labels").items() if isinstance(ids, list)
        }
        brief = {**act.manifest, "labels": labels} if labels else act.manifest
        whole = json.dumps(brief, indent=2, ensure_ascii=False, default=str)
        found.append((ACT_TITLES[name], cells, shown(whole)))
    return found
