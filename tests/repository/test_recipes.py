"""The shipped recipes, and the fields of a recipe."""

from __future__ import annotations

import ast
import functools
import re
import typing
from pathlib import Path

import pytest
from pydantic import BaseModel

from plaudit.recipe import SFT, Recipe
from plaudit.recipe_file import load_recipe

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def sections(annotation: object) -> list[type[BaseModel]]:
    """The recipe sections that an annotation speaks of, as in `SFT | None` or `tuple[PreferenceFile, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [section for part in typing.get_args(annotation) for section in sections(part)]


def fields(section: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key below a section."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        inner = sections(field.annotation)
        keys += [key for one in inner for key in fields(one, f"{prefix}{name}.")] or [prefix + name]
    return keys


def test_there_are_recipes() -> None:
    assert {"demo", "starter"} <= {path.stem for path in RECIPES}
    assert "ppo.kl.coefficient" in fields(Recipe)
    assert "data.preferences.objective" in fields(Recipe)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_parses(path: Path) -> None:
    assert load_recipe(path).name


def test_the_starter_shows_every_field_with_its_default() -> None:
    text = (ROOT / "recipes" / "starter.yaml").read_text(encoding="utf-8")
    missing = [key for key in fields(Recipe) if not re.search(rf"\b{key.rpartition('.')[2]}:", text)]
    assert missing == []
    recipe = load_recipe(ROOT / "recipes" / "starter.yaml")
    assert recipe == Recipe(name="my-run", world=recipe.world, sft=SFT())


@functools.cache
def attributes_read() -> set[str]:
    """Every name that `src/` reads as an attribute, methods aside (`words.split()` reads no field `split`)."""
    read: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        if path.name in ("recipe.py", "recipe_feedback.py", "recipe_fields.py", "recipe_file.py"):
            continue
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
        read |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and id(node) not in called}
    return read


@pytest.mark.parametrize("key", sorted({key.rpartition(".")[2] for key in fields(Recipe)}))
def test_every_field_is_read_somewhere(key: str) -> None:
    assert key in attributes_read(), f"nothing reads .{key}"
