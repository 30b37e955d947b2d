"""How far PPO goes astray after a judge taught by people who mislead, on the demo's leash and without one.

    python benchmarks/leash.py                   # three seeds of the built-in world
    python benchmarks/leash.py --quick           # one seed, few steps: does everything still work?

Writes benchmarks/results/leash.json. The people (`misled.py`) like long and confident answers, and a quarter of their
rankings come upside down. Per seed one judge learns from them, and PPO follows it: on the demo's leash, in the judge's
own units, for three times as many steps as the demo has, on one in deviations of the scores, and on none. Policies
kept on the way answer the world's evaluation prompts. Told is which share of the highest gain in truth is left at the
end. The highest is the highest mean of three neighbouring policies. Of many noisy means the highest is still a lucky
one; so it is told too what share is left where one half of the prompts chooses the policies, and the other half
measures them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import misled
from bench import WORK, say
from study import Record, Study, shown, t_interval, table

from plaudit import Recipe, load_recipe, run_act
from plaudit.contest import Contest
from plaudit.evaluation.truth import score
from plaudit.intervals import Floats
from plaudit.judges import open_judges
from plaudit.material import Material
from plaudit.overoptimization import Followed, Pursuit, policies
from plaudit.progress import Journal
from plaudit.recipe_file import shipped_recipe
from plaudit.run_folder import RunFolder, read_manifest
from plaudit.types import Prompt
from plaudit.workshop import Workshop
from plaudit.worlds.reading import read

LONG = ["ppo.steps=150", "ppo.keep_policy_every=10", "evaluation.prompts=800"]
"""Three times as long as the demo, so that it goes too far if it can."""
WAYS: dict[str, list[str]] = {
    "long": LONG,
    # What the demo's leash is worth to an ordinary judge, counted in deviations of the scores whoever taught it.
    "long, in deviations": [*LONG, "ppo.kl.coefficient=0.07", "ppo.kl.per=deviation"],
    # It rises within a few steps and is lost long before its last; that much can be seen on fewer prompts.
    "plain": [
        "ppo.kl.coefficient=0", "ppo.kl.per=deviation", "ppo.stop_epochs_at_kl=null", "ppo.steps=60",
        "ppo.keep_policy_every=5", "evaluation.prompts=400",
    ],
}  # fmt: skip
SMALL = [
    "sft.examples=64", "sample.prompts=40", "ppo.steps=4", "ppo.keep_policy_every=1", "ppo.prompts_per_step=8",
    "evaluation.prompts=40",
]  # fmt: skip
NEIGHBOURS = 3
SHOWN = 3
"""Answers of each policy at its end that are written down."""
OF_THE_FIRST = 2
"""Answers of the SFT model to each prompt, since every gain is counted from them."""


class Listener(Pursuit):
    """Remembers what was said last."""

    texts: Sequence[str] = ()

    def worth(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> tuple[Floats, Floats]:
        self.texts = texts
        return super().worth(prompts, texts)


def measure(recipe: Recipe) -> Record:
    """The acts of one way, and what each policy that it kept is worth."""
    for act in ("sft", "sample", "reward", "ppo"):
        run_act(recipe, act, quiet=True)
    contest, prompts, done = open_contest(recipe)
    with Journal(done / "evaluation", quiet=True) as journal:
        listener = Listener(contest, prompts, journal)
        listener.best_of_n(OF_THE_FIRST)
        judged_P, truth_P = listener.before
        first: Record = {"truth": float(truth_P.mean()), "judge": float(judged_P.mean()), **manner(listener.texts)}
        kept = policies(done / "ppo", recipe.ppo.steps)
        points = [about(listener, listener.policy(path, step)) for path, step in kept]
    asked = [prompt.messages[-1].content for prompt in listener.prompts]
    said = [{"prompt": prompt, "answer": text} for prompt, text in zip(asked, listener.texts, strict=True)][:SHOWN]
    held, (acts, judged) = held_of(points), (read_manifest(done / act) or {} for act in ("ppo", "reward"))
    say(f"{recipe.name}: peak {held['peak']:.3f}, end {held['end']:.3f}, KL {points[-1]['kl']:.1f}")
    figures: Record = {"sft": first, "points": points, "samples": said, "held": held}
    return figures | {"judge_accuracy": judged["result"]["accuracy"], "ppo_seconds": acts["seconds"]}


def open_contest(recipe: Recipe) -> tuple[Contest, list[Prompt], Path]:
    """Who may judge in a run, what is asked, and the folder of its first round."""
    run, material = RunFolder(recipe.out / recipe.name, cache=None, quiet=True), Material(recipe)
    workshop, done = Workshop(recipe, material, run), run.path / "round_0"
    contest = Contest(
        recipe=recipe,
        workshop=workshop,
        world=material.world,
        judges=open_judges(workshop, done),
        sampling=workshop.evaluation_sampling,
    )
    return contest, material.evaluation_prompts(workshop.chat), done


def about(listener: Listener, one: Followed) -> Record:
    world = listener.contest.world
    assert world is not None
    parts = score(world.truth(), listener.prompts, listener.texts)
    return {
        "step": one.label,
        "kl": one.kl,
        "gain": float(one.measured_P.mean()),
        "halves": [float(one.measured_P[half::2].mean()) for half in range(2)],
        "judge_gain": float(one.judged_P.mean()),
        "truth": {name: float(values.mean()) for name, values in parts.items()},
        **manner(listener.texts),
    }


def manner(texts: Sequence[str]) -> Record:
    """How long answers are, and how boastful."""
    readings = [read(text) for text in texts]
    return {
        "words": statistics.mean(one.words for one in readings),
        "boasts": statistics.mean(one.boasts for one in readings),
        "hedges": statistics.mean(one.hedges for one in readings),
    }


def held_of(points: Sequence[Record]) -> Record:
    """The highest gain, that of the last policy, and its share of the highest."""

    def smooth(gains: Sequence[float]) -> list[float]:
        return [statistics.mean(gains[i : i + NEIGHBOURS]) for i in range(max(1, len(gains) - NEIGHBOURS + 1))]

    means = smooth([point["gain"] for point in points])
    place, end = means.index(max(means)), points[-1]["gain"]
    halves = [smooth([point["halves"][half] for point in points]) for half in range(2)]
    apart = statistics.mean(halves[1 - half][halves[half].index(max(halves[half]))] for half in range(2))
    steps = [point["step"] for point in points[place : place + NEIGHBOURS]]
    return {
        "peak": max(means),
        "peak_steps": [steps[0], steps[-1]],
        "peak_by_halves": apart,
        "end": end,
        "share": end / max(means) if max(means) > 0 else None,
        "share_by_halves": end / apart if apart > 0 else None,
    }


def summary_of(parts: Sequence[Record]) -> Record:
    keys = ("peak", "peak_by_halves", "end", "share", "share_by_halves")
    found = {key: t_interval([p["held"][key] for p in parts if p["held"][key] is not None]) for key in keys}
    peak, end = (found[key]["value"] for key in ("peak", "end"))
    return found | {"share_of_means": end / peak if peak > 0 else None}


def shown_table(parts: Sequence[Record]) -> str:
    head = ["seed and way", "SFT", "peak gain", "at steps", "end gain", "share", "by halves", "KL", "judge", "words"]
    rows: list[list[str]] = []
    for part in parts:
        held, first, last = part["held"], part["sft"], part["points"][-1]
        shares = ["–" if held[key] is None else f"{held[key]:.0%}" for key in ("share", "share_by_halves")]
        steps = "–".join(str(step) for step in held["peak_steps"])
        cells = [f"{first['truth']:.3f}", f"{held['peak']:.3f}", steps, f"{held['end']:.3f}", *shares]
        cells += [f"{last['kl']:.1f}", f"{last['judge_gain']:+.2f}"]
        cells += [f"{first[key]:{form}} → {last[key]:{form}}" for key, form in (("words", ".1f"), ("boasts", ".2f"))]
        rows.append([f"{part['settings']['seed']} {part['settings']['way']}", *cells])
    return table([*head, "boasts"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--out", type=Path, default=Path("runs/leash"))
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="acts that ways share; rivals.py too")
    parser.add_argument("--quick", action="store_true", help="one seed, few steps")
    arguments = parser.parse_args()
    study = Study("leash", quick=arguments.quick)
    out, cache = (WORK / "leash", WORK / "cache") if arguments.quick else (arguments.out, arguments.cache)
    people = {"length_bias": misled.LENGTH_BIAS, "confidence_bias": misled.CONFIDENCE_BIAS, "flips": misled.FLIPS}
    parts: list[Record] = []
    for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
        for way in arguments.ways:
            changes = [
                f"seed={seed}",
                f"out={out}",
                f"cache={cache}",
                f"name=seed_{seed}_{way.replace(', ', '_').replace(' ', '_')}",
            ]
            changes += ["evaluation.ceiling=null", "reward.learning_curve=false", *WAYS[way]]
            changes += ["feedback.annotators=misled:people", *(SMALL if arguments.quick else [])]
            recipe = load_recipe(shipped_recipe("demo"), changes)
            settings: Record = {"seed": seed, "way": way, "people": people, "prompts": recipe.evaluation.prompts}
            settings |= recipe.model_dump(mode="json", include={"sample", "reward", "ppo"})
            parts.append(study.part(settings, lambda recipe=recipe: measure(recipe)))
    told = {way: summary_of([p for p in parts if p["settings"]["way"] == way]) for way in arguments.ways}
    study.conclude("ways", told)
    print(shown_table(parts))
    for way, figures in told.items():
        print(f"{way}: gain at its peak {shown(figures['peak'])}, at the end {shown(figures['end'])}; ", end="")
        print(f"share held {shown(figures['share'])}, by halves {shown(figures['share_by_halves'])}")


if __name__ == "__main__":
    main()
