"""Time to an equal reward: Plaudit's PPO and TRL 1.12.0's, against one scripted reward on a real model.

    python benchmarks/equal_reward.py --model DIR --data DIR
    python benchmarks/equal_reward.py --quick       # a tiny random model: does everything still work?

Writes benchmarks/results/equal_reward.json. Both sides have the same prompts, batch, answers' length, epochs, KL
coefficient and temperature, start their values at zero, and learn at rates that were chosen for each of them on a seed
that is not reported. The reward costs no time. Seconds are of the wall, from the start of training on.
"""

from __future__ import annotations

import argparse
from typing import Any

from curves import Contest, Contestant, add_contest, contest_table, ours
from prepare import default_depth
from study import Study, model_of

TRL: dict[str, Any] = {"module": "peers.trl_learning", "trl": "1.12.0"}
PEERS = {
    "trl": Contestant(name="TRL, full fine-tuning", guess=1e-5, **TRL),
    "trl_lora": Contestant(name="TRL, LoRA on all layers", guess=3e-4, options={"lora": True}, **TRL),
    "trl_tuned": Contestant(name="TRL patched, full fine-tuning", guess=1e-5, options={"tuned": True}, **TRL),
    "trl_tuned_lora": Contestant(
        name="TRL patched, LoRA on all layers", guess=3e-4, options={"lora": True, "tuned": True}, **TRL
    ),
}
"""TRL as it is trains all weights. Patched: without what it computes for nothing (peers/trl_ppo.py)."""
OURS = ("default_depth", "full_depth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_contest(parser, epochs=4)
    sides = [*OURS, *PEERS]
    parser.add_argument("--sides", nargs="+", choices=sides, default=sides[:4])
    parser.add_argument("--baseline", choices=sides, default="trl", help="the side that others are compared with")
    arguments = parser.parse_args()
    if arguments.baseline not in arguments.sides:
        parser.error(f"--baseline {arguments.baseline} is not among --sides")
    folder = model_of(arguments, parser)
    if arguments.quick:
        arguments.untuned = True
    depth = default_depth(folder)
    ours_by_name = {
        "default_depth": ours(depth, 1.2e-3, f"Plaudit, adapters above {depth}"),
        "full_depth": ours(0, 3e-4, "Plaudit, adapters on all layers"),
    }
    contestants = {side: (ours_by_name | PEERS)[side] for side in arguments.sides}
    study = Study("equal_reward", quick=arguments.quick)
    contest = Contest(study, folder, arguments)
    study.conclude("contest", contest.hold(list(contestants.values()), contestants[arguments.baseline].name))
    print(contest_table(study.content["summary"]["contest"]))


if __name__ == "__main__":
    main()
