"""Recipes: TOML files checked by pydantic. Unknown keys are errors; nothing here imports torch.

    recipe = load_recipe("nano_grpo", ["seed=1"])
    recipe.algorithm.total_steps, recipe.rewards, recipe.policy.path

Knows nothing about how anything is done.
"""

from ocr_rl.config.algorithm import Algorithm
from ocr_rl.config.algorithms import ALGORITHMS, BestOfN, Dpo, FromSamples, RewardModel, Rounds, Sft, Stage
from ocr_rl.config.base import Natural, Positive, Section
from ocr_rl.config.explain import explain
from ocr_rl.config.load import load_recipe, parse_recipe, read_toml, shipped_recipes
from ocr_rl.config.on_policy import Critic, Grpo, OnPolicy, Ppo
from ocr_rl.config.recipe import LEARNED, Gate, Recipe, RewardChoice, require_distinct
from ocr_rl.config.sections import (
    Evaluation,
    Folder,
    Optim,
    PageSource,
    Policy,
    Sampling,
    Scoring,
    Typeset,
    page_source,
)
from ocr_rl.config.tripwires import Tripwire, Tripwires

__all__ = [
    "ALGORITHMS",
    "LEARNED",
    "Algorithm",
    "BestOfN",
    "Critic",
    "Dpo",
    "Evaluation",
    "Folder",
    "FromSamples",
    "Gate",
    "Grpo",
    "Natural",
    "OnPolicy",
    "Optim",
    "PageSource",
    "Policy",
    "Positive",
    "Ppo",
    "Recipe",
    "RewardChoice",
    "RewardModel",
    "Rounds",
    "Sampling",
    "Scoring",
    "Section",
    "Sft",
    "Stage",
    "Tripwire",
    "Tripwires",
    "Typeset",
    "explain",
    "load_recipe",
    "page_source",
    "parse_recipe",
    "read_toml",
    "require_distinct",
    "shipped_recipes",
]
