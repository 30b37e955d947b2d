"""The recipe's file: what is read, and how each mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.recipe import KL, PPO, SFT, Data, Model, Optimizer, PreferenceFile, Recipe
from plaudit.recipe_file import dump_recipe, load_recipe, shipped_recipe
from plaudit.types import InputError

WORLD = "name: a\nworld: some.world:load\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "recipe.yaml"


def error(file: Path, text: str, *overrides: str) -> str:
    """The message of the one error, without the folder of the file."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_recipe(file, overrides)
    return str(caught.value).replace(f"{file.parent}/", "")


def load(file: Path, text: str, *overrides: str) -> Recipe:
    file.write_text(text, encoding="utf-8")
    return load_recipe(file, overrides)


# What is read


def test_lists_become_tuples_whole_numbers_floats_and_text_paths(file: Path) -> None:
    recipe = load(
        file,
        WORLD + "out: some/folder\nppo:\n  clip: 1\n  optimizer: {betas: [0, 0.5]}\n"
        "data:\n  preferences:\n    - path: a.jsonl\n    - {path: b.jsonl, objective: harmless}\n",
    )
    assert recipe.out == Path("some/folder")
    assert recipe.ppo.clip == 1.0
    assert isinstance(recipe.ppo.clip, float)
    assert recipe.ppo.optimizer.betas == (0.0, 0.5)
    assert recipe.data.preferences == (
        PreferenceFile(path="a.jsonl"),
        PreferenceFile(path="b.jsonl", objective="harmless"),
    )


@pytest.mark.parametrize(
    ("written", "value"), [("1e-4", 1e-4), ("1E-4", 1e-4), ("1.e-4", 1e-4), (".5", 0.5), ("1", 1.0), ("5e-1", 0.5)]
)
def test_ways_to_write_a_number(file: Path, written: str, value: float) -> None:
    assert load(file, WORLD + f"sft: {{optimizer: {{learning_rate: {written}}}}}").sft == SFT(
        optimizer=Optimizer(learning_rate=value)
    )


def test_sft_may_be_null(file: Path) -> None:
    assert load(file, WORLD + "sft: null\n").sft is None
    assert load(file, WORLD + "sft: {}\n").sft == SFT()


def test_text_that_yaml_takes_for_something_else_stays_text(file: Path) -> None:
    assert load(file, "name: 2024-01-01\nworld: some.world:load\n").name == "2024-01-01"
    assert load(file, "name: 010\nworld: some.world:load\n").name == "010"


def test_anchors_and_merged_sections(file: Path) -> None:
    recipe = load(file, WORLD + "sample: &s\n  prompts: 7\n  top_p: 0.5\nevaluation:\n  <<: *s\n  prompts: 9\n")
    assert (recipe.sample.prompts, recipe.evaluation.prompts, recipe.evaluation.top_p) == (7, 9, 0.5)


def test_a_byte_order_mark_does_no_harm(file: Path) -> None:
    file.write_text(WORLD, encoding="utf-8-sig")
    assert load_recipe(str(file)).name == "a"


# Overrides


def test_overrides_win_and_the_last_one_most(file: Path) -> None:
    recipe = load(file, WORLD + "ppo: {kl: {coefficient: 0.3}, steps: 3}\n", "ppo.kl.coefficient=1", "seed=1", "seed=2")
    assert recipe.ppo.kl.coefficient == 1.0
    assert (recipe.ppo.steps, recipe.seed) == (3, 2)


def test_an_override_makes_the_section_it_needs(file: Path) -> None:
    assert load(file, WORLD + "sft: null\n", "sft.epochs=2").sft == SFT(epochs=2)
    assert load(file, WORLD, "ppo.objective_weights.helpful=2").ppo.objective_weights == {"helpful": 2.0}


def test_an_override_holds_any_yaml(file: Path) -> None:
    recipe = load(file, WORLD, "ppo={steps: 4, stop_epochs_at_kl: null}", "data.preferences=[{path: a=b}]")
    assert recipe.ppo == PPO(steps=4, stop_epochs_at_kl=None)
    assert recipe.data.preferences[0].path == "a=b"


