"""Write docs/reference from the tables that the code itself reads: `python scripts/make_reference.py`, three seconds.

Nothing on these pages is typed by hand: a word that is missing there is missing in a docstring, a table or a `help=`.
"""

import ast
import inspect
import json
import re
import tempfile
import textwrap
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from schemas import BY_CLASS, Schema, schemas, words_in, words_of
from typer.models import ArgumentInfo, ParameterInfo

from crpbot.cli import app
from crpbot.cli import main as command_line
from crpbot.dataset.features.program import HISTORY
from crpbot.dataset.features.sets import FEATURE_SETS, feature_set
from crpbot.disk import write_whole
from crpbot.model.recipe import Recipe, builtin_recipes, recipe_text
from crpbot.quality.causes.table import CAUSES, FOUNDING_CAUSES
from crpbot.quality.gates import GATES, Gate
from crpbot.web.app import make_app
from crpbot.web.setting import Setting

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
WRITTEN = "Written by `python scripts/make_reference.py`"


def pages() -> dict[str, str]:
    """Return every page by the name of its file below docs/reference."""
    made = schemas()
    written = {
        "features.md": features(),
        "causes.md": causes(),
        "gates.md": gates(),
        "commands.md": commands(),
        "recipe-keys.md": recipe_keys(),
        "json.md": json_page(made),
    }
    found = {name: "".join(lines) for name, lines in written.items()}
    return found | {f"schemas/{name}.json": json.dumps(one, indent=1, ensure_ascii=False) + "\n" for name, one in made.items()}


# Markdown


def row(*cells: str) -> str:
    """Return one line of a table; a bar inside a cell would end it."""
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def head(*names: str) -> str:
    """Return the first two lines of a table, after an empty one."""
    return "\n" + row(*names) + row(*("---" for _ in names))


def code(text: object) -> str:
    """Return a piece of code; nothing of nothing. In backticks a bar cannot be written so that every reader shows it."""
    if "|" in str(text):
        return f"<code>{escape(str(text), quote=False)}</code>"
    return f"`{text}`" if str(text) else ""


# Features


def features() -> Iterator[str]:
    """Tell what every feature of both sets is."""
    yield f"# Features\n\n{WRITTEN}, from `dataset/features/sets/*.toml`. `crpbot features --list` prints the same.\n\n"
    yield (
        "A feature is a formula over `open`, `high`, `low`, `close` and `volume` of the closed candle and over their past. The "
        "window is how many candles without a gap it needs. An exponential mean is there from the first candle on and remembers "
        f"ever less of it; that is why live features start from {HISTORY:,} candles at least. How to write one's own: "
        "[own features](../how-to/own-features.md).\n"
    )
    sources = sources_of("founding-72")
    for name in FEATURE_SETS:
        found = feature_set(name)
        yield f"\n## {name}\n\n{found.description} {len(found)} features; digest `{found.sha256[:16]}…`.\n"
        yield head("feature", "unit", "window", "formula", "source")
        for feature, output in zip(found.names, found.program.outputs, strict=True):
            step = found.program.steps[output]
            source = sources.get(feature.partition("_")[0], "")
            yield row(code(feature), str(step.unit), str(step.warm_up + 1), code(found.formulas[feature]), source)
        if found.where:
            yield head("part", "formula")
            yield from (row(code(part), code(text)) for part, text in found.where.items())


def sources_of(name: str) -> Mapping[str, str]:
    """Return where the features of a set come from, by the first word of their names."""
    text = (files("crpbot.dataset.features") / "sets" / f"{name}.toml").read_text(encoding="utf-8")
    found: Mapping[str, str] = tomllib.loads(text)["sources"]
    return found


# Causes and gates


