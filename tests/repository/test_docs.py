"""The documents say what the code does: every key that is written is explained, every test and line named is there."""

from __future__ import annotations

import ast
import functools
import json
import re
import typing
from pathlib import Path
from typing import Any

import pytest

import tiny
from plaudit.data.registry import FORMATS
from plaudit.data.targets import TARGETS
from plaudit.recipe import PreferenceFormat
from plaudit.rounds import run

ROOT = Path(__file__).resolve().parents[2]
METRICS = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
DETAILS = (ROOT / "docs" / "details.md").read_text(encoding="utf-8")
OF_AN_OBJECTIVE = "^(score/|probe_loss/|probe_ridge/).*"
CHECKPOINTS = {"base", "sft", "rlhf", "dpo", "best_of_n", "ceiling"}


def named(heading: str) -> set[str]:
    """The keys in the first column of the table below a heading."""
    _, found, rest = METRICS.partition(f"\n{heading}\n")
    assert found, heading
    return set(re.findall(r"^\| `([^`]+)` \|", re.split(r"\n#{2,3} ", rest)[0], re.MULTILINE))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A run with everything that writes keys of its own: a second judge, a ceiling, a world, log-probs recomputed."""
    recipe = tiny.recipe(
        tmp_path_factory.mktemp("documented"),
        tiny_folder,
        reward={
            "second_judge": True,
            "head_start": "probe",
            "likelihood": {"annotators": "reliability"},
            "learning_curve": True,
        },
        feedback={"judgements_per_prompt": 2, "queue": {"order": "active", "shown": 2, "first": 4}},
        sample={"prompts": 64, "batch_size": 32},
        ppo={"old_logprobs": "recomputed"},
        evaluation={"ceiling": "tiny:count_yes", "dpo": True, "best_of": 2},
    )
    return run(recipe, quiet=True).folder


@pytest.mark.parametrize(
    ("file", "section"),
    [
        ("sft", "sft"),
        ("reward", "reward"),
        ("reward/second", "reward"),
        ("asking", "asking"),
        ("ppo", "ppo"),
        ("ceiling", "ppo"),
        ("dpo", "dpo"),
    ],
)
def test_every_metric_is_explained_and_no_other(finished: Path, file: str, section: str) -> None:
    lines = (finished / "round_0" / file / "metrics.jsonl").read_text().splitlines()
    logged = {re.sub(OF_AN_OBJECTIVE, r"\1<objective>", key) for line in lines for key in json.loads(line)}
    expected = named(f"## {section}/metrics.jsonl") | named("## Keys that every line has")
    if section in ("sft", "reward", "dpo"):
        expected |= named("## Keys of every act that trains")
    # The ceiling's reward is no judge on the trunk.
    assert logged == expected - ({"utilisation/reward"} if file == "ceiling" else set())


def test_every_key_of_the_summary_is_explained_and_no_other(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert set(summary) == {"name", "seed", "rounds"}
    (only,) = summary["rounds"]
    every = named("### Every act")
    last_step = named("## ppo/metrics.jsonl")
    assert set(only) == {"sft", "responses", "reward", "ppo", "dpo", "ceiling", "evaluation"}
    assert set(only["sft"]) == every | named("### sft")
    assert set(only["responses"]) == named("### responses")
    first, second = (
        {re.sub(OF_AN_OBJECTIVE, r"\1<objective>", key) for key in found}
        for found in (only["reward"], only["reward"]["second"])
    )
    assert first == every | named("### reward")
    assert second == named("### reward") - {"judgements", "judgements_by", "second"}
    assert set(only["reward"]["objectives"]["overall"]) <= named("### reward")
    for act in ("ppo", "ceiling"):
        keys = {re.sub(OF_AN_OBJECTIVE, r"\1<objective>", key) for key in only[act]}
        expected = every | last_step | named("### ppo and ceiling")
        assert keys == expected - ({"utilisation/reward"} if act == "ceiling" else set())
    assert set(only["dpo"]) == every | named("## dpo/metrics.jsonl") | named("### dpo")
    evaluation = {key: value for key, value in only["evaluation"].items() if key not in every}
    assert set(paths(evaluation)) == named("### evaluation")


def test_who_compared_is_said(finished: Path) -> None:
    (only,) = json.loads((finished / "summary.json").read_text())["rounds"]
    assert only["evaluation"]["win_rate_by"] == "people of the world who did not teach the judge"


def paths(value: Any, *before: str) -> list[str]:
    """Dotted keys down to figures; estimates are figures."""
    if not isinstance(value, dict) or set(value) == {"value", "low", "high"}:
        return [".".join(before)]
    return [path for key, inner in value.items() for path in paths(inner, *before, placeholder(key, *before))]


def placeholder(key: str, *before: str) -> str:
    """The document's word for a name that depends on the run."""
    if key in CHECKPOINTS and before in (("text",), ("truth",), ("kl",), ("rivals",), ("judge",), ("second_judge",)):
        return "<checkpoint>"
    return "<objective>" if key == "total" else key


# -- details.md -----------------------------------------------------------------------------------------------------

ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in DETAILS.splitlines()
    if line.startswith("| ") and not line.startswith("| Detail ")
]


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Functions, classes, their methods and fields, and constants of a file; `Class.method` where inside a class."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for prefix, one in [("", node), *((owner, i) for i in inner)]:
            if isinstance(one, ast.FunctionDef | ast.ClassDef):
                names.add(prefix + one.name)
            elif isinstance(one, ast.AnnAssign | ast.Assign):
                targets = one.targets if isinstance(one, ast.Assign) else [one.target]
                names |= {prefix + target.id for target in targets if isinstance(target, ast.Name)}
    return frozenset(names)


def test_the_tables_of_the_details_are_whole() -> None:
    assert len(ROWS) > 60
    for row in ROWS:
        assert [bool(cell) for cell in row] == [True] * 4, row


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:50])
def test_a_detail_is_where_it_is_said_to_be(row: list[str]) -> None:
    _, where, _, tests = row
    places = re.findall(r"`([\w/]+\.py): ([\w., ]+)`", where)
    assert places, where
    for file, functions in places:
        known = names_in(ROOT / "src" / "plaudit" / file)
        assert [f for f in functions.split(", ") if f not in known] == [], file
    cited = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
    assert cited, tests
    assert len(cited) == tests.count("::")
    for file, test in cited:
        assert test in names_in(ROOT / "tests" / file), f"{file}::{test}"


FORMATS_DOC = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")


def test_every_format_is_in_the_tables_with_its_fields_and_forms() -> None:
    lines = (line for line in FORMATS_DOC.splitlines() if line.startswith("| `"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert sorted(row[0].strip("`") for row in rows) == sorted(FORMATS)
    for name, fields, _, forms in rows:
        one = FORMATS[name.strip("`")]
        loosely_named = {"argilla", "lm-human-preferences"}  # columns of any name; sample0 to sample3
        written = {target.name for target in TARGETS.values() if target.read_as == one.name}
        assert set(re.findall(r"`([\w-]+)`", forms)) == written, name
        assert one.name in loosely_named or any(
            all(f"`{field}`" in fields for field in shape) for shape in one.shapes
        ), name


def test_a_recipe_knows_every_format_that_holds_rankings() -> None:
    assert set(typing.get_args(PreferenceFormat)) == {"auto"} | {n for n, one in FORMATS.items() if one.judgements}