def test_an_override_reaches_into_a_list(file: Path) -> None:
    text = WORLD + "data: {preferences: [{path: a}, {path: b}]}\n"
    assert [item.path for item in load(file, text, "data.preferences.1.path=c").data.preferences] == ["a", "c"]
    assert error(file, text, "data.preferences.2.path=c") == (
        "command line, data.preferences.2.path=c: '2' is no item of a list of 2 (they count from 0)"
    )


def test_wrong_overrides_name_themselves(file: Path) -> None:
    assert error(file, WORLD, "ppo.kl.coeficient=1") == (
        "command line, ppo.kl.coeficient=1: unknown key ppo.kl.coeficient; did you mean ppo.kl.coefficient?"
    )
    assert error(file, WORLD, "ppo.gamma=1.5") == (
        "command line, ppo.gamma=1.5: ppo.gamma: found 1.5, expected a number at least 0 and at most 1"
    )
    assert error(file, WORLD, "ppo.steps") == (
        "command line, ppo.steps: expected key=value, as in ppo.kl.coefficient=0.05"
    )
    assert error(file, WORLD, "=3").startswith("command line, =3: expected key=value")
    assert error(file, WORLD, "ppo.steps=[1").startswith("command line, ppo.steps=[1: not valid YAML")
    assert error(file, WORLD, "name.x=1").startswith("command line, name.x=1: name: found a section")


# Errors of values: file, line, key, what was found, what is expected


def test_an_unknown_key_names_the_nearest_in_its_section(file: Path) -> None:
    assert error(file, WORLD + "ppo:\n  kl:\n    coeficient: 1\n") == (
        "recipe.yaml:5: unknown key ppo.kl.coeficient; did you mean ppo.kl.coefficient?"
    )


def test_a_key_in_the_wrong_section_is_found_again(file: Path) -> None:
    assert error(file, WORLD + "ppo:\n  schedule: linear\n") == (
        "recipe.yaml:4: unknown key ppo.schedule; did you mean ppo.optimizer.schedule?"
    )
    assert error(file, WORLD + "coefficient: 1\n") == (
        "recipe.yaml:3: unknown key coefficient; did you mean ppo.kl.coefficient?"
    )


def test_a_key_like_no_other_gets_the_list(file: Path) -> None:
    assert error(file, WORLD + "ppo: {kl: {zzz: 1}}\n") == (
        "recipe.yaml:3: unknown key ppo.kl.zzz; known here: controller, coefficient, per, target, horizon, estimator"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ppo:\n  steps: many\n", "4: ppo.steps: found the text 'many', expected a whole number above 0"),
        ("ppo:\n  steps: 0\n", "4: ppo.steps: found 0, expected a whole number above 0"),
        ("ppo:\n  steps: 1e3\n", "4: ppo.steps: found 1000.0, expected a whole number above 0; write 1000"),
        ("ppo:\n  steps: true\n", "4: ppo.steps: found true, expected a whole number above 0"),
        ("ppo:\n  steps:\n", "4: ppo.steps: found null, expected a whole number above 0"),
        ("ppo:\n  clip: '0.2'\n", "4: ppo.clip: found the text '0.2', expected a number above 0"),
        ("ppo:\n  whiten_advantages: 1\n", "4: ppo.whiten_advantages: found 1, expected true or false"),
        ("rounds: -1\n", "3: rounds: found -1, expected a whole number above 0"),
        (
            "ppo: {reward: mine}\n",
            "3: ppo.reward: found the text 'mine', expected a plug-in, as package.module:function, a folder",
        ),
        ("ppo:\n  kl:\n    estimator: k4\n", "5: ppo.kl.estimator: found the text 'k4', expected one of k1, k2, k3"),
        ("ppo: {objective_weights: {a: b}}\n", "3: ppo.objective_weights.a: found the text 'b', expected a number"),
        ("data: {prompts: 7}\n", "3: data.prompts: found 7, expected text, or null; put it in quotes"),
        ("data: {preferences: a}\n", "3: data.preferences: found the text 'a', expected a list"),
        ("ppo: {stop: END}\n", "3: ppo.stop: found the text 'END', expected a list"),
        ("ppo: {stop: [END, '']}\n", "3: ppo.stop.1: found the text '', expected text that is not empty"),
        ("sft: 3\n", "3: sft: found 3, expected a section (keys: "),
        ("model:\n", "3: model: found null, expected a section (keys: "),
        ("data:\n  preferences:\n    - path: a\n    - objective: b\n", "6: data.preferences.1.path is missing"),
        ("ppo:\n  optimizer:\n    betas:\n      - 0.9\n      - x\n", "7: ppo.optimizer.betas.1: found the text 'x'"),
        ("ppo: {optimizer: {betas: [1, 2, 3]}}\n", "3: ppo.optimizer.betas: found a list of 3, expected a list of 2"),
    ],
)
def test_a_wrong_value(file: Path, text: str, message: str) -> None:
    found = error(file, WORLD + text)
    assert found.startswith(f"recipe.yaml:{message}")
    assert "\n" not in found


