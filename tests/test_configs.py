"""YAML files: every key of recipes, studies and experiments, with values of every wrong kind."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdanalysis.evaluation.configs import ExperimentConfig, StudyConfig, load_experiment, load_study
from cdanalysis.training.recipe import RULES, Recipe, StageConfig, check_values, fits, load_recipe

ROOT = Path(__file__).parent.parent / "configs"
LOADERS = {Recipe: load_recipe, StudyConfig: load_study, ExperimentConfig: load_experiment}
LIST, MAPPING = [[1]], {"a": {"b": 1}}
WRONG = {
    int: ["x", 1.5, True, None, LIST, MAPPING],
    float: ["x", True, None, LIST, MAPPING],
    bool: ["maybe", 3, None, LIST, MAPPING],
    str: [None, LIST, MAPPING],
    list: ["x", 3, None, MAPPING],
    dict: ["x", 3, None, LIST],
    "dataclass": ["x", 3, None, LIST],
}
REQUIRED = {"name": "n", "title": "t", "question": "q", "table": "t"}


def keys_of(kind: Any, path: tuple = ()) -> list[tuple[tuple, Any]]:
    """(path, wrong values) of every key below a type; a number in a path stands for an item of a list."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return []
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in arguments if a is not type(None))
        return [(p, [w for w in wrong if p != path or w is not None]) for p, wrong in keys_of(inner, path)]
    if dataclasses.is_dataclass(kind):
        own = [(path, WRONG["dataclass"])] if path else []
        hints = typing.get_type_hints(kind)
        return own + [found for name, hint in hints.items() for found in keys_of(hint, (*path, name))]
    if origin is list:
        return [(path, WRONG[list]), *keys_of(arguments[0], (*path, 0))]
    if origin is dict:
        return [(path, WRONG[dict]), *keys_of(arguments[1], (*path, "some"))]
    return [(path, WRONG[kind])]


def tree_with(path: tuple, value: Any) -> Any:
    """The smallest tree that has a value there, and what its mappings must have beside."""
    if not path:
        return value
    first, inner = path[0], tree_with(path[1:], value)
    return [inner] if first == 0 else {first: inner}


