"""What cannot go well ends in one clear line, and the run folder stays good."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from transformers import BertConfig, BertModel
from typer.testing import CliRunner

import tiny
from plaudit.cli import app
from plaudit.models import checkpoints
from plaudit.models.checkpoints import load_tensors
from plaudit.progress import Journal
from plaudit.recipe import Recipe
from plaudit.recipe_file import dump_recipe
from plaudit.rounds import run, run_act
from plaudit.run_folder import RunFolder
from plaudit.types import InputError, TrainingError


def command(recipe: Recipe, tmp_path: Path, *more: str) -> tuple[int, str]:
    """Exit code and stderr of `plaudit run`."""
    (tmp_path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml"), "--quiet", *more])
    return done.exit_code, done.stderr


def one_line(text: str) -> bool:
    return text.startswith("error: ") and len(text.strip().splitlines()) == 1 and "Traceback" not in text


def scripted(tmp_path: Path, tiny_folder: Path, reward: str = "tiny:count_yes", **changes: Any) -> Recipe:
    """Act III alone, on a reward of the tests."""
    return tiny.recipe(
        tmp_path, tiny_folder, sft=None, **{**changes, "ppo": {"reward": reward, **changes.get("ppo", {})}}
    )


# -- numbers that are none ------------------------------------------------------------------------------------------


def test_a_reward_that_is_not_a_number(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match=r"tiny:not_a_number returned \[nan\] as 'yes' for the response"):
        run(scripted(tmp_path, tiny_folder, "tiny:not_a_number"), quiet=True)
    code, said = command(scripted(tmp_path, tiny_folder, "tiny:not_a_number"), tmp_path)
    assert code == InputError.exit_code
    assert one_line(said)


def test_a_reward_that_is_no_reward(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="tiny:tokenizer gave"):
        run(scripted(tmp_path, tiny_folder, "tiny:tokenizer"), quiet=True)


def exploding(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """From some step on the first weight of the policy is so large that the next loss is no number."""
    import plaudit.rl.ppo as room

    update = room.update

    def broken(learner: Any, *args: Any, step: int, **more: Any) -> dict[str, float]:
        if step >= after:
            next(iter(learner.trunk.part("policy").parameters())).data.fill_(float("nan"))
        return update(learner, *args, step=step, **more)

    monkeypatch.setattr(room, "update", broken)


def test_a_loss_that_is_not_a_number_says_where_and_keeps_the_checkpoint(
    tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = scripted(tmp_path, tiny_folder)
    with monkeypatch.context() as patch:
        exploding(patch, after=3)
        with pytest.raises(TrainingError, match=r"Act III, step 3, epoch 0: the policy_loss is nan.*learning_rate"):
            run(recipe, quiet=True)
        code, said = command(recipe, tmp_path)
        assert (code, one_line(said)) == (3, True), said
    state = load_tensors(tmp_path / "tiny" / "round_0" / "ppo" / "state.safetensors")
    assert int(state["step"]) == 2
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    assert run(recipe, quiet=True).summary["rounds"][0]["ppo"]["steps"] == 4


@pytest.mark.parametrize(("section", "act"), [("sft", "Act I"), ("reward", "Act II")])
def test_a_learning_rate_far_too_high_in_the_other_acts(
    section: str, act: str, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that overshoots by thirty orders of magnitude."""
    from plaudit.models.optimization import Stepper

    monkeypatch.setattr(Stepper, "learning_rate", 1.0)
    step = Stepper.step

    def far(self: Stepper, where: str) -> float:
        norm = step(self, where)
        for parameter in self.parameters:
            parameter.data.mul_(1e30)
        return norm

    monkeypatch.setattr(Stepper, "step", far)
    recipe = tiny.recipe(tmp_path, tiny_folder, sft={"epochs": 3} if section == "sft" else None, reward={"epochs": 3})
    with pytest.raises(TrainingError, match=rf"{act}, step \d+: the (loss|gradient) is"):
        run(recipe, quiet=True)
    code, said = command(recipe, tmp_path)
    assert (code, one_line(said)) == (3, True), said


