"""docs/settings.md: every option of every command and every setting behind them, with defaults, from the code."""

import ast
import dataclasses
import inspect
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterator
from importlib import import_module
from io import StringIO
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from cryoformer.baselines.interface import METHODS, baseline
from cryoformer.cli import COMMANDS
from cryoformer.cli.arguments import app
from cryoformer.model.model_config import ModelConfig
from cryoformer.simulate.simulate_config import SimulateConfig
from cryoformer.training.train_config import PRESETS, Stage, TrainConfig

INTRODUCTION = """# Options and settings

Every command with its options, and every setting behind them with its default. Made from the code by
`python docs/tooling/generate.py`; a test fails where it is out of date.

Settings without an option of their own are given as `--set GROUP.NAME=VALUE`, or in a YAML file with `--recipe`:

```yaml
subspace: { dimension: 4 }
stages:
  - { box: 32, epochs: 8 }
  - { box: 128, epochs: 4 }
```

An option overrides the recipe, and the recipe the preset. The `config.yaml` of a run holds all of them, and is a recipe
itself.

"""


def settings_page() -> str:
    """The page."""
    parts = [INTRODUCTION, "## Commands\n"]
    parts += [_command(name, function) for name, function in _commands().items()]
    parts += ["\n## Settings of `train`\n", _table(TrainConfig, leave_out=("subspace", "model", "stages"))]
    parts += ["\n### `subspace`: the linear subspace\n", _table(type(TrainConfig().subspace))]
    parts += ["\n### `stages`: a list, coarse to fine, each with\n", _table(Stage)]
    default = ", ".join(f"{stage.epochs:g} epochs at {stage.box} pixels" for stage in TrainConfig().stages)
    parts += [f"\nBy default: {default}; the last at the images' own box (`full_box`), none larger than it.\n"]
    parts += ["\n### `model`: the network\n", _table(ModelConfig)]
    parts += ["\n### Presets\n", *(_preset(name, values) for name, values in PRESETS.items())]
    parts += ["\n## Settings of `simulate`\n", _table(SimulateConfig)]
    for method in METHODS:
        kind = baseline(method).Settings
        if kind.model_fields:
            parts += [f"\n## Settings of `baseline {method}`\n", _table(kind)]
    return "\n".join(parts).rstrip() + "\n"


def _commands() -> dict[str, Callable[..., Any]]:
    modules = [import_module(f"cryoformer.cli.{name}") for name in COMMANDS]
    functions = {name: name.replace("-", "_") for name in app._subcommands}
    return {name: next(vars(m)[own] for m in modules if own in vars(m)) for name, own in functions.items()}


def _command(name: str, function: Callable[..., Any]) -> str:
    said, told = _docstring(function.__doc__ or "")
    hints = get_type_hints(function, include_extras=True)
    rows, places = [], []
    for parameter in inspect.signature(function).parameters.values():
        hint, text = hints[parameter.name], told.get(parameter.name, "")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            places.append(_argument(hint).metavar or parameter.name.upper())
            rows.append(f"| `{places[-1]}` | {_cell(text)} | |")
        elif dataclasses.is_dataclass(parameter.default):
            group = type(parameter.default)
            inner, each = get_type_hints(group, include_extras=True), dict[str, str]()
            for kind in reversed(group.__mro__[:-1]):
                each |= _docstring(kind.__doc__ or "", "Attributes")[1]
            rows += [_option(f.name, inner[f.name], f.default, each.get(f.name, "")) for f in dataclasses.fields(group)]
        else:
            rows.append(_option(parameter.name, hint, parameter.default, text))
    table = "| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"
    return f"\n### `cryoformer {' '.join([name, *places])}`\n\n{said}\n\n{table}"


