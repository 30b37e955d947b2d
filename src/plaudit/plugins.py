"""Plug-ins: a name `package.module:function` in the recipe becomes the function itself."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any

from plaudit.types import InputError


def resolve_plugin(name: str) -> Callable[..., Any]:
    """The callable that `package.module:function` names; InputError where there is none."""
    module_name, colon, attribute = name.partition(":")
    if not (colon and attribute and all(part.isidentifier() for part in module_name.split("."))):
        raise InputError(f"plug-in {name!r}: expected package.module:function")
    module = _import(name, module_name)
    if not hasattr(module, attribute):
        callables = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        nearest = _nearest(attribute, callables)
        raise InputError(f"plug-in {name!r}: module {module_name} has no {attribute!r}{nearest}")
    found = getattr(module, attribute)
    if not callable(found):
        raise InputError(f"plug-in {name!r}: {attribute!r} is a {type(found).__name__}, expected a function")
    return found


def _import(name: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if not _is_part(missing, module_name):
            raise InputError(
                f"plug-in {name!r}: {module_name} needs the module {missing!r}, which is not installed"
            ) from error
        parent, _, last = missing.rpartition(".")
        raise InputError(f"plug-in {name!r}: no module {missing!r}{_nearest(last, _modules_in(parent))}") from error
    except Exception as error:
        reason = str(error) or "no message"
        raise InputError(
            f"plug-in {name!r}: importing {module_name} failed with {type(error).__name__}: {reason}"
        ) from error


def _is_part(missing: str, module_name: str) -> bool:
    """Whether the module that was not found is the plug-in's own (or a package around it), and not one it imports."""
    return module_name == missing or module_name.startswith(missing + ".")


def _modules_in(parent: str) -> list[str]:
    if not parent:
        return [module.name for module in pkgutil.iter_modules()]
    spec = importlib.util.find_spec(parent)
    folders = spec.submodule_search_locations if spec else None
    return [module.name for module in pkgutil.iter_modules(folders or [])]


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
