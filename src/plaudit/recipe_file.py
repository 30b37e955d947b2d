"""Recipes as files: YAML in, a checked `Recipe` out, and errors that say where and what is expected.

Relative paths in a recipe are relative to the current directory, not to the recipe's file, so that a recipe may be
kept anywhere and values from the command line mean the same as those in the file.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from plaudit.recipe import Recipe
from plaudit.types import InputError

Location = tuple[int | str, ...]
_NUMBER = r"[-+]?(?:\d[\d_]*\.[\d_]*|\.\d[\d_]*|\d[\d_]*(?=[eE]))(?:[eE][-+]?\d+)?"


class _Loader(yaml.SafeLoader):
    """Safe YAML that knows only what a recipe needs.

    YAML 1.1 reads `1e-4` as text, `010` as 8, `1:30` as 90 and `2024-01-01` as a date; here the first is a number
    and the others are text. A key given twice is an error, where YAML would silently keep the last.
    """

    yaml_implicit_resolvers = {}
    yaml_constructors = {
        tag: constructor
        for tag, constructor in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.rpartition(":")[2] in {"null", "bool", "int", "float", "str", "seq", "map"}
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key must be plain text", problem_mark=key.start_mark)
            if key.value in seen:
                problem = f"key {key.value!r} is given twice, in lines {seen[key.value]} and {line}"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen[key.value] = line
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader` would read as a number, or as yes or no (`oN`), besides what YAML 1.1 asks for."""


def _reads_as(yaml_class: Any, kind: str, pattern: str, first: str) -> None:
    """Plain text that matches `pattern`, and begins with one of `first`, is of that kind."""
    yaml_class.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), [*first] or [""])


_reads_as(_Loader, "null", "~|null|Null|NULL", "~nN")
_reads_as(_Loader, "null", "", "")
for _each in (_Loader, _Dumper):
    _reads_as(_each, "bool", "(?i:yes|no|true|false|on|off)", "yYnNtTfFoO")
