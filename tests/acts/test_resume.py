"""Whole runs: what is done is skipped, what was stopped goes on and ends as if it never had been."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from folders import ACTS, equal_weights, manifests, rows, timeless
from plaudit import rounds
from plaudit.data.formats import prompt_of, read_judgements, read_log
from plaudit.data.responses import by_prompt, distinct_responses
from plaudit.data.split import split_by_prompt
from plaudit.progress import Journal
from plaudit.rl import ppo
from plaudit.rl.doubtful import is_doubtful
from plaudit.rounds import run, run_act
from plaudit.run_folder import RunFolder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A run of all acts; nobody writes to it."""
    result = run(tiny.recipe(tmp_path_factory.mktemp("straight"), tiny_folder), quiet=True)
    assert result.report.is_file()
    return result.folder


def test_a_run_leaves_everything_behind(uninterrupted: Path) -> None:
    summary = json.loads((uninterrupted / "summary.json").read_text())
    (only,) = summary["rounds"]
    assert set(only) >= {"sft", "reward", "ppo", "evaluation"}
    assert {"value", "low", "high"} <= set(only["reward"]["accuracy"])
    assert 0 <= only["reward"]["length_baseline"] <= 1
    assert {"reward", "kl"} <= set(only["ppo"])
    assert {"value", "low", "high"} <= set(only["evaluation"]["win_rate"])
    assert {"base", "sft", "rlhf"} <= set(only["evaluation"]["truth"])
    for act in ("sft", "reward", "ppo"):
        assert rows(uninterrupted / "round_0" / act / "metrics.jsonl")
        assert list((uninterrupted / "round_0" / act / "tensorboard").iterdir())
        assert (uninterrupted / "round_0" / act / "adapter" / "adapter_model.safetensors").is_file()
        assert (uninterrupted / "round_0" / act / "model" / "tokenizer.json").is_file()
    assert (uninterrupted / "recipe.yaml").is_file()
    assert rows(uninterrupted / "judgements.jsonl")
    assert "<html" in (uninterrupted / "report.html").read_text(encoding="utf-8")


def test_a_run_stopped_after_any_act_goes_on(
    uninterrupted: Path, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny.recipe(tmp_path, tiny_folder)
    act = RunFolder.act
    fresh: list[str] = []

    def stopped(self: RunFolder, name: str, inputs: Any, do: Any, **more: Any) -> Any:
        was_done = self.done(name) is not None
        result = act(self, name, inputs, do, **more)
        if not was_done:
            fresh.append(name)
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "act", stopped)
        for number in range(1, len(ACTS) + 1):
            with pytest.raises(KeyboardInterrupt):
                run(recipe, quiet=True)
            assert fresh == [f"round_0/{name}" for name in ACTS[:number]]  # nothing was done twice
    before = manifests(tmp_path / "tiny")
    result = run(recipe, quiet=True)
    assert manifests(result.folder) == before
    assert timeless(result.summary) == timeless(json.loads((uninterrupted / "summary.json").read_text()))
    assert rows(result.folder / "judgements.jsonl") == rows(uninterrupted / "judgements.jsonl")
    equal_weights(result.folder, uninterrupted)