def test_a_format_of_preferences_that_is_misspelled_gets_the_nearest(file: Path) -> None:
    found = error(file, WORLD + "data:\n  preferences:\n  - {path: a, format: hellpsteer3}\n")
    assert found.startswith("recipe.yaml:5: data.preferences.0.format: found the text 'hellpsteer3', expected one of")
    assert found.endswith("; did you mean helpsteer3?")


def test_a_missing_key(file: Path) -> None:
    assert error(file, "world: some.world:load\n").startswith("recipe.yaml: name is missing; expected text")


def test_every_mistake_is_told_at_once(file: Path) -> None:
    lines = error(file, WORLD + "seed: x\nrounds: 0\n").split("\n")
    assert [line.split(": ")[:2] for line in lines] == [["recipe.yaml:3", "seed"], ["recipe.yaml:4", "rounds"]]


def test_fields_that_contradict_each_other(file: Path) -> None:
    assert error(file, "name: a\n") == "recipe.yaml: model.path is needed where no world gives a base model"
    assert error(file, WORLD + "sample:\n  responses_per_prompt: 1\n").startswith(
        "recipe.yaml:4: sample.responses_per_prompt is 1"
    )


def test_an_active_order_must_have_answers_to_choose_from(file: Path) -> None:
    active = WORLD + "feedback:\n  queue: {order: active, shown: SHOWN}\nsample:\n  responses_per_prompt: 4\n"
    for shown in ("null", "4", "6"):
        assert error(file, active.replace("SHOWN", shown)).endswith(
            "set feedback.queue.shown below sample.responses_per_prompt, which is 4"
        )
    file.write_text(active.replace("SHOWN", "3"))
    assert load_recipe(file).feedback.queue.shown == 3
    rankings = "data:\n  preferences: [{path: pairs.jsonl}]\n"  # nobody is asked
    file.write_text(active.replace("SHOWN", "null") + rankings)
    assert load_recipe(file).feedback.queue.order == "active"


def test_people_rank_at_most_nine_answers_at_a_time(file: Path) -> None:
    people = WORLD + "feedback:\n  annotators: people\n"
    ten = "sample:\n  responses_per_prompt: 10\n"
    assert "people rank at most 9 at a time; set feedback.queue.shown to 9 or fewer" in error(file, people + ten)
    assert "feedback.queue.shown is 10: people rank" in error(file, people + "  queue: {shown: 10}\n")
    file.write_text(people + "  queue: {shown: 9}\n" + ten)
    assert load_recipe(file).feedback.queue.shown == 9
    file.write_text(WORLD + ten)
    assert load_recipe(file).sample.responses_per_prompt == 10


def test_an_endpoint_is_not_asked_for_less(file: Path) -> None:
    """It is paid by what it reads: a whole ranking costs no more."""
    asked = "feedback: {annotators: endpoint, endpoint: {model: m}, queue: {ask: best_and_worst}}\n"
    assert "an endpoint is paid for what it reads" in error(file, WORLD + asked)
    assert load(file, WORLD + asked.replace("endpoint, endpoint: {model: m}", "people")).feedback.queue.ask != "ranking"
    assert "feedback.queue.ask" in error(file, WORLD + "feedback: {queue: {ask: the_best}}\n")