def _option(name: str, hint: Any, default: Any, text: str) -> str:
    argument = _argument(hint)
    flags = [*(argument.aliases or ()), f"--{(argument.name or name).replace('_', '-')}"]
    switch = isinstance(default, bool)
    value = "" if switch else f" {argument.metavar or _choices(hint) or 'VALUE'}"
    shown = "needed" if default is inspect.Parameter.empty else "" if default in (None, False, ()) else f"`{default}`"
    return f"| `{', '.join(flags)}{value}` | {_cell(text)} | {shown} |".replace("|1", "\\|1")


@dataclasses.dataclass
class _Argument:
    name: str | None = None
    metavar: str | None = None
    aliases: tuple[str, ...] = ()


def _argument(hint: Any) -> _Argument:
    """What the annotations of a type say to the command line."""
    found = _Argument()
    for inner in (hint, *(get_args(hint) if hasattr(hint, "__metadata__") else ())):
        for note in getattr(inner, "__metadata__", ()):
            for field in ("name", "metavar", "aliases"):
                if getattr(note, field, None):
                    setattr(found, field, getattr(note, field))
    if found.metavar:
        found.metavar = found.metavar.replace("|", "\\|")
    return found


def _choices(hint: Any) -> str:
    """The words of a Literal, wherever in the type it is."""
    if get_origin(hint) is Literal:
        return "\\|".join(map(str, get_args(hint)))
    return next((words for inner in get_args(hint) if (words := _choices(inner))), "")


def _docstring(text: str, section: str = "Args") -> tuple[str, dict[str, str]]:
    """What comes before the arguments, and what is said of each."""
    text = inspect.cleandoc(text)
    said, _, rest = text.partition(f"\n{section}:\n")
    entries = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", rest, re.M)
    return said.strip(), {name: " ".join(told.split()) for name, told in entries}


def _table(kind: type, leave_out: tuple[str, ...] = ()) -> str:
    rows = [
        f"| `{name}` | {_cell(told)} | {_default(default)} |"
        for name, default, told in _fields(kind)
        if name not in leave_out
    ]
    return "| | | default |\n|---|---|---|\n" + "\n".join(rows) + "\n"


def _fields(kind: type) -> Iterator[tuple[str, Any, str]]:
    told = {name: text for parent in reversed(kind.__mro__) for name, text in _comments(parent).items()}
    if issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield name, field.default, field.description or told.get(name, "")
    else:
        for each in dataclasses.fields(kind):
            yield each.name, each.default, told.get(each.name, "")


def _comments(kind: type) -> dict[str, str]:
    """What a class says of its fields: in a string below each, or in a comment ``#:`` above or behind it."""
    if not kind.__module__.startswith("cryoformer"):
        return {}
    source = textwrap.dedent(inspect.getsource(kind))
    body = ast.parse(source).body[0].body  # type: ignore[attr-defined]
    remarks = {
        token.start[0]: token.string[2:].strip()
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT and token.string.startswith("#:")
    }
    lines, found = source.splitlines(), {}
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above, line = [], node.lineno - 1
        while line in remarks and lines[line - 1].lstrip().startswith("#:"):
            above.insert(0, remarks[line])
            line -= 1
        behind = remarks.get(node.end_lineno or 0, "")
        text = " ".join([*above, behind]).strip()
        if not text and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            text = str(after.value.value)
        found[node.target.id] = text
    return found


def _preset(name: str, values: dict[str, Any]) -> str:
    flat = ", ".join(f"`{key}` {_value(value)}" for key, value in values.items()) or "all of the above"
    return f"* `{name}`: {flat}"


def _default(value: Any) -> str:
    if value is PydanticUndefined or value is dataclasses.MISSING:
        return "needed"
    return _value(value)


def _value(value: Any) -> str:
    if isinstance(value, BaseModel):
        return "see above"
    return f"`{str(value).replace('|', chr(92) + '|')}`"


def _cell(text: str) -> str:
    text = re.sub(r":(?:class|func|meth|mod|attr):`~?\.?([\w.]+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")