@pytest.mark.parametrize("name", ["sft", "reward", "ppo"])
def test_a_run_stopped_within_an_act_ends_as_if_it_never_had_been(
    name: str, uninterrupted: Path, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, and nothing is logged twice. PPO goes on from its checkpoint at step 2, having lost two more."""
    recipe = tiny.recipe(tmp_path, tiny_folder)
    folder, log = tmp_path / "tiny", Journal.log
    last = len(rows(uninterrupted / "round_0" / name / "metrics.jsonl")) - 1

    def stopped(self: Journal, step: int, metrics: Any) -> None:
        log(self, step, metrics)
        if self.folder == folder / "round_0" / name and step == (4 if name == "ppo" else last):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "log", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, quiet=True)
    if name == "ppo":
        assert int(load_file(folder / "round_0" / "ppo" / "state.safetensors")["step"]) == 2
    result = run(recipe, quiet=True)
    equal_weights(folder, uninterrupted)
    for file in ("model/model.safetensors", *(["state.safetensors"] if name == "ppo" else [])):
        one, other = (place / "round_0" / name / file for place in (folder, uninterrupted))
        assert one.read_bytes() == other.read_bytes(), file
    assert timeless(result.summary) == timeless(json.loads((uninterrupted / "summary.json").read_text()))
    for log_file in ("metrics.jsonl", "samples.jsonl", "doubtful.jsonl"):
        path = uninterrupted / "round_0" / name / log_file
        if path.exists():
            assert rows(folder / "round_0" / name / log_file) == rows(path), log_file


def test_ppo_stopped_behind_its_last_step_still_says_what_it_came_to(
    uninterrupted: Path, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is saved, the model is not: no step is left whose figures could be returned."""
    recipe, last = tiny.recipe(tmp_path, tiny_folder), tmp_path / "tiny" / "round_0" / "ppo"

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ppo, "export_policy", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, quiet=True)
    assert int(load_file(last / "state.safetensors")["step"]) == recipe.ppo.steps
    result = run(recipe, quiet=True)
    assert timeless(result.summary) == timeless(json.loads((uninterrupted / "summary.json").read_text()))
    assert rows(last / "metrics.jsonl") == rows(uninterrupted / "round_0" / "ppo" / "metrics.jsonl")
    equal_weights(last, uninterrupted / "round_0" / "ppo")


def test_two_rounds(tmp_path: Path, tiny_folder: Path) -> None:
    """The second begins where the first ended: its people judge the new policy, its judge knows both rounds."""
    result = run(tiny.recipe(tmp_path, tiny_folder, rounds=2), quiet=True)
    one, two = result.summary["rounds"]
    assert set(two) >= {"reward", "ppo", "evaluation"}
    assert two["reward"]["rankings"] > one["reward"]["rankings"]
    checkpoints = {r["responses"][0]["checkpoint"] for r in rows(result.folder / "judgements.jsonl")}
    assert {name.partition("@")[0] for name in checkpoints} == {"sft", "round_0/ppo"}
    assert len(checkpoints) == 2  # each with the hash of one set of weights
    later = rows(result.folder / "round_1" / "ppo" / "metrics.jsonl")
    assert abs(rows(result.folder / "round_0" / "ppo" / "metrics.jsonl")[0]["kl"]) < 1e-5
    assert abs(later[0]["kl"]) > 1e-4  # the reference is still the SFT model


@pytest.mark.parametrize("shown", [None, 2])
def test_the_second_round_asks_about_what_the_first_said_and_its_judge_doubts(
    shown: int | None, tmp_path: Path, tiny_folder: Path
) -> None:
    """In their share of the prompts, one beside new answers; and people's rankings of them are learned from."""
    many = {"steps": 6, "prompts_per_step": 8}
    recipe = tiny.recipe(
        tmp_path, tiny_folder, rounds=2, sample={"doubtful_share": 0.25}, reward={"held_out": 0.4}, ppo=many,
        feedback={"queue": {"shown": shown}},
    )  # fmt: skip
    folder = run(recipe, quiet=True).folder
    noted = rows(folder / "round_0" / "ppo" / "doubtful.jsonl")
    _, kept_back = split_by_prompt(noted, 0.4, recipe.seed, lambda row: prompt_of(row["prompt"]))
    assert kept_back  # or nothing is shown about them
    said = by_prompt(rows(folder / "round_1" / "responses" / "responses.jsonl"))
    assert len(said) == 16
    for _, responses in said:
        assert len(responses) == (
            (shown if any(map(is_doubtful, responses)) else None) or recipe.sample.responses_per_prompt
        )
    asked = {p.id: [r for r in responses if r.checkpoint.startswith("round_0/ppo, step ")] for p, responses in said}
    chosen = {prompt: responses[0].text for prompt, responses in asked.items() if responses}
    assert len(chosen) == 4
    assert chosen.items() <= {(prompt_of(row["prompt"]).id, row["response"]["text"]) for row in noted}
    assert not chosen.keys() & {prompt_of(row["prompt"]).id for row in kept_back}
    ranked = read_judgements(folder / "judgements.jsonl").items
    seen = {j.prompt.id for j in read_log(folder / "judgements.jsonl")[0] if any(map(is_doubtful, j.responses))}
    apart = {p.id for p, responses in said if p.id in chosen and len(distinct_responses(responses)) > 1}
    assert seen == apart
    assert seen
    known = json.loads((folder / "round_1" / "reward" / "manifest.json").read_text())["labels"]["judgements"]
    assert {j.id for j in ranked} == set(known)