def causes() -> Iterator[str]:
    """Tell what every cause means."""
    yield f"# Causes\n\n{WRITTEN}, from `quality/causes/table.py`.\n\n"
    yield (
        "They are what `crpbot diagnose` names and `crpbot explain` tells. A critical cause makes every signal worthless; a "
        "warning does not alone. Each has [an example with real numbers](../causes.md#each-cause-with-an-example).\n"
    )
    yield head("cause", "severity", "what it means", "how it is recognised", "what to do")
    for kind in CAUSES.values():
        founding = f" Founding cause {kind.founding}: {FOUNDING_CAUSES[kind.founding]}." if kind.founding else ""
        name = f"[`{kind.code}`](../causes.md#{kind.code})"
        yield row(name, kind.severity, kind.meaning + founding, kind.sign, kind.remedy)


def gates() -> Iterator[str]:
    """Tell what every gate of both tables asks."""
    yield f"# Gates\n\n{WRITTEN}, from `quality/gates.py`. A number that could not be measured fails its gate.\n\n"
    yield (
        "How often each gate is wrong was measured: [the gates and their errors](../gates.md#each-gate-alone). What that means: "
        "[gates and their errors, explained](../explanation/gate-errors.md).\n"
    )
    for name, table in GATES.items():
        yield f"\n## `{name}`\n"
        yield head("gate", "measures", "must be", "target", "required")
        yield from (row(*gate_cells(gate)) for gate in table)


def gate_cells(gate: Gate) -> tuple[str, ...]:
    """Return the line of one gate."""
    return code(gate.name), gate.measures, str(gate.limit), gate.target or "", "yes" if gate.required else "no"


# Commands

Command = Callable[..., Any]


def every_command() -> Iterator[tuple[str, Command]]:
    """Yield the words of each command, with its function."""
    for info in app.registered_commands:
        assert info.name is not None
        assert info.callback is not None
        yield info.name, info.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        own = group.typer_instance.registered_callback
        if own is not None and own.callback is not None and own.invoke_without_command:
            yield str(group.name), own.callback
        for info in group.typer_instance.registered_commands:
            assert info.callback is not None
            yield f"{group.name} {info.name or info.callback.__name__.strip('_').replace('_', '-')}", info.callback


def commands() -> Iterator[str]:
    """Tell what every command takes."""
    yield f"# Commands\n\n{WRITTEN}, from the command line itself. `crpbot COMMAND --help` prints the same.\n\n"
    yield f"{exit_codes()}. Ctrl-C is 130.\n"
    for name, function in every_command():
        text = inspect.getdoc(function) or ""
        words, *examples = text.split("Example: ")
        yield f"\n## `crpbot {name}`\n\n{words.strip()}\n\n"
        yield from (f"Example: `{' '.join(example.split())}`\n\n" for example in examples)
        yield f"Exit codes: {', '.join(map(str, codes_of(function)))}.\n"
        found = list(parameters(function))
        if found:
            yield head("argument", "default", "what it is")
            yield from found


def exit_codes() -> str:
    """Return what the command line says of its exit codes."""
    return re.sub(r"(\d) ", r"`\1` ", (inspect.getdoc(command_line) or "").partition("Exit codes: ")[2]).rstrip(".")


def codes_of(function: Command) -> list[int]:
    """Return the exit codes of a command: 0 and 2, and those that it names itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Exit")
    named = {one.value for call in calls for one in ast.walk(call) if isinstance(one, ast.Constant) and type(one.value) is int}
    return sorted({0, 2} | named)


def parameters(function: Command) -> Iterator[str]:
    """Yield a line for each argument and option of a command."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        if get_origin(hints[name]) is not Annotated:
            continue
        kind, info = get_args(hints[name])[:2]
        assert isinstance(info, ParameterInfo)
        yield row(code(shown(name, kind, info)), default_of(parameter.default), help_of(info))


def shown(name: str, kind: Any, info: ParameterInfo) -> str:  # noqa: ANN401
    """Return an argument as it is typed."""
    if isinstance(info, ArgumentInfo):
        return info.metavar or name.upper()
    named = [one for one in (info.default, *(info.param_decls or ())) if isinstance(one, str) and one.startswith("-")]
    flags = ", ".join(named or [f"--{name.replace('_', '-')}"])
    if kind is bool:
        return flags
    types = [one for one in (get_args(kind) if get_origin(kind) is UnionType else [kind]) if one is not type(None)]
    return f"{flags} {info.metavar or getattr(types[0], '__name__', 'text').upper().replace('STR', 'TEXT')}"


