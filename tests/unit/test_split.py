"""Splits: no opening on both sides, and nothing moves when rows come or go."""

from __future__ import annotations

from pathlib import Path

import tiny
from plaudit.data.formats import prompt_of
from plaudit.data.split import split_by_prompt
from plaudit.material import Material
from plaudit.types import Prompt


def prompts(count: int) -> list[Prompt]:
    return [prompt_of(f"question {i}") for i in range(count)]


def split(items: list[Prompt], share: float, seed: int = 0) -> tuple[list[Prompt], list[Prompt]]:
    return split_by_prompt(items, share, seed, lambda prompt: prompt)


def test_the_share_is_met_on_average_and_the_order_kept() -> None:
    items = prompts(2000)
    rest, held_out = split(items, 0.15)
    assert 250 < len(held_out) < 350  # 300 expected, standard deviation 16
    assert sorted(rest + held_out, key=items.index) == items
    assert held_out == sorted(held_out, key=items.index)


def test_no_share_and_the_whole() -> None:
    items = prompts(50)
    assert split(items, 0.0) == (items, [])
    assert split(items, 1.0) == ([], items)


def test_equal_openings_stay_together_whatever_follows() -> None:
    answers = [{"role": "assistant", "content": "A"}, {"role": "user", "content": "and now?"}]
    system = {"role": "system", "content": "Be brief."}
    families = [
        [
            prompt_of(f"question {i}"),
            prompt_of([{"role": "user", "content": f" question {i}\n"}, *answers]),
            prompt_of([system, {"role": "user", "content": f"question {i}"}]),
        ]
        for i in range(60)
    ]
    _, held_out = split([prompt for family in families for prompt in family], 0.5)
    assert all(sum(prompt in held_out for prompt in family) in (0, 3) for family in families)
    assert 0 < len(held_out) < 180


def test_rows_that_come_and_go_move_no_others() -> None:
    items = prompts(100)
    _, few = split(items[10:60][::-1], 0.3)
    _, all_of_them = split(items, 0.3)
    assert set(few) == set(all_of_them) & set(items[10:60])


def test_a_larger_share_holds_out_more_of_the_same() -> None:
    items = prompts(200)
    assert set(split(items, 0.1)[1]) < set(split(items, 0.2)[1])


def test_the_seed_draws_another_split() -> None:
    items = prompts(100)
    assert split(items, 0.5, 0) == split(items, 0.5, 0)
    assert split(items, 0.5, 0) != split(items, 0.5, 1)


def test_a_draw_worked_out_by_hand() -> None:
    # sha256("7\nhello") begins with 2854, and 0x2854 / 0x10000 = 0.15753
    item = prompt_of("hello")
    assert split([item], 0.157, 7) == ([item], [])
    assert split([item], 0.158, 7) == ([], [item])


def test_each_occasion_draws_for_itself() -> None:
    items = prompts(2000)
    rest, _ = split_by_prompt(items, 0.2, 0, lambda prompt: prompt, occasion="evaluation")
    _, held_out = split(rest, 0.15)
    assert 180 < len(held_out) < 300  # 240 expected of 1,600, standard deviation 14


def test_what_is_set_aside_for_evaluation_is_not_what_a_judge_is_tested_on(tmp_path: Path, tiny_folder: Path) -> None:
    asked = tiny.prompt_file(tmp_path / "prompts.jsonl", prompts(400))
    recipe = tiny.recipe(tmp_path, tiny_folder, data={"prompts": asked}, sample={"prompts": 400})
    shown = Material(recipe).sample_prompts(tiny.chat(), 0)
    _, held_out = split(shown, 0.15, recipe.seed)
    assert 250 < len(shown) < 400
    assert 0.08 < len(held_out) / len(shown) < 0.22