# Errors of the file


def test_a_duplicate_key(file: Path) -> None:
    assert error(file, WORLD + "ppo:\n  steps: 1\n  clip: 1\n  steps: 2\n") == (
        "recipe.yaml:6: not valid YAML: key 'steps' is given twice, in lines 4 and 6"
    )


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file(file: Path, text: str) -> None:
    assert error(file, text).startswith("recipe.yaml: the recipe is empty")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("name: a\nppo: [1\n", "recipe.yaml:3: not valid YAML"),
        ("name: a\n  b: c\n", "recipe.yaml:2: not valid YAML"),
        ("name: a\n1: b\n", "recipe.yaml:2: not valid YAML: a key must be plain text"),
        ("name: a\n---\nname: b\n", "recipe.yaml:2: not valid YAML"),
        ("name: !!python/name:os.system\n", "recipe.yaml:1: not valid YAML"),
        ("name: \x00\n", "recipe.yaml: not valid YAML"),
        ("- name\n", "recipe.yaml:1: expected a recipe"),
        ("just words\n", "recipe.yaml:1: expected a recipe"),
        ("name: a\nppo: &p {kl: *p}\n", "recipe.yaml: a value cannot be read"),
        ("name: a\nppo: {clip: 1e999}\n", "recipe.yaml: a value cannot be read"),
        ("name: a\nppo: {clip: !!float .nan}\n", "recipe.yaml: a value cannot be read"),
        ("[" * 5000, "recipe.yaml: a value cannot be read: nested too deeply"),
    ],
)
def test_not_a_recipe(file: Path, text: str, start: str) -> None:
    assert error(file, text).startswith(start)


def test_infinity_is_no_number(file: Path) -> None:
    assert "found the text '.inf', expected a number" in error(file, WORLD + "ppo: {clip: .inf}\n")


def test_a_missing_file_names_one_like_it(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").touch()
    with pytest.raises(InputError, match=r"dmeo\.yaml: no such recipe file; did you mean .*demo\.yaml\?"):
        load_recipe(tmp_path / "dmeo.yaml")
    with pytest.raises(InputError, match="`plaudit init` writes a recipe"):
        load_recipe(tmp_path / "zzz.yaml")


def test_a_folder_and_a_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(InputError, match=r"binary\.yaml: not a text file in UTF-8 \(byte 6\)"):
        load_recipe(tmp_path / "binary.yaml")


# There and back


def test_round_trip(file: Path) -> None:
    recipe = Recipe(
        name="1e-4",
        out=Path("äöü"),
        model=Model(path="oN", chat_template=Path("a.jinja")),
        data=Data(prompts="2024-01-01", preferences=(PreferenceFile(path="0x10", limit=3),)),
        sft=SFT(optimizer=Optimizer(learning_rate=1e-7, betas=(0.0, 1.0))),
        ppo=PPO(objective_weights={"on": 1.0, "1": 2.0}, kl=KL(coefficient=1e22), stop_epochs_at_kl=None),
    )
    assert load(file, dump_recipe(recipe)) == recipe


@given(
    name=st.text("0123456789eE.-_+xXonyNul", min_size=1, max_size=6).filter(lambda name: "+" not in name),
    path=st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8),
    number=st.floats(min_value=0, exclude_min=True, allow_infinity=False),
)
def test_round_trip_of_odd_values(
    tmp_path_factory: pytest.TempPathFactory, name: str, path: str, number: float
) -> None:
    recipe = Recipe(name=name, world="a.b:c", model=Model(path=path), ppo=PPO(clip=number))
    file = tmp_path_factory.getbasetemp() / "odd.yaml"
    assert load(file, dump_recipe(recipe)) == recipe


def test_shipped_recipes_are_found_by_name() -> None:
    assert shipped_recipe("demo").name == "demo.yaml"
    with pytest.raises(InputError, match=r"no recipe 'nothing' comes with Plaudit; there are: .*demo"):
        shipped_recipe("nothing")