_reads_as(_Loader, "int", r"[-+]?(?:0|[1-9][\d_]*)", "-+0123456789")
_reads_as(_Loader, "merge", "<<", "<")
for _each in (_Loader, _Dumper):
    _reads_as(_each, "float", _NUMBER, "-+.0123456789")


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `section.key=value` overrides; InputError names file, line and key."""
    path = Path(path)
    node, data = _parse(_read(path), lambda line: f"{path}:{line}" if line else str(path))
    if data is None:
        raise InputError(f"{path}: the recipe is empty; `plaudit init` writes one to start from")
    if not isinstance(data, dict):
        raise InputError(f"{path}:1: expected a recipe (lines of `key: value`), found {_shown(data)}")
    values = cast(dict[str, Any], data)
    source = _Source(path=path, node=node, overrides={})
    for override in overrides:
        source.overrides[_apply(values, override)] = override
    return _validate(values, source)


def dump_recipe(recipe: Recipe) -> str:
    """The whole recipe as YAML, defaults included; `load_recipe` reads it back equal."""
    return yaml.dump(recipe.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def shipped_recipe(name: str) -> Path:
    """The file of a recipe that comes with Plaudit, by its name without `.yaml`; InputError where there is none."""
    here = Path(__file__).resolve().parent
    checkout = here.parents[1]
    folders = [here / "recipes"]
    if (checkout / "pyproject.toml").is_file():
        folders.append(checkout / "recipes")
    for folder in folders:
        if (file := folder / f"{name}.yaml").is_file():
            return file
    known = sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})
    raise InputError(f"no recipe {name!r} comes with Plaudit; there are: {', '.join(known) or 'none'}")


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where values came from: a place in the file, or an override."""

    path: Path
    node: yaml.Node | None
    overrides: dict[tuple[str, ...], str]

    def where(self, location: Location) -> str:
        names = tuple(str(part) for part in location)
        # The last override that touched the value, or a section around or in it, is what the user can put right.
        for key, override in reversed(self.overrides.items()):
            if names and key[: len(names)] == names[: len(key)]:
                return f"command line, {override}"
        line = _line(self.node, location)
        return f"{self.path}:{line}" if line else str(self.path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "`plaudit init` writes a recipe to start from"
        raise InputError(f"{path}: no such recipe file; {hint}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def _parse(text: str, place: Callable[[int | None], str]) -> tuple[yaml.Node | None, object]:
    """YAML as its nodes (which know their lines) and as plain values; `place` names a line for errors."""
    try:
        loader: Any = _Loader(text)
        node: yaml.Node | None = loader.get_single_node()
        data: object = None if node is None else loader.construct_document(node)
        # Only what JSON can say may pass; a value that holds itself, infinities and NaN are found here.
        json.dumps(data, allow_nan=False)
        return node, data
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = error.problem or error.context or "unreadable"
        raise InputError(f"{place(mark.line + 1 if mark else None)}: not valid YAML: {reason}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{place(None)}: not valid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, TypeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"{place(None)}: a value cannot be read: {reason}") from None


def _apply(values: dict[str, Any], override: str) -> tuple[str, ...]:
    """Set one `a.b.c=value` in place; the key as a tuple."""
    dotted, equals, text = override.partition("=")
    key = tuple(dotted.strip().split("."))
    if not equals or not all(key):
        raise InputError(f"command line, {override}: expected key=value, as in ppo.kl.coefficient=0.05")
    _, value = _parse(text, lambda _: f"command line, {override}")
    place: Any = values
    for index, part in enumerate(key):
        last = index == len(key) - 1
        slot = _slot(place, part, override)
        if last:
            place[slot] = value
        elif isinstance(place, list):
            place = cast(list[Any], place)[cast(int, slot)]
        else:
            # A section that is absent, null or (wrongly) a value becomes a section; validation judges the result.
            if not isinstance(place.get(slot), dict | list):
                place[slot] = {}
            place = place[slot]
    return key


def _slot(place: Any, part: str, override: str) -> int | str:
    if isinstance(place, dict):
        return part
    length = len(cast(list[Any], place)) if isinstance(place, list) else 0
    if not part.isdecimal() or int(part) >= length:
        raise InputError(f"command line, {override}: {part!r} is no item of a list of {length} (they count from 0)")
    return int(part)


def _validate(values: dict[str, Any], source: _Source) -> Recipe:
    try:
        # By way of JSON: there the strict types take lists for tuples, text for paths and 1 for 1.0, and no more.
        return Recipe.model_validate_json(json.dumps(values))
    except ValidationError as error:
        problems = [
            _problem(item["loc"], item["type"], item["msg"], item["input"], source)
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise InputError("\n".join(problems)) from None


def _problem(location: Location, kind: str, message: str, found: object, source: _Source) -> str:
    where, key = source.where(location), _dotted(location)
    if kind == "extra_forbidden":
        return f"{where}: unknown key {key}; {_nearest(location)}"
    if kind == "value_error":
        reason = message.removeprefix("Value error, ")
        named = re.match(r"[a-z_]+(?:\.[a-z_]+)*", reason)
        place = source.where(tuple(named[0].split("."))) if named else where
        return f"{place}: {f'{key}: ' if key else ''}{reason}"
    if kind == "missing":
        return f"{where}: {key} is missing; expected {_expected(_schema_at(location))}"
    schema = _schema_at(location)
    return f"{where}: {key}: found {_shown(found)}, expected {_expected(schema)}{_advice(found, schema)}"


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)


def _line(node: yaml.Node | None, location: Location) -> int | None:
    """The line (from 1) of the key at a location; of the nearest section around it where it is not in the file."""
    line = None
    for part in location:
        if isinstance(node, yaml.MappingNode):
            # A later entry wins over merged ones, which stand first after construction.
            found = next(((key, value) for key, value in reversed(node.value) if key.value == part), None)
            if found is None:
                break
            line, node = _line_of(found[0]), found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = _line_of(node)
        else:
            break
    return line


def _line_of(node: Any) -> int:
    return node.start_mark.line + 1


# What is expected, read off the recipe's JSON schema: one uniform description of every field.

Schema = Mapping[str, Any]
_SCHEMA: Schema = Recipe.model_json_schema()


def _resolved(schema: Schema) -> Schema:
    """Follows references; of `X or null` it is X."""
    if "$ref" in schema:
        return _resolved(_SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]])
    options: list[Schema] = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
    return _resolved(options[0]) if options else schema


def _schema_at(location: Location) -> Schema:
    schema: Any = _SCHEMA
    for part in location:
        section = _resolved(schema)
        if isinstance(part, int):
            items: Sequence[Schema] = section.get("prefixItems", ())
            schema = items[part] if part < len(items) else section.get("items", {})
        else:
            schema = section.get("properties", {}).get(part) or section.get("additionalProperties") or {}
    return schema


def _expected(schema: Schema) -> str:
    nullable = any(option.get("type") == "null" for option in schema.get("anyOf", ()))
    return _expected_value(_resolved(schema)) + (", or null" if nullable else "")


def _expected_value(schema: Schema) -> str:
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(schema)
    if kind == "string":
        pattern = schema.get("pattern")
        if pattern and "people|" in pattern:
            return "people, endpoint, stand_in or a plug-in, as package.module:function"
        if pattern and "https?" in pattern:
            return "a plug-in, as package.module:function, a folder, as ./judge, a name, as owner/model, or a URL"
        if pattern and ":" in pattern:
            return "a plug-in, as package.module:function"
        if schema.get("minLength"):
            return "text that is not empty"
        return "text" + (f" that matches {pattern}" if pattern else "")
    if kind == "array":
        count = len(schema.get("prefixItems", ()))
        return f"a list of {count} values" if count else "a list"
    if kind == "object":
        known = schema.get("properties")
        return f"a section (keys: {', '.join(known)})" if known else "a section of names and numbers"
    return {"boolean": "true or false"}.get(str(kind), "another value")


def _range(schema: Schema) -> str:
    words = {"exclusiveMinimum": "above", "minimum": "at least", "exclusiveMaximum": "below", "maximum": "at most"}
    parts = [f"{word} {schema[bound]:g}" for bound, word in words.items() if bound in schema]
    return f" {' and '.join(parts)}" if parts else ""


def _shown(found: object) -> str:
    """A value as a recipe would have it, with its kind where that may be the mistake."""
    if found is None:
        return "null"
    if isinstance(found, dict):
        return "a section"
    if isinstance(found, list):
        return f"a list of {len(cast(list[object], found))}"
    if isinstance(found, str):
        return f"the text {found[:60]!r}"
    return json.dumps(found)


def _advice(found: object, schema: Schema) -> str:
    expected = _resolved(schema)
    if isinstance(found, float) and expected.get("type") == "integer" and found.is_integer():
        return f"; write {int(found)}"
    if isinstance(found, int | float) and expected.get("type") == "string" and "enum" not in expected:
        return "; put it in quotes"
    if isinstance(found, str) and (near := difflib.get_close_matches(found, map(str, expected.get("enum", ())), n=1)):
        return f"; did you mean {near[0]}?"
    if found is None and expected.get("type") == "object":
        return "; leave the key out, or write {}"
    return ""


def _nearest(location: Location) -> str:
    """The nearest known key: in the same section, else anywhere in the recipe, else what the section knows."""
    section, word = location[:-1], str(location[-1])
    siblings: list[str] = list(_resolved(_schema_at(section)).get("properties", {}))
    if near := difflib.get_close_matches(word, siblings, n=1):
        return f"did you mean {_dotted((*section, near[0]))}?"
    every = _all_keys(_SCHEMA)
    if near := difflib.get_close_matches(word, {key.rpartition(".")[2] for key in every}, n=1, cutoff=0.8):
        homes = [key for key in every if key.rpartition(".")[2] == near[0]]
        within = [key for key in homes if key.startswith(_dotted(section) + ".")]
        return f"did you mean {(within or homes)[0]}?"
    return f"known here: {', '.join(siblings)}"


def _all_keys(schema: Schema, prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, inner in _resolved(schema).get("properties", {}).items():
        keys += [prefix + name, *_all_keys(inner, f"{prefix}{name}.")]
    return keys
