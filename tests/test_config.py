"""Recipes: the shipped ones load, and every kind of wrong one is named in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocr_rl.config import Folder, Grpo, Ppo, Recipe, load_recipe, shipped_recipes
from ocr_rl.contract import UserError

GRPO = """
seed = 3
[policy]
path = "some/model"
[grpo]
steps = 12
pages = { dir = "pages" }
[[rewards]]
name = "pass_rate"
"""
STAGE = '[[sft.stages]]\nsteps = 2\npages_per_step = 4\npages = { synth = "nano" }\n'


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GRPO, encoding="utf-8")
    return path


def complaint(path: Path | str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_recipe(str(path), list(overrides))
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_loads(name: str) -> None:
    assert load_recipe(name).algorithm.total_steps > 0


def test_the_end_of_a_transcript_is_not_paid_for_where_run_ons_are_masked(recipe: Path) -> None:
    for mix in ('rewards=[{ name = "cer" }, { name = "eos" }]', 'gates=[{ name = "eos", at_least = 1.0 }]'):
        assert load_recipe(str(recipe), [mix]).algorithm.total_steps == 12
        message = complaint(recipe, mix, "grpo.mask_unfinished=true")
        assert "so eos pushes none of them down: leave out mask_unfinished" in message
    assert load_recipe(str(recipe), ["grpo.mask_unfinished=true"]).rewards[0].name == "pass_rate"
    shipped = load_recipe("qwen2_5_vl_7b_grpo")
    assert isinstance(shipped.algorithm, Grpo) and not shipped.algorithm.mask_unfinished


@pytest.mark.parametrize("name", shipped_recipes())
def test_what_a_run_writes_down_is_read_again(name: str) -> None:
    recipe = load_recipe(name)
    assert Recipe.model_validate(recipe.model_dump(mode="json")) == recipe


def test_there_are_shipped_recipes_for_both_algorithms() -> None:
    recipes = [load_recipe(name) for name in shipped_recipes()]
    assert {"sft", "grpo"} <= {recipe.algorithm.name for recipe in recipes}


def test_a_recipe_holds_what_it_says_and_defaults_otherwise(recipe: Path) -> None:
    read = load_recipe(str(recipe))
    assert isinstance(read.algorithm, Grpo)
    assert (read.seed, read.algorithm.steps, read.algorithm.pages) == (3, 12, Folder(dir=Path("pages")))
    assert read.rewards[0].weight == 1.0
    assert read.optim.name == "adamw"


def test_the_steps_of_a_curriculum_are_those_of_its_stages(tmp_path: Path) -> None:
    path = tmp_path / "sft.toml"
    path.write_text('[policy]\nfresh = "nano"\n' + 2 * STAGE, encoding="utf-8")
    assert load_recipe(str(path)).algorithm.total_steps == 4


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optim.lr=1e-4", lambda recipe: recipe.optim.lr == 1e-4),
        ("optim.betas=[0.5, 0.9]", lambda recipe: recipe.optim.betas == (0.5, 0.9)),
        ("policy.path=other/model", lambda recipe: recipe.policy.path == "other/model"),  # a bare word is a string
        ('policy.path="other/model"', lambda recipe: recipe.policy.path == "other/model"),
        ("policy.instruction=", lambda recipe: recipe.policy.instruction == ""),
        ("rewards.0.weight=0.5", lambda recipe: recipe.rewards[0].weight == 0.5),
        ("sampling.engine=transformers", lambda recipe: recipe.sampling.engine == "transformers"),
        ("policy.freeze_vision=true", lambda recipe: recipe.policy.freeze_vision),
    ],
)
def test_an_override_wins_over_the_file(recipe: Path, override: str, value) -> None:
    assert value(load_recipe(str(recipe), [override]))


def test_a_run_may_go_on_with_its_server_elsewhere(recipe: Path) -> None:
    here, there = (
        load_recipe(str(recipe), ["sampling.engine=vllm_server", f"sampling.url={url}"])
        for url in ("http://here:8000", '["http://there:8000", "http://there:8001"]')
    )
    assert (here.sampling.url, there.sampling.url) == ("http://here:8000", ("http://there:8000", "http://there:8001"))
    assert here.model_dump() == there.model_dump()


def test_the_last_of_two_overrides_wins(recipe: Path) -> None:
    assert load_recipe(str(recipe), ["seed=4", "seed=5"]).seed == 5


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("optim.learning_rat=1", ["optim.learning_rat", "unknown key"]),
        ("optim.warm_up=1", ["optim.warm_up", "did you mean warmup?"]),
        ("grpo.pages.synht=1", ["grpo.pages.synht", "did you mean synth?"]),
        ("rewards.0.wieght=1", ["rewards.0.wieght", "did you mean weight?"]),
        ("optimm.lr=1", ["optimm", "did you mean optim?"]),
        ("steps=many", ["steps", "unknown key"]),
        ("grpo.steps=many", ["grpo.steps", "many"]),
        ("grpo.steps=0", ["grpo.steps", "greater than 0"]),
        ("grpo.steps=1.5", ["grpo.steps", "1.5"]),
        ("grpo.ratio=word", ["grpo.ratio", "'token'", "word"]),
        ("grpo.ahead=2", ["grpo.ahead", "0 or 1"]),
        ("grpo.importance_mask=[1.5, 5.0]", ["grpo", "importance_mask must have 1 inside", "[1.5, 5.0]"]),
        ("grpo.samples_per_page=1", ["grpo.samples_per_page"]),
        ("rewards=[]", ["[[rewards]]", "[grpo] learns from rewards"]),
        ("grpo.beta=nan", ["grpo.beta"]),
        ("sampling.temperature=0", ["sampling.temperature"]),
        ("sampling.temperature=0.001", ["sampling.temperature"]),  # engines would clamp it
        ("sampling.temperature=inf", ["sampling.temperature"]),
        ("sampling.engine=vllm_server", ["sampling", "url", "needs one"]),
        ("sampling.url=http://127.0.0.1:8000", ["sampling", 'url belongs to engine = "vllm_server"']),
        ("sampling.weights_dir=/tmp", ["sampling", 'weights_dir belongs to engine = "vllm_server"']),
        ('sampling={ engine = "vllm_server", url = ["http://a:1", "b:2"] }', ["sampling", "'b:2'"]),
        ('sampling={ engine = "vllm_server", url = "" }', ["sampling", "http://127.0.0.1:8000", "''"]),
        ('sampling={ engine = "vllm_server", url = ["", "http://a:1"] }', ["sampling", "got ''"]),
        (
            'sampling={ engine = "vllm_server", url = ["http://a:1", "http://a:1/"] }',
            ["sampling", "names a server twice"],
        ),
        ('sampling={ engine = "vllm_server", url = "localhost" }', ["sampling", "http://127.0.0.1:8000", "localhost"]),
        ("optim.lr=inf", ["optim.lr", "finite"]),
        ('rewards=[{ name = "bleu", options = { since = 2026-01-02 } }]', ["rewards", "since", "JSON"]),
        ("rewards.0.weight=inf", ["rewards.0.weight", "finite"]),
        ('rewards=[{ name = "bleu" }, { name = "cer" }, { name = "bleu" }]', ["rewards", "'bleu'", "twice"]),
        (
            'evaluation.sets.new={ synth = "nano", foo = 1 }',
            ["evaluation.sets.new.foo", "known here are synth, n, seed"],
        ),
        ('evaluation.sets.seed={ synth = "nano", sede = 1 }', ["evaluation.sets.seed.sede", "did you mean seed?"]),
        ("policy.longest_px=9000", ["policy.longest_px", "8192"]),
        ("optim.betas=[0.9, 1.0]", ["optim.betas.1", "less than 1"]),
        ("policy.lora_rank=-1", ["policy.lora_rank"]),
        ("policy.fresh=nano", ["policy", "exactly one of path"]),
        ("grpo.pages.synth=nano", ["grpo.pages", "exactly one of dir"]),
        (
            'sft.stages=[{ steps = 1, pages_per_step = 1, pages = { synth = "nano" } }]',
            ["exactly one", "[sft]", "[grpo]"],
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_file_and_field(recipe: Path, override: str, parts: list[str]) -> None:
    message = complaint(recipe, override)
    assert str(recipe) in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("optim.lr", "section.key=value"),
        ("=1", "section.key=value"),
        ("seed.low=1", "seed is a value"),
        ("rewards=1", "rewards"),
        ("rewards.weight=1", "name an element"),
        ("rewards.first.weight=1", "name an element"),
        ("rewards.7.weight=1", "the list has 1"),
        ("rewards.².weight=1", "name an element"),
        ("rewards." + 5000 * "9" + ".weight=1", "the list has 1"),
        ("seed=" + 5000 * "[", "nested too deeply"),
        ("seed=" + 5000 * "9", "seed"),
        ("seed=1\ngrpo=3", "more than one key"),
        ("seed=1\n[optim]\nlr=3", "more than one key"),
    ],
)
def test_an_override_that_leads_nowhere_is_named(recipe: Path, override: str, part: str) -> None:
    message = complaint(recipe, override)
    assert part in message
    assert override.splitlines()[0][:60] in message or str(recipe) in message


@pytest.mark.parametrize(("name", "section"), [("nano_grpo", "grpo"), ("nano_dpo", "dpo")])
def test_a_folder_takes_the_place_of_typeset_pages(name: str, section: str) -> None:
    shipped, given = load_recipe(name), load_recipe(name, [f"{section}.pages.dir=my_pages"])
    was, pages = shipped.algorithm.training_pages, given.algorithm.training_pages
    assert was is not None and pages == Folder(dir=Path("my_pages"), seed=was.seed)  # a `limit` still shuffles by it
    assert given.evaluation == shipped.evaluation
    held_out = load_recipe(name, ["evaluation.sets.new.dir=held_out"]).evaluation
    assert held_out is not None
    assert held_out.first == Folder(dir=Path("held_out"), seed=2100)


def test_a_value_of_several_lines_is_one_value(recipe: Path) -> None:
    assert load_recipe(str(recipe), ["policy.instruction=Read this.\nAll of it."]).policy.instruction == (
        "Read this.\nAll of it."
    )


def test_a_recipe_nested_thousands_deep_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.toml").write_text("seed = " + 5000 * "[")
    assert "deep.toml: not valid TOML" in complaint(tmp_path / "deep.toml")


def test_a_missing_field_is_named_without_the_whole_recipe_as_its_value(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[policy]\npath = "m"\n[grpo]\nsteps = 1\n[[rewards]]\nname = "bleu"\n', encoding="utf-8")
    message = complaint(path)
    assert "grpo.pages: Field required" in message
    assert "got" not in message


def test_neither_algorithm_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[policy]\npath = "m"\n', encoding="utf-8")
    assert "exactly one of the sections [sft], [grpo], [ppo], [dpo], [best_of_n] and [reward_model]" in complaint(path)


def test_what_is_no_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("seed = = 1", encoding="utf-8")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    assert "broken.toml: not valid TOML" in complaint(tmp_path / "broken.toml")
    assert "latin.toml: the text is not UTF-8" in complaint(tmp_path / "latin.toml")
    assert "no such file" in complaint(tmp_path / "absent.toml")
    assert str(tmp_path) in complaint(tmp_path)  # a folder


def test_an_unknown_shipped_recipe_gets_the_nearest_name() -> None:
    assert "did you mean nano_sft?" in complaint("nano_stf")
    assert "nano_sft" in complaint("zzz")  # nothing is near: all of them


@pytest.mark.parametrize("setting", ["top_p=0.9", "top_k=20", "min_p=0.1", "repetition_penalty=1.1"])
def test_trap_5_a_distribution_that_the_learner_would_not_see_cannot_be_asked_for(recipe: Path, setting: str) -> None:
    with pytest.raises(UserError, match=setting.split("=")[0]):
        load_recipe(str(recipe), [f"sampling.{setting}"])


def test_a_schedule_goes_forward_and_stands_alone() -> None:
    assert "each step must be later" in complaint("nano_sft", "optim.schedule=[[5, 1.0], [5, 0.5]]")
    assert "leave that out, or schedule = []" in complaint("nano_sft", "optim.warmup=10")
    assert "optim.schedule" in complaint("nano_sft", "optim.schedule=[[5, 2.0]]")


def test_keys_of_the_other_kind_of_page_source_are_named_not_ignored(recipe: Path) -> None:
    message = complaint(recipe, 'evaluation.sets.new={ dir = "held_out", n = 4 }')
    assert "unknown key evaluation.sets.new.n: it goes with synth; beside dir stand limit, seed." in message


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        (
            'grpo.rewards=[{ name = "bleu" }, { name = "outline", gate = 0.25, holds = ["bleu"] }]',
            'rewards = [{ name = "bleu" }] and gates = [{ name = "outline", at_least = 0.25, holds = ["bleu"] }]',
        ),
        ("grpo.rewards.0.weight=2", "Write: rewards.0.… instead"),
        ('grpo.rewards=["cer"]', 'Write: rewards = [{ name = "cer" }]'),
        ('rewards=[{ name = "cer" }, { name = "eos", gate = 0.5 }]', 'gates = [{ name = "eos", at_least = 0.5 }]'),
        ("grpo.aggregation=dapo", 'grpo.aggregation: "dapo" is called "token_mean" now.'),
        ("grpo.advantage=none", 'grpo.advantage: "none" is called "centred" now.'),
    ],
)
def test_an_old_recipe_is_told_what_to_write_instead(recipe: Path, override: str, instead: str) -> None:
    assert instead in complaint(recipe, override)


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("grpo=1", "grpo is a section: write [grpo]"),
        ("algorithm=grpo", "the algorithm's section is named after it"),
        ("grpo.stepz=3", "unknown key grpo.stepz: did you mean steps?"),
        ('gates=[{ name = "budget", at_least = 0.0 }]', "gates.0.at_least"),
        ('gates=[{ name = "budget", at_least = 1.0, weight = 2 }]', "unknown key gates.0.weight"),
        ('gates=[{ name = "budget", at_least = 1.0, holds = ["bleu"] }]', "holds names 'bleu'"),
        ('gates=[{ name = "budget", at_least = 1.0, holds = [] }]', "gates.0.holds"),
        ('gates=[{ name = "pass_rate", at_least = 1.0 }]', "'pass_rate' is named twice"),
    ],
)
def test_sections_and_gates_that_say_nothing_are_named(recipe: Path, override: str, part: str) -> None:
    assert part in complaint(recipe, override)


def test_references_and_rewards_are_not_asked_at_once() -> None:
    assert "learns from references" in complaint("nano_sft", 'rewards=[{ name = "bleu" }]')


def test_somebodys_preferences_need_no_rewards() -> None:
    given = ["dpo.preferences=pairs.jsonl", "rewards=[]", "gates=[]"]
    assert load_recipe("nano_dpo", given).mix == ()
    assert load_recipe("nano_dpo", given[:1]).mix == ()  # the recipe's own are not asked


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_recipe_is_what_its_dump_says(name: str) -> None:
    recipe = load_recipe(name)
    data = recipe.model_dump(mode="json", exclude_unset=True)
    assert recipe.algorithm.name in data and "algorithm" not in data
    assert Recipe.model_validate(data) == recipe


PPO = """
[policy]
path = "m"
{policy}
[ppo]
pages = {{ synth = "nano" }}
steps = 2
{ppo}
[[rewards]]
name = "eos"
"""


@pytest.mark.parametrize(
    ("policy", "ppo", "wrong"),
    [
        ("", 'critic = { kind = "adapter" }', "set policy.lora_rank"),
        ("lora_rank = 2", 'critic = { kind = "adapter", path = "x" }', 'path is for kind = "model"'),
        ("", 'critic = { kind = "head", lr = 1e-3 }', "a head moves by the policy's own rate"),
        ("", "advantage = 1", "advantage"),
        ("", "gae_lambda = 2.0", "gae_lambda"),
    ],
)
def test_ppo_settings_that_do_not_fit(tmp_path: Path, policy: str, ppo: str, wrong: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(PPO.format(policy=policy, ppo=ppo), encoding="utf-8")
    assert wrong in complaint(path)


def test_a_reward_model_is_measured_on_held_out_pairs_alone(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = PPO.format(policy="", ppo="").replace("[ppo]", "[reward_model]")
    path.write_text(text, encoding="utf-8")
    assert load_recipe(str(path)).algorithm.name == "reward_model"
    path.write_text(text + '[evaluation]\nsets.new = { synth = "nano" }\n', encoding="utf-8")
    assert "leave out [evaluation]" in complaint(path)


def test_the_shipped_rlhf_recipe_scores_and_begins_with_one_reward_model() -> None:
    recipe = load_recipe("nano_rlhf")
    assert isinstance(recipe.algorithm, Ppo)
    assert recipe.learned == [recipe.algorithm.critic.path] and recipe.algorithm.kl_in == "reward"


def test_the_demo_is_plain_grpo_with_credit_and_more_of_the_kl() -> None:
    told = ['grpo.credit="spans"', "grpo.beta=0.25", "grpo.steps=60", "save_every=20"]
    assert load_recipe("nano_spans") == load_recipe("nano_grpo", told)


def test_a_mask_of_importance_weights_wants_some() -> None:
    settings = ["grpo.importance_mask=[0.2, 5.0]", 'grpo.importance_level="none"']
    assert load_recipe("nano_grpo", settings[1:]).algorithm.importance_level == "none"  # type: ignore[union-attr]
    with pytest.raises(UserError, match='importance_level = "none" has none'):
        load_recipe("nano_grpo", settings)