def filled(kind: Any, tree: Any) -> Any:
    """A tree with what its dataclasses must have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return filled(next(a for a in arguments if a is not type(None)), tree)
    if origin is list and isinstance(tree, list):
        return [filled(arguments[0], item) for item in tree]
    if origin is dict and isinstance(tree, dict):
        return {name: filled(arguments[1], item) for name, item in tree.items()}
    if dataclasses.is_dataclass(kind) and isinstance(tree, dict):
        hints = typing.get_type_hints(kind)
        missing = {f.name: REQUIRED[f.name] for f in dataclasses.fields(kind) if f.default == "???"}
        return missing | {name: filled(hints[name], item) for name, item in tree.items()}
    return tree


def refused(load, path: Path, tree: Any, words: list[str] = ()) -> str:
    """What a loader says of a file; it must be one sentence."""
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ValueError, match=r".") as caught:
        load(path, list(words))
    assert type(caught.value) is ValueError and "\n" not in str(caught.value), caught.value
    return str(caught.value)


def spelled(path: tuple) -> str:
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).removeprefix(".")


EVERY_KEY = [(schema, path, wrong) for schema in LOADERS for path, wrong in keys_of(schema)]


@pytest.mark.parametrize(
    ("schema", "path", "wrong"), EVERY_KEY, ids=[f"{s.__name__}-{spelled(p)}" for s, p, _ in EVERY_KEY]
)
def test_every_key_refuses_what_is_of_another_kind(tmp_path, schema, path, wrong):
    for value in wrong:
        tree = filled(schema, tree_with(path, value))
        assert f"{spelled(path)} must be " in refused(LOADERS[schema], tmp_path / "a.yaml", tree), value


@pytest.mark.parametrize("path", [p for s, p, _ in EVERY_KEY if s is Recipe], ids=spelled)
def test_recipes_within_studies_and_experiments_are_checked_too(tmp_path, path):
    """Those of variants by the experiment, those of retrained heads by the study; and changes by presets and words."""
    wrong = {p: w for s, p, w in EVERY_KEY if s is Recipe}[path]
    for value in wrong[-2:]:
        recipe = filled(Recipe, tree_with(path, value))
        said = refused(load_experiment, tmp_path / "a.yaml", {"name": "n", "question": "q", "recipe": recipe})
        assert f"recipe: {spelled(path)} must be " in said
        if path[:2] == ("stages", 0) and len(path) > 2 and path[2:] not in ((("name",)), ("trains",), ("head",)):
            study = {"name": "n", "title": "t", "retrained": {"JPEG": [3]}, "retraining": recipe["stages"][0]}
            if path[2:4] not in (("head", "task"), ("head", "input"), ("head", "classes"), ("trains", 0)):
                assert "retraining" in (said := refused(load_study, tmp_path / "a.yaml", study))
                assert f"{spelled(path)} must be " in said
        base = {"name": "n", "stages": [{"name": "s"}]}
        change = recipe if path[0] != "stages" else {"stages": {"s": recipe["stages"][0]}} if len(path) > 2 else None
        if change and path != ("preset",):  # presets that are of another kind have a test of their own
            said = refused(load_recipe, tmp_path / "a.yaml", {**base, "presets": {"p": change}}, ["preset=p"])
            assert f"{spelled(path)} must be " in said
            top = path[0]
            word = f"{top}={json.dumps(change[top])}"
            assert f"{spelled(path)} must be " in refused(load_recipe, tmp_path / "a.yaml", base, [word])


@pytest.mark.parametrize("schema", LOADERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize("presets", ["x", 3, LIST, None, {"p": 3}, {"p": LIST}, {"p": None}])
def test_presets_are_mappings(tmp_path, schema, presets):
    tree = filled(schema, {}) | {"presets": presets}
    assert "presets" in refused(LOADERS[schema], tmp_path / "a.yaml", tree, ["preset=p"])


@pytest.mark.parametrize("schema", LOADERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    "words", [["seed"], ["=3"], ["a.b"], ["nmae=3"], ["preset=[1]"], ["preset=q"], ["name={a: 1}"], ["name=[1"]]
)
def test_words_that_change_nothing_are_named(tmp_path, schema, words):
    said = refused(LOADERS[schema], tmp_path / "a.yaml", filled(schema, {}), words)
    assert words[0].partition("=")[0] in said


@pytest.mark.parametrize("schema", LOADERS, ids=lambda s: s.__name__)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- a\n- b\n",
        b"3\n",
        b"a: [b\n",
        b"\xff\xfe\x00name: x",
        b"name: ${nowhere}\n",
        b"null: 3\n",
        b"\tname: x",
        b"? [a]\n: 3\n",
    ],
)
def test_files_that_are_none_are_refused(tmp_path, schema, content):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.yaml") as caught:
        LOADERS[schema](path)
    assert type(caught.value) is ValueError and "\n" not in str(caught.value)


FILES = [(Recipe, p) for p in sorted(ROOT.glob("*.yaml"))]
FILES += [(StudyConfig, p) for p in sorted((ROOT / "evaluate").glob("*.yaml"))]
FILES += [(ExperimentConfig, p) for p in sorted((ROOT / "experiments").glob("*.yaml"))]


@given(which=st.sampled_from(FILES), share=st.floats(0, 1))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_files_that_were_cut_are_read_or_refused_by_a_sentence(tmp_path, which, share):
    schema, file = which
    content = file.read_bytes()
    (tmp_path / "a.yaml").write_bytes(content[: int(share * len(content))])
    try:
        LOADERS[schema](tmp_path / "a.yaml")
    except ValueError as error:
        assert type(error) is ValueError and "a.yaml" in str(error) and "\n" not in str(error)


BAD = (
    -1,
    0,
    1,
    1.5,
    float("nan"),
    float("inf"),
    -0.1,
    [],
    [0.5],
    [0.5, 2.0],
    [1.0, 0.5],
    [1, 2, 3],
    {"classification": -1.0},
)


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k, rules in RULES.items() for n in rules])
def test_values_that_mean_nothing_name_their_key(kind, name):
    """Every rule refuses something, and keeps what a default says."""
    recipe = Recipe("r", stages=[StageConfig("s")])
    check_values(recipe, "here")
    rule, refusals = RULES[kind][name], 0
    for value in BAD:
        if fits(rule[1], value):
            continue
        refusals += 1
        config = dataclasses.replace(kind(), **{name: value})
        with pytest.raises(ValueError, match=rf"^here: there\.{name} must ") as caught:
            check_values(config, "here", "there")
        assert repr(value) in str(caught.value)
    assert refusals


@pytest.mark.parametrize(
    ("load", "change", "says"),
    [
        (load_study, {"perception": ["psnr", "sharpness"]}, "perception: unknown measure 'sharpness'"),
        (load_study, {"perception": ["bpp"]}, "unknown measure 'bpp'"),
        (load_study, {"retrained": {"GIF": [1]}}, "retrained: unknown codec 'GIF'"),
        (load_study, {"baselines": {"JPEG": [30, 500]}}, r"baselines\.JPEG must have levels of 0 to 100"),
        (load_study, {"baselines": {"mbt2018-mean": [0]}}, "must have levels of 1 to 8"),
        (load_study, {"shares": [1.5]}, "shares"),
        (load_study, {"every": 0}, "every must be at least 1"),
        (load_study, {"draws": -1}, "draws must be at least 0"),
        (load_study, {"semantic": 2.0}, "semantic: quality must be"),
        (load_experiment, {"measures": {"m": {"title": "t", "evaluators": ["eyes"]}}}, "unknown evaluator 'eyes'"),
        (load_experiment, {"measures": {"m": {"title": "t", "baselines": ["GIF"]}}}, "unknown baseline 'GIF'"),
        (load_experiment, {"measures": {"m": {"title": "t", "variants": ["v"]}}}, "unknown variant 'v'"),
        (load_experiment, {"measures": {"m": {"title": "t", "task": "sound"}}}, "unknown task 'sound'"),
        (load_experiment, {"measures": {"m": {"title": "t", "bpp": [0.0]}}}, "bpp above 0"),
        (load_experiment, {"plots": [{"table": "m"}]}, r"plots\[0\].table: unknown measure 'm'"),
        (load_experiment, {"crops": {"windows": {"a": [1, 2]}}}, r"crops\.windows\.a must be four numbers"),
        (load_experiment, {"crops": {"baselines": ["GIF"]}}, "crops.baselines: unknown codec 'GIF'"),
        (load_experiment, {"semantic": -0.5}, "semantic: quality must be"),
        (load_experiment, {"bases": {"b": 3.0}}, "bases: quality must be"),
    ],
)  # fmt: skip
def test_what_a_study_or_an_experiment_cannot_do_is_said_when_it_is_read(tmp_path, load, change, says):
    own = {"title": "t"} if load is load_study else {"question": "q"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump({"name": "n", **own, **change}))
    with pytest.raises(ValueError, match=says):
        load(tmp_path / "a.yaml")