def test_neither_of_two_judges_is_tested_on_what_was_chosen_by_doubt(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is tested on what the other learned from, but for that."""
    given: list[tuple[Any, Any]] = []
    make = rounds.make_judge

    def noted(workshop: Any, own: Any, training: Any, held_out: Any, also: Any, *more: Any, **named: Any) -> Any:
        given.append((training, also))
        return make(workshop, own, training, held_out, also, *more, **named)

    monkeypatch.setattr(rounds, "make_judge", noted)
    run(
        tiny.recipe(
            tmp_path, tiny_folder, rounds=2, reward={"second_judge": True, "held_out": 0.2},
            sample={"prompts": 32, "doubtful_share": 0.3}, ppo={"steps": 6, "prompts_per_step": 8},
        ),
        quiet=True,
    )  # fmt: skip
    (first, also_first), (second, also_second) = given[2:]
    for tested, learned in ((also_first, second), (also_second, first)):
        doubtful = [j for j in learned if any(map(is_doubtful, j.responses))]
        assert doubtful
        assert tested == [j for j in learned if j not in doubtful]


def test_a_second_judge_that_ppo_never_sees(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(tmp_path, tiny_folder, reward={"second_judge": True}, sample={"prompts": 24})
    result = run(recipe, quiet=True)
    only = result.summary["rounds"][0]
    assert "accuracy" in only["reward"]["second"]
    assert {"judge", "second_judge"} <= set(only["evaluation"])
    folder = result.folder / "round_0" / "reward"
    first, second = load_file(folder / "judge.safetensors"), load_file(folder / "second" / "judge.safetensors")
    assert not torch.equal(first["head.weight_EOD"], second["head.weight_EOD"])


def test_pairs_from_a_file_need_no_world_and_no_sampling(tmp_path: Path, tiny_folder: Path) -> None:
    data = {
        "preferences": (
            {"path": tiny.pair_file(tmp_path / "helpful.jsonl", seed=3), "objective": "helpful"},
            {"path": tiny.pair_file(tmp_path / "kind.jsonl", seed=4), "objective": "kind", "limit": 12},
        ),
        "prompts": tiny.prompt_file(tmp_path / "prompts.jsonl", tiny.questions(30, seed=9)),
        "max_tokens": 48,
    }
    recipe = tiny.recipe(
        tmp_path / "runs", tiny_folder, world=None, sft=None, data=data, ppo={"objective_weights": {"kind": 0.5}}
    )
    result = run(recipe, quiet=True)
    only = result.summary["rounds"][0]
    assert {"reward", "ppo", "evaluation"} <= set(only)
    assert not {"sft", "responses"} & set(only)
    assert set(only["reward"]["objectives"]) == {"helpful", "kind"}
    assert {"score/helpful", "score/kind"} <= set(only["ppo"])
    last = rows(result.folder / "round_0" / "ppo" / "metrics.jsonl")[-1]
    finished = last["finished_share"]
    assert last["score"] == pytest.approx(last["score/helpful"] + 0.5 * last["score/kind"] - (1 - finished), abs=1e-4)
    assert only["evaluation"]["win_rate"]


def test_one_act_at_a_time(uninterrupted: Path, tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(tmp_path, tiny_folder)
    for act, name in zip(("sft", "sample", "reward", "ppo", "evaluate"), ACTS, strict=True):
        assert run_act(recipe, act, quiet=True) == tmp_path / "tiny" / "round_0" / name  # pyright: ignore
    equal_weights(tmp_path / "tiny", uninterrupted)


def test_only_what_the_recipe_performs_is_told(tmp_path: Path, tiny_folder: Path) -> None:
    """What earlier recipes left in the folder, PPO and a second round, is not told as if it were this one's."""
    folder = run(tiny.recipe(tmp_path, tiny_folder, sft=None), quiet=True).folder
    shutil.copytree(folder / "round_0", folder / "round_1")
    changed = run(tiny.recipe(tmp_path, tiny_folder, sft=None, align="dpo"), quiet=True)
    fresh = run(tiny.recipe(tmp_path / "fresh", tiny_folder, sft=None, align="dpo"), quiet=True)
    assert (folder / "round_0" / "ppo").is_dir()
    assert timeless(changed.summary) == timeless(fresh.summary)
    (only,) = changed.summary["rounds"]
    assert set(only) == {"responses", "reward", "dpo", "evaluation"}
    told, expected = (one.report.read_text(encoding="utf-8") for one in (changed, fresh))
    for page in (told, expected):
        assert "1 round" in page
        assert "Clip fraction" not in page  # PPO's curves
        assert f"after {only['dpo']['steps']:.0f} steps" in page
    assert told.count("DPO") == expected.count("DPO")
    assert told.count("PPO") == expected.count("PPO")


def test_a_profiled_run_leaves_traces_and_equal_numbers(uninterrupted: Path, tmp_path: Path, tiny_folder: Path) -> None:
    folder = run(tiny.recipe(tmp_path, tiny_folder), quiet=True, profile=True).folder
    equal_weights(folder, uninterrupted)
    for act in ("sft", "reward", "ppo"):
        assert rows(folder / "round_0" / act / "metrics.jsonl") == rows(
            uninterrupted / "round_0" / act / "metrics.jsonl"
        )
        assert not (uninterrupted / "round_0" / act / "trace.json").exists()
    keys = [json.loads((f / "round_0/ppo/manifest.json").read_text())["key"] for f in (folder, uninterrupted)]
    assert keys[0] == keys[1]
    events = json.loads((folder / "round_0" / "ppo" / "trace.json").read_text())["traceEvents"]
    names = [event.get("name") for event in events]
    assert "aten::mul" in names
    # Three of the four steps, by their phases: the first is left out.
    assert [names.count(phase) for phase in ("reward", "score", "train")] == [3, 3, 3]


def test_rollouts_are_dumped_per_token(tmp_path: Path, tiny_folder: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    recipe = tiny.recipe(
        tmp_path,
        tiny_folder,
        sft=None,
        ppo={"reward": "tiny:count_yes", "dump_rollouts": True, "responses_per_prompt": 2},
    )
    run_act(recipe, "ppo", quiet=True)
    files = sorted((tmp_path / "tiny" / "round_0" / "ppo" / "rollouts").iterdir())
    assert [f.name for f in files] == [f"step_{i:05d}.parquet" for i in range(4)]
    table = parquet.read_table(files[1])
    assert set(table.column_names) >= {
        "step",
        "prompt",
        "row",
        "position",
        "token",
        "logprob",
        "ref_logprob",
        "value",
        "reward",
        "advantage",
    }
    columns = table.to_pydict()
    assert set(columns["row"]) == set(range(8))
    metrics = rows(tmp_path / "tiny" / "round_0" / "ppo" / "metrics.jsonl")[1]
    assert len(columns["token"]) == round(8 * metrics["response_length"])


def test_dpo_never_sees_the_second_judge_s_rankings(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = tiny.recipe(
        tmp_path, tiny_folder, reward={"second_judge": True}, sample={"prompts": 24}, evaluation={"dpo": True}
    )
    (only,) = run(recipe, quiet=True).summary["rounds"]
    assert only["dpo"]["rankings"] == only["reward"]["rankings"]
    assert only["dpo"]["rankings"] < only["reward"]["judgements"] / 2


def test_a_run_says_which_prompts_are_not_evaluated_on(
    tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned = tiny.questions(12, seed=3)
    data = {
        "prompts": tiny.prompt_file(tmp_path / "prompts.jsonl", learned),
        "evaluation_prompts": tiny.prompt_file(tmp_path / "asked.jsonl", [*learned[:5], *tiny.questions(6, seed=9)]),
    }
    run(tiny.recipe(tmp_path, tiny_folder, sft=None, data=data, ppo={"reward": "tiny:count_yes"}))
    why = "it is among the prompts or demonstrations that are learned from"
    assert f"prompts of evaluation: 5 left out ({why})\n" in capsys.readouterr().out
