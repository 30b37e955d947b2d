"""Time to an equal reward: Plaudit's PPO and TRL 1.12.0's, against one reward that costs next to nothing.

    python benchmarks/equal_reward.py model --model DIR --data DIR    # a real model, friendly words
    python benchmarks/equal_reward.py world                           # the built-in world, its own truth
    python benchmarks/equal_reward.py model --quick                   # tiny: does everything still work?

Writes benchmarks/results/equal_reward.json. All sides have the same model, prompts, batch, answers' length, epochs, KL
coefficient and temperature, start their values at zero, and learn at rates that were chosen for each of them on a seed
that is not reported. Seconds are of the wall, from the start of training on. In the world each seed has an SFT model
of its own, the demo's.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from bench import WORK
from curves import Contest, Contestant, Course, add_contest, contest_table, ours, real_course
from prepare import default_depth
from study import Study, add_model, model_of

from plaudit import Chat, load_recipe, run_act
from plaudit.material import Material
from plaudit.recipe_file import shipped_recipe

TRL: dict[str, Any] = {"module": "peers.trl_learning", "trl": "1.12.0"}
FULL, LORA = "TRL, full fine-tuning", "TRL, LoRA on all layers"
PEERS = {
    "trl": Contestant(name=FULL, guess=1e-5, **TRL),
    "trl_lora": Contestant(name=LORA, guess=3e-4, options={"lora": True}, **TRL),
    "trl_tuned": Contestant(name="TRL patched, full fine-tuning", guess=1e-5, options={"tuned": True}, **TRL),
    "trl_tuned_lora": Contestant(
        name="TRL patched, LoRA on all layers", guess=3e-4, options={"lora": True, "tuned": True}, **TRL
    ),
}
"""TRL as it is trains all weights. Patched: without what it computes for nothing (peers/trl_ppo.py)."""
OURS = ("default_depth", "full_depth")
ALL_LAYERS = "Plaudit, adapters on all layers"
IN_THE_WORLD = {
    "last_layer": ours(3, 8e-3, "Plaudit, adapters above 3 of 4"),
    "full_depth": ours(0, 4e-3, ALL_LAYERS),
    "trl": Contestant(name=FULL, guess=5e-4, **TRL),
    "trl_lora": Contestant(name=LORA, guess=4e-3, options={"lora": True}, **TRL),
}
"""A network of a million weights wants higher rates (benchmarks/depth.py world)."""
WORLD_SIZES = {"batch": 96, "response": 40, "updates": 50, "micro_batch": 24}
SMALL = ["sft.examples=64", "ppo.prompts_per_step=8", "ppo.steps=4"]


def world_courses(out: Path, *, quick: bool) -> Callable[[int], Course]:
    """By seed: the demo's SFT model, and its prompts of PPO."""

    @cache
    def course(seed: int) -> Course:
        changes = [f"seed={seed}", f"out={out}", f"name=seed_{seed}", *(SMALL if quick else [])]
        recipe = load_recipe(shipped_recipe("demo"), changes)
        run_act(recipe, "sft", quiet=True)  # skips what is done
        model = str((out / f"seed_{seed}" / "round_0" / "sft" / "model").resolve())
        chat = Chat.load(model)
        prompts = Material(recipe).ppo_prompts(chat, 0)
        ids = [chat.prompt_ids(prompt) for prompt in prompts]
        inputs = WORK / f"equal_reward.world.{seed}.json"
        questions = [prompt.messages[-1].content for prompt in prompts]
        ends = {"eos_id": chat.eos_ids[0], "pad_id": chat.pad_id}
        inputs.write_text(json.dumps({"prompts": ids, "questions": questions, **ends}))
        figures = {"prompts": len(ids), "mean_tokens": statistics.mean(map(len, ids))}
        return Course(name="world", model=model, inputs=inputs, reward="truth", prompts=figures)

    return course


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds: Any = parser.add_subparsers(dest="kind", required=True)
    on_model = kinds.add_parser("model", help="a model folder and a scripted reward")
    in_world = kinds.add_parser("world", help="the built-in world and its truth")
    add_model(on_model)
    in_world.add_argument("--quick", action="store_true", help="tiny sizes")
    for kind, sides in ((on_model, [*OURS, *PEERS]), (in_world, [*IN_THE_WORLD])):
        add_contest(kind, epochs=4)
        kind.add_argument("--sides", nargs="+", choices=sides, default=sides[:4])
        kind.add_argument("--baseline", choices=sides, default="trl", help="the side that others are compared with")
    in_world.add_argument("--out", type=Path, default=Path("runs/equal_reward"))
    in_world.set_defaults(epochs=2, **WORLD_SIZES)
    arguments = parser.parse_args()
    quick = arguments.quick
    if arguments.baseline not in arguments.sides:
        parser.error(f"--baseline {arguments.baseline} is not among --sides")
    if quick:
        arguments.untuned = True
    study = Study("equal_reward", quick=quick)
    if arguments.kind == "world":
        known = IN_THE_WORLD
        courses = world_courses(WORK / "equal_reward" if quick else arguments.out, quick=quick)
    else:
        folder = model_of(arguments, on_model)
        depth = default_depth(folder)
        known = PEERS | {
            "default_depth": ours(depth, 1.2e-3, f"Plaudit, adapters above {depth}"),
            "full_depth": ours(0, 3e-4, ALL_LAYERS),
        }
        courses = real_course(study, folder, arguments)
    contestants = [known[side] for side in arguments.sides]
    contest = Contest(study, courses, arguments)
    study.conclude(arguments.kind, contest.hold(contestants, known[arguments.baseline].name))
    print(contest_table(study.content["summary"][arguments.kind]))


if __name__ == "__main__":
    main()
