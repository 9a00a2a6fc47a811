"""Settings of an encode by name: from a recipe or a TOML file, and into one.

What is given on the command line or in the environment wins over the file, the file over the
recipe, the recipe over the defaults.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from nvcodec import __version__
from nvcodec.cli.values import amount, part, rate, seconds, shares, size, size_or_side
from nvcodec.codec.recipes import RECIPES
from nvcodec.errors import UsageError

_GROUPS = ({"bpp", "bitrate", "size", "psnr"}, {"preset", "passes"})
"""Settings that mean one thing: to give one of them takes the others back."""
_NOT_SETTINGS = {
    "source", "output", "recipe", "config", "save_config", "log", "tensorboard", "wandb", "resume",
    "distributed", "dry_run", "overwrite", "json", "quiet", "verbose",
}  # fmt: skip
"""Where to read and write, and how to behave: of no effect on the file."""


def settings_of(ctx: click.Context) -> dict[str, click.Parameter]:
    """Return the options of the command that decide on its result."""
    return {p.name: p for p in ctx.command.params if p.name and p.name not in _NOT_SETTINGS}


def settle(ctx: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options with what --config and --recipe say of those that were not given.

    Options of the architecture add up, name by name. Raises UsageError.
    """
    path = given["config"]
    loaded = {} if path is None else load_settings(ctx, Path(path))
    recipe = dict(RECIPES.get(given["recipe"], {}))
    explicit = {
        name
        for name in settings_of(ctx)
        if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    models = [layer.pop("model", {}) for layer in (recipe, loaded)]
    below = _without(_without(recipe, set(loaded)) | loaded, explicit)
    settled = given | below
    if settled["arch"] != recipe.get("arch"):
        # They are options of another architecture.
        models[0] = {}
    settled["model"] = models[0] | models[1] | given["model"]
    return settled


def _without(layer: dict[str, Any], above: set[str]) -> dict[str, Any]:
    """Return the settings of a layer that those above it do not replace."""
    replaced = above.union(*(group for group in _GROUPS if group & above))
    return {name: value for name, value in layer.items() if name not in replaced}


def load_settings(ctx: click.Context, path: Path) -> dict[str, Any]:
    """Return the settings of a TOML file; raise UsageError with one sentence."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    params = settings_of(ctx)
    loaded = {}
    for name, value in table.items():
        if name not in params:
            allowed = ", ".join(sorted(params))
            raise UsageError(f"{path} has an unknown setting {name}; allowed are {allowed}")
        try:
            loaded[name] = _read(ctx, params[name], value)
        except (click.BadParameter, ValueError) as error:
            reason = error.message if isinstance(error, click.BadParameter) else str(error)
            raise UsageError(f"{path}: {name} is {value!r}: {reason.rstrip('.')}") from error
    return loaded


def _read(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Return a TOML value as the option has it; raise BadParameter or ValueError."""
    if param.name == "model":
        if not isinstance(value, dict):
            raise ValueError("a table is needed")
        return {name.replace("-", "_"): _model_value(name, item) for name, item in value.items()}
    kind, allowed = _kind(param)
    if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):
        raise ValueError(f"{kind} is needed")
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return param.process_value(ctx, value)


def _kind(param: click.Parameter) -> tuple[str, tuple[type, ...]]:
    """Return what kind of value an option takes, in words and as Python types."""
    if isinstance(param.type, click.types.BoolParamType):
        return "true or false", (bool,)
    if isinstance(param.type, click.types.IntParamType):
        return "a whole number", (int,)
    if isinstance(param.type, click.types.FloatParamType):
        return "a number", (int, float)
    callback = getattr(param, "callback", None)
    if callback in (amount, seconds, size_or_side, part, rate):
        return "a number or a text", (int, float, str)
    if callback is shares:
        return "a list of numbers", (list,)
    return "a text", (str,)


def _model_value(name: str, value: Any) -> str:
    if isinstance(value, list) and all(type(item) is int for item in value):
        return ",".join(map(str, value))
    if type(value) is int or isinstance(value, str):
        return str(value)
    raise ValueError(f"{name} needs a whole number, a list of them or a name")


def chosen(ctx: click.Context, settled: dict[str, Any]) -> dict[str, Any]:
    """Return all settings of a run as plain values, those without a value left out."""
    values = {}
    for name, param in settings_of(ctx).items():
        value = settled[name]
        callback = getattr(param, "callback", None)
        if callback in (size, size_or_side) and isinstance(value, tuple):
            value = f"{value[0]}x{value[1]}"
        elif callback is part:
            value = f"{value[0]}/{value[1]}"
        elif callback is rate and value is not None:
            value = str(value)
        if value is not None:
            values[name] = list(value) if isinstance(value, tuple) else value
    model = {k: int(v) if str(v).isdecimal() else v for k, v in settled["model"].items()}
    return values | {"model": model}


def to_toml(settings: dict[str, Any], recipe: str | None) -> str:
    """Return settings as the text of a TOML file; tables come last."""
    origin = "" if recipe is None else f", from recipe {recipe}"
    lines = [f"# settings of nvcodec {__version__} encode{origin}"]
    tables = {name: value for name, value in settings.items() if isinstance(value, dict)}
    lines += [f"{k} = {_toml(v)}" for k, v in settings.items() if k not in tables]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    # A JSON string is a TOML string but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