# -- a full disk ----------------------------------------------------------------------------------------------------


def full_disk(*_args: Any, **_more: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fill_tensors(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(checkpoints, "save_file", full_disk)


def fill_models(patch: pytest.MonkeyPatch) -> None:
    """The library behind save_pretrained keeps the words of the error alone."""

    def failing(*_args: Any, **_more: Any) -> None:
        raise safetensors.SafetensorError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)}")

    import transformers.modeling_utils as library

    patch.setattr(library, "safe_save_file", failing)


def fill_text(patch: pytest.MonkeyPatch) -> None:
    """No room for the last words of an act, when all else is written."""
    write = Path.write_text

    def failing(self: Path, text: str, *args: Any, **more: Any) -> int:
        if self.name.startswith("manifest.json") and '"status": "done"' in text:
            (self.parent / self.name).open("w").close()  # it was opened, and nothing went in
            full_disk()
        return write(self, text, *args, **more)

    patch.setattr(Path, "write_text", failing)


@pytest.mark.parametrize("fill", [fill_tensors, fill_models, fill_text])
def test_a_full_disk_leaves_the_run_good(
    fill: Callable[[pytest.MonkeyPatch], None],
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = scripted(tmp_path, tiny_folder)
    with monkeypatch.context() as patch:
        fill(patch)
        code, said = command(recipe, tmp_path)
        assert code == 4
        assert one_line(said), said
        assert "the disk is full" in said
    result = run(recipe, quiet=True)
    assert result.summary["rounds"][0]["ppo"]["steps"] == 4
    assert not list(result.folder.rglob("*.partial"))
    metrics = [
        json.loads(line)["step"] for line in (result.folder / "round_0/ppo/metrics.jsonl").read_text().splitlines()
    ]
    assert metrics == [1, 2, 3, 4]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))])
