"""What Act III leaves behind: its state, the policy, samples to read, rollouts to study."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.data.chat import Chat
from plaudit.models.checkpoints import load_tensors, save_peft, save_tensors
from plaudit.models.loading import save_causal_lm
from plaudit.models.trunk import Trunk
from plaudit.progress import Journal
from plaudit.rl.doubtful import DOUBTFUL
from plaudit.rl.rollout import POLICY
from plaudit.types import InputError, Rollout

if TYPE_CHECKING:
    from plaudit.rl.ppo import Learner

STATE = "state.safetensors"
SAMPLES = "samples.jsonl"
POLICIES = "policies"


def save_state(learner: Learner, folder: Path, *, step: int) -> None:
    """Everything that `step` steps have made; random numbers need no state, they are keyed by step."""
    tensors = {
        "step": torch.tensor(step),
        # float64: the coefficient is a Python float, and going on must be bit-identical.
        "kl_coefficient": torch.tensor(learner.controller.coefficient, dtype=torch.float64),
    }
    for prefix, piece in pieces(learner).items():
        tensors |= {f"{prefix}/{k}": v for k, v in piece.items()}
    # One entry of metadata: of several the library shuffles the order, and equal states must be equal files.
    save_tensors(folder / STATE, tensors, {"trunk": learner.trunk.hash()})


def resume_state(learner: Learner, folder: Path) -> int:
    """Load the state of a stopped run, if there is one; returns the number of steps that are done."""
    if not (folder / STATE).is_file():
        return 0
    tensors = load_tensors(folder / STATE, trunk_hash=learner.trunk.hash())
    for part in learner.parts:
        learner.trunk.part(part).load_state_dict(under(part, tensors))
    learner.value_head.load_state_dict(under("value_head", tensors))
    learner.policy_stepper.load_state(under("policy_stepper", tensors))
    learner.value_stepper.load_state(under("value_stepper", tensors))
    learner.controller.coefficient = float(tensors["kl_coefficient"])
    return int(tensors["step"])


def keep_policy(trunk: Trunk, path: Path) -> None:
    """The policy alone, as it is now."""
    own = {f"{POLICY}/{k}": v for k, v in trunk.part(POLICY).state_dict().items()}
    save_tensors(path, own, {"trunk": trunk.hash()})


def load_policy(learner: Learner, folder: Path) -> None:
    """Begin with the policy of an earlier round on the same trunk."""
    tensors = load_tensors(folder / STATE, trunk_hash=learner.trunk.hash())
    learner.trunk.part(POLICY).load_state_dict(under("policy", tensors))


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one piece, by their own names."""
    return {k.removeprefix(prefix + "/"): v for k, v in tensors.items() if k.startswith(prefix + "/")}


def pieces(learner: Learner) -> dict[str, dict[str, Tensor]]:
    return {part: learner.trunk.part(part).state_dict() for part in learner.parts} | {
        "value_head": learner.value_head.state_dict(),
        "policy_stepper": learner.policy_stepper.state(),
        "value_stepper": learner.value_stepper.state(),
    }


def export_policy(trunk: Trunk, chat: Chat, folder: Path) -> None:
    """The adapter in PEFT's format, and the merged model that `from_pretrained` opens."""
    save_peft(trunk, POLICY, folder / "adapter")
    save_causal_lm(trunk.decoding_copy(POLICY), folder / "model", eos_ids=chat.eos_ids, pad_id=chat.pad_id)
    chat.save(folder / "model")


def show_samples(rollout: Rollout, score_B: Tensor, kl_B: Tensor, *, step: int, journal: Journal, folder: Path) -> None:
    """Three decoded samples with score and KL: the first sign of a reward that is fooled is in the text."""
    with (folder / SAMPLES).open("a", encoding="utf-8") as file:
        for b in range(min(3, len(rollout.texts))):
            asked = rollout.prompts[b].messages[-1].content
            score, kl = float(score_B[b]), float(kl_B[b])
            journal.say(f"  step {step}  score {score:+.2f}  kl {kl:+.2f}  {asked!r} -> {rollout.texts[b]!r}")
            row = {"step": step, "prompt": asked, "response": rollout.texts[b], "score": score, "kl": kl}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def rewind(folder: Path, step: int) -> None:
    """Forget the answers that this step and later ones wrote down: a run that goes on from a checkpoint gives them
    again."""
    for path in (folder / SAMPLES, folder / DOUBTFUL):
        if not path.exists():
            continue
        with path.open(encoding="utf-8") as file:  # only a newline ends a line: texts may hold U+2028
            lines = list(file)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] < step]
        if len(kept) < len(lines):
            path.write_text("".join(kept), encoding="utf-8")


def dump_rollout(rollout: Rollout, rewards_BT: Tensor, advantages_BT: Tensor, *, step: int, folder: Path) -> None:
    """One Parquet file per step, one row per response token."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError("ppo.dump_rollouts needs pyarrow: pip install 'plaudit[data]'") from error
    mask_BT = rollout.response_mask_BT.cpu()
    rows_N, places_N = mask_BT.nonzero(as_tuple=True)
    columns: dict[str, list[object]] = {
        "step": [step] * len(rows_N),
        "prompt": [rollout.prompts[b].id for b in rows_N.tolist()],
        "row": rows_N.tolist(),
        "position": places_N.tolist(),
    }
    grids = {
        "token": rollout.response_tokens_BT,
        "logprob": rollout.logprobs_BT,
        "ref_logprob": rollout.ref_logprobs_BT,
        "value": rollout.values_BT,
        "reward": rewards_BT,
        "advantage": advantages_BT,
    }
    columns |= {name: grid.cpu()[mask_BT].tolist() for name, grid in grids.items()}
    (folder / "rollouts").mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "rollouts" / f"step_{step:05d}.parquet")  # pyright: ignore[reportUnknownMemberType]
