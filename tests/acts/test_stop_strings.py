"""A whole run with stop strings: what people, judges and files see of every act's responses is cut before them."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
from plaudit.data.formats import read_log
from plaudit.rounds import run

STOP = ("cat who", "yes", "four")


def test_no_act_shows_a_stop_string(tiny_folder: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(
        tmp_path, tiny_folder, rounds=2, sample={"stop": STOP}, ppo={"stop": STOP, "samples_every": 1, "steps": 2}
    )
    folder = run(recipe, quiet=True).folder
    seen: dict[str, list[str]] = {"judged": [], "sampled": [], "practised": [], "compared": []}
    ended = 0
    for index in range(2):
        act = folder / f"round_{index}"
        for row in map(json.loads, (act / "responses" / "responses.jsonl").read_text().splitlines()):
            seen["sampled"].append(row["response"]["text"])
            ended += row["response"]["finished"]
        practised = map(json.loads, (act / "ppo" / "samples.jsonl").read_text().splitlines())
        seen["practised"] += [row["response"] for row in practised]
        compared = map(json.loads, (act / "evaluation" / "samples.jsonl").read_text().splitlines())
        seen["compared"] += [text for row in compared for name, text in row.items() if name != "prompt"]
    judgements, _ = read_log(folder / "judgements.jsonl")
    for one in judgements:
        seen["judged"] += [response.text for response in one.responses]
        assert {response.sampling.stop for response in one.responses if response.sampling} == {STOP}
    for where, texts in seen.items():
        assert len(texts) > 5, where
        assert not [text for text in texts if any(s in text for s in STOP)], where
    assert ended