def default_of(value: Any) -> str:  # noqa: ANN401
    """Return a default; an argument without one has to be given."""
    if value is inspect.Parameter.empty or value is ...:
        return "must be given"
    if value is None or value is False:
        return ""
    return code(" ".join(map(str, value)) if isinstance(value, list | tuple) else value)


def help_of(info: ParameterInfo) -> str:
    """Return the words of an argument, with its bounds and its variable."""
    words = [info.help or ""]
    if info.min is not None or info.max is not None:
        words.append(f"From {info.min:.4g}{'' if info.max is None else f' to {info.max:.10g}'}.")
    if info.envvar:
        words.append(f"Or the variable `{info.envvar}`.")
    return " ".join(words)


# Recipe keys


def recipe_keys() -> Iterator[str]:
    """Tell what every key of a recipe is."""
    yield f"# Recipe keys\n\n{WRITTEN}, from `model/recipe.py` and `model/choices.py`. A recipe has these keys and no other.\n\n"
    yield (
        "`crpbot train --recipe mine.toml` reads one. A key without a default has to be there. How to write one: [own recipe]"
        "(../how-to/own-recipe.md); the recipes of the package and what they are worth: [recipes](../recipes.md).\n"
    )
    plain = {name: tomllib.loads(recipe_text(name)) for name in builtin_recipes()}
    yield from keys_of(Recipe, "", plain)
    for one in sections(Recipe):
        section = get_type_hints(Recipe)[one.name]
        yield f"\n## `[{one.name}]`\n\n{(inspect.getdoc(section) or '').partition(chr(10))[0]}\n"
        yield from keys_of(section, one.name, {name: table.get(one.name, {}) for name, table in plain.items()})


def sections(kind: type) -> list[Field[Any]]:
    """Return the fields of a dataclass that are dataclasses themselves."""
    types = get_type_hints(kind)
    return [one for one in fields(kind) if is_dataclass(types[one.name])]