def test_what_is_taken_from_the_cache_is_there_whole_or_not_at_all(
    error: BaseException | type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest may be copied first, and says that the act is done."""
    cache = tmp_path / "cache"

    def do(folder: Path, _journal: Journal) -> dict[str, int]:
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / "model.safetensors").write_bytes(b"weights")
        return {"steps": 3}

    RunFolder(tmp_path / "one", cache=cache, quiet=True).act("round_0/ppo", {}, do)
    other = RunFolder(tmp_path / "two", cache=cache, quiet=True)

    def stopped(source: Path, target: Path, **_more: Any) -> None:
        target.mkdir(parents=True)
        shutil.copy2(source / "manifest.json", target)
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", stopped)
        with pytest.raises((KeyboardInterrupt, OSError)):
            other.act("round_0/ppo", {}, do)
    assert other.done("round_0/ppo") is None
    assert list((tmp_path / "two" / "round_0").iterdir()) == []
    shutil.copytree(cache, tmp_path / "two" / "round_0" / "ppo.partial")  # what a kill leaves
    assert other.act("round_0/ppo", {}, do) == {"steps": 3}
    assert (tmp_path / "two" / "round_0" / "ppo" / "model" / "model.safetensors").read_bytes() == b"weights"
    assert not list((tmp_path / "two" / "round_0").glob("*.partial"))


def test_a_checkpoint_that_was_not_written_whole_leaves_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    path = tmp_path / "state.safetensors"
    checkpoints.save_tensors(path, {"a": torch.ones(2)}, {})

    def half(_tensors: object, file: Path, **_more: object) -> None:
        file.write_bytes(b"half")
        full_disk()

    monkeypatch.setattr(checkpoints, "save_file", half)
    with pytest.raises(OSError, match="No space"):
        checkpoints.save_tensors(path, {"a": torch.zeros(2)}, {})
    assert load_tensors(path)["a"].tolist() == [1.0, 1.0]


# -- models that are none -------------------------------------------------------------------------------------------


def bert(folder: Path) -> Path:
    config = BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def without_config(folder: Path) -> Path:
    folder.mkdir()
    tiny.tokenizer().save_pretrained(folder)
    return folder


def without_weights(folder: Path) -> Path:
    tiny.model_folder(folder)
    (folder / "model.safetensors").unlink()
    return folder


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize("make", [bert, without_config, without_weights, empty, lambda folder: folder])
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_is_no_causal_language_model(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / "wrong")
    for recipe in (tiny.recipe(tmp_path, folder), scripted(tmp_path, folder)):
        with pytest.raises(InputError, match="wrong"):
            run(recipe, quiet=True)
    code, said = command(tiny.recipe(tmp_path, folder), tmp_path)
    assert code == InputError.exit_code, said
    assert one_line(said), said


# -- data that cannot be used ---------------------------------------------------------------------------------------


def test_one_response_per_prompt_is_no_ranking(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match="a ranking needs at least two"):
        tiny.recipe(tmp_path, tiny_folder, sample={"responses_per_prompt": 1})
    (tmp_path / "recipe.yaml").write_text(
        f"name: a\nworld: tiny:world\nmodel: {{path: {tiny_folder}}}\nsample: {{responses_per_prompt: 1}}\n"
    )
    done = CliRunner().invoke(app, ["run", str(tmp_path / "recipe.yaml")])
    assert done.exit_code == InputError.exit_code
    assert "at least two responses" in done.stderr
    single = tiny.judgement(tiny.asked("what"), ["yes", "no"], [[0], [1]])
    row = tiny.judgement_to_dict(single) | {"responses": [{"text": "yes"}], "ranking": [[0]]}
    path = tiny.write_rows(tmp_path / "single.jsonl", [row])
    with pytest.raises(InputError, match="a ranking needs two"):
        run(with_pairs(tmp_path, tiny_folder, path), quiet=True)


def test_the_value_must_have_the_judges_shape(tmp_path: Path, tiny_folder: Path) -> None:
    with pytest.raises(ValueError, match=r"ppo.value_adapter must equal reward.adapter"):
        tiny.recipe(tmp_path, tiny_folder, reward={"adapter": {"rank": 5}})
    assert tiny.recipe(tmp_path, tiny_folder, reward={"adapter": {"rank": 5}}, ppo={"reward": "tiny:count_yes"})
    with pytest.raises(ValueError, match=r"ppo.value_start must be zero where ppo.value_adapter is null"):
        tiny.recipe(tmp_path, tiny_folder, ppo={"value_adapter": None})
    assert tiny.recipe(tmp_path, tiny_folder, ppo={"value_adapter": None, "value_start": "zero"})


def with_pairs(tmp_path: Path, tiny_folder: Path, path: str, **data: Any) -> Recipe:
    prompts = tiny.prompt_file(tmp_path / "prompts.jsonl", tiny.questions(30, seed=9))
    material = {"preferences": ({"path": path},), "prompts": prompts, "max_prompt_tokens": 12, "max_tokens": 24}
    return tiny.recipe(tmp_path / "runs", tiny_folder, world=None, sft=None, data={**material, **data})


def mixed_pairs(tmp_path: Path, long: int) -> str:
    """Twenty good rankings; some whose prompt is too long, one too long with its answer, useless ones."""
    rows = [json.loads(line) for line in Path(tiny.pair_file(tmp_path / "good.jsonl", 20)).read_text().splitlines()]

    def add(words: str, texts: list[str], ranking: list[list[int]]) -> None:
        rows.append(tiny.judgement_to_dict(tiny.judgement(tiny.asked(words), texts, ranking)))

    for i in range(long):
        add("what " * (20 + i), ["yes", "no"], [[0], [1]])
    add("why is a red dog", ["yes " * 20, "no"], [[0], [1]])
    add("why is a blue dog", ["yes", "no"], [[0, 1]])
    add("why is a blue cat", ["", "no"], [[1], [0]])
    rows.append(rows[0])
    return tiny.write_rows(tmp_path / "mixed.jsonl", rows)


def test_what_cannot_be_used_is_left_out_and_counted(tmp_path: Path, tiny_folder: Path) -> None:
    path = mixed_pairs(tmp_path, long=3)
    result = run_act(with_pairs(tmp_path, tiny_folder, path), "reward", quiet=True)
    told = json.loads((result / "manifest.json").read_text())["result"]
    counts = told["left_out"][path]
    assert counts["prompt longer than 12 tokens"] == 3
    assert counts["prompt and response longer than 24 tokens"] == 1
    assert sum(counts.values()) == 7
    assert counts["duplicate ranking"] == 1


def test_too_much_left_out_is_fatal(tmp_path: Path, tiny_folder: Path) -> None:
    path = mixed_pairs(tmp_path, long=3)
    recipe = with_pairs(tmp_path, tiny_folder, path, max_left_out=0.2)
    with pytest.raises(InputError, match=r"26% of the rows were left out.*data.max_left_out allows 20%"):
        run(recipe, quiet=True)
    code, said = command(recipe, tmp_path)
    assert (code, one_line(said)) == (InputError.exit_code, True), said


def test_prompts_too_long_for_ppo_are_counted_too(tmp_path: Path, tiny_folder: Path) -> None:
    prompts = [*tiny.questions(40, seed=9), *(tiny.asked("what " * (20 + i)) for i in range(30))]
    path = tiny.prompt_file(tmp_path / "some.jsonl", prompts)
    recipe = with_pairs(tmp_path, tiny_folder, tiny.pair_file(tmp_path / "good.jsonl"), prompts=path, max_left_out=0.1)
    with pytest.raises(InputError, match=r"ppo prompts: \d+% of the rows were left out.*prompt longer than 12 tokens"):
        run(recipe, quiet=True)


def test_prompts_must_leave_room_for_the_answer_in_the_context(tmp_path: Path, tiny_folder: Path) -> None:
    """The tiny models read 64 tokens at once. A prompt of 60 fits the recipe's limits, but no answer of 5 with
    its EOS behind it."""
    prompts = [*tiny.questions(20, seed=9), *(tiny.asked("what " * 58 + f"{'how ' * (i + 1)}") for i in range(2))]
    path = tiny.prompt_file(tmp_path / "some.jsonl", prompts)
    recipe = tiny.recipe(
        tmp_path,
        tiny_folder,
        sft=None,
        world=None,
        data={
            "prompts": path,
            "preferences": ({"path": tiny.pair_file(tmp_path / "good.jsonl")},),
            "max_prompt_tokens": 200,
            "max_tokens": 400,
            "max_left_out": 0.0,
        },
    )
    with pytest.raises(InputError, match=r"prompts: \d+% of the rows were left out.*prompt longer than 58 tokens"):
        run(recipe, quiet=True)


def test_empty_and_repeated_responses_are_not_shown_to_people(tmp_path: Path, tiny_folder: Path) -> None:
    """A model so cold that it says the same thing thrice leaves nothing to rank; one not so cold, something."""
    warm = tiny.recipe(tmp_path / "warm", tiny_folder, sft=None)
    run_act(warm, "sample", quiet=True)
    log = (tmp_path / "warm" / "tiny" / "judgements.jsonl").read_text().splitlines()
    for line in log:
        texts = [r["text"] for r in json.loads(line)["responses"]]
        assert len(set(texts)) == len(texts) > 1
        assert all(text.strip() for text in texts)
    sampled = (tmp_path / "warm" / "tiny" / "round_0" / "responses" / "responses.jsonl").read_text().splitlines()
    texts = [json.loads(line)["response"]["text"] for line in sampled]
    assert len(texts) == 16 * 3
    assert sum(len(json.loads(line)["responses"]) for line in log) < len(texts)  # something was empty or repeated
    run_act(warm, "reward", quiet=True)
    told = json.loads((tmp_path / "warm/tiny/round_0/reward/manifest.json").read_text())["result"]
    assert sum(sum(counts.values()) for counts in told["left_out"].values()) > 0

    cold = tiny.recipe(tmp_path / "cold", tiny_folder, sft=None, sample={"temperature": 0.01})
    with pytest.raises(InputError, match=r"rank|judge|response"):
        run(cold, quiet=True)