def keys_of(kind: type, where: str, recipes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each key of one section."""
    types, words, inner = get_type_hints(kind), words_of(kind), {one.name for one in sections(kind)}
    yield head("key", "type", "default", "must be", "what it is", "set by")
    for one in fields(kind):
        if one.name not in inner:
            cells = type_words(types[one.name]), key_default(one), must_be(one, types[one.name]), words[one.name]
            yield row(code(f"{where}.{one.name}".lstrip(".")), *cells, set_by(one.name, recipes))


def type_words(kind: Any) -> str:  # noqa: ANN401
    """Return the TOML type of a key."""
    if get_origin(kind) is tuple:
        return {int: "list of whole numbers", str: "list of texts"}[get_args(kind)[0]]
    if get_origin(kind) is Mapping:
        return "section of texts"
    return {int: "whole number", float: "number", bool: "true or false"}.get(kind, "text")


def key_default(one: Field[Any]) -> str:
    """Return the default of a key as TOML has it."""
    if one.default is MISSING and one.default_factory is MISSING:
        return "none"
    value = one.default if one.default is not MISSING else one.default_factory()  # type: ignore[misc]
    return "empty" if value in ("", (), {}) else code(json.dumps(value))


def must_be(one: Field[Any], kind: Any) -> str:  # noqa: ANN401
    """Return what a key must be, by the words of its error."""
    if get_origin(kind) is Literal:
        return ", ".join(code(json.dumps(word)) for word in get_args(kind))
    words: str = one.metadata.get("rule", ("",))[0]
    return words


def set_by(name: str, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return which recipes of the package set a key, and to what; texts of their own are left out."""
    found: dict[str, list[str]] = {}
    for recipe, table in recipes.items():
        if name in table and name not in {"name", "description"}:
            found.setdefault(json.dumps(table[name]), []).append(recipe)
    if len(found) == 1 and sum(map(len, found.values())) == len(recipes):
        return f"all: {code(next(iter(found)))}"
    return "; ".join(f"{', '.join(names)}: {code(value)}" for value, names in found.items())


# JSON


def json_page(made: Mapping[str, Schema]) -> Iterator[str]:
    """Tell every field of what is written as JSON, and every call of the API."""
    yield f"# JSON\n\n{WRITTEN}, from the dataclasses that are written.\n\n"
    yield (
        "A number that could not be measured is `null`; shares and errors are fractions, losses are in nats. The same as JSON "
        "Schema (draft 2020-12): "
        + ", ".join(f"[{name}](schemas/{name}.json)" for name in made)
        + ". A test holds what is really written against them.\n"
    )
    for name, schema in made.items():
        yield f"\n## {name}\n\n{schema['title']}.\n"
        yield head("field", "type", "what it is")
        yield from (row(code(path), kind, words) for path, kind, words in flat(schema, ""))
    yield from api()


def flat(schema: Schema, path: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and words of every field, those of lists and of objects inside too."""
    for name, one in schema.get("properties", {}).items():
        place = f"{path}.{name}".lstrip(".")
        yield place, type_of(one), one.get("description", "")
        if one.get("type") == "object" and set(one.get("properties", ())) == {"before", "after"}:
            continue
        inner, suffix = one, ""
        while "anyOf" in inner or "items" in inner:
            suffix += "[]" if inner.get("items") else ""
            inner = inner.get("items") or next((kind for kind in inner.get("anyOf", ()) if "properties" in kind), {})
        if inner != BY_CLASS:
            yield from flat(inner, place + suffix)


def type_of(schema: Schema) -> str:
    """Return the type of a field in words."""
    if "$ref" in schema:
        return code(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(one)) for one in schema["enum"]) if len(schema["enum"]) < 9 else "one of its table"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(type_of(one) for one in schema["anyOf"]))
    return plain_type(schema, schema.get("type", "anything"))


def plain_type(schema: Schema, kinds: str | list[str]) -> str:
    """Return the type of a field that is of one kind, or of several plain ones."""
    if kinds == "array":
        inside = schema.get("prefixItems") or [schema.get("items", {})]
        return f"{'pair' if 'prefixItems' in schema else 'list'} of {type_of(inside[0]).replace(' or null', '')}"
    if kinds == "object":
        keys = list(schema.get("properties", ()))
        return f"object: {', '.join(map(code, keys))}" if keys in (["before", "after"], list(BY_CLASS["properties"])) else kinds
    return kinds if isinstance(kinds, str) else " or ".join(kinds)


def api() -> Iterator[str]:
    """Tell every call of the dashboard's API, and what it answers."""
    with tempfile.TemporaryDirectory() as home:
        openapi = make_app(Setting(home=Path(home), now=lambda: 0)).openapi()
    yield "\n## The API\n\nOf `crpbot serve`; `/openapi.json` has every bound besides, and `/api` is a page of it.\n"
    yield head("call", "what it does", "parameters", "answer")
    for path, methods in openapi["paths"].items():
        for method, call in methods.items():
            names = ", ".join(code(one["name"]) for one in call.get("parameters", ()))
            yield row(code(f"{method.upper()} {path}"), call.get("description", "").partition("\n\n")[0], names, answer_of(call))
    for name, schema in sorted(openapi["components"]["schemas"].items()):
        text = schema.get("description", "")
        if not text or "properties" not in schema:
            continue
        words = words_in(text)
        yield f"\n### `{name}`\n\n{text.partition(chr(10))[0]}\n"
        yield head("field", "type", "what it is")
        for key, one in schema["properties"].items():
            yield row(code(key), type_of(one), words.get(key, one.get("description", "")))


def answer_of(call: Schema) -> str:
    """Return what a call answers when all is well."""
    status = next(status for status in call["responses"] if status.startswith("2"))
    content = call["responses"][status].get("content", {})
    return next((type_of(one["schema"]) if one.get("schema") else code(kind) for kind, one in content.items()), "")


def write(folder: Path = REFERENCE) -> None:
    """Write every page, whole."""
    for name, text in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, text)


if __name__ == "__main__":
    write()
