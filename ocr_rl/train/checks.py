"""What is checked before step 0, so that a run does not find it out hours later: lengths, ranks, pages, rewards."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image
from tqdm import tqdm

from ocr_rl import config
from ocr_rl.contract import Page, UserError
from ocr_rl.evaluate.audit_before import require_honest
from ocr_rl.learn import ranks
from ocr_rl.learn.algos.rounds import encoded
from ocr_rl.learn.algos.setting import OpenPages
from ocr_rl.learn.algos.sft import require_lessons
from ocr_rl.pages.preferences import read_preferences
from ocr_rl.pages.raster import PageError
from ocr_rl.rollout.asking import small_step
from ocr_rl.rollout.coverage import require_rewards
from ocr_rl.rollout.prompt import Prompter, PromptTooLong
from ocr_rl.rollout.reward_pool import RewardPool, without_learned


def require_ranks(recipe: config.Recipe) -> None:
    """UserError for what only a single process can do."""
    if ranks.world() > 1 and recipe.needs_sampler and recipe.sampling.engine == "vllm":
        raise UserError(
            'sampling.engine: "vllm" runs inside the process of the learner, which shares its weights with others '
            'here; set sampling.engine = "vllm_server" with its url (docs/gpu.md), or start without torchrun.'
        )
    if ranks.world() > 1 and recipe.learned:
        raise UserError(
            f"rewards: {config.LEARNED}{recipe.learned[0]} is asked in one process alone; start without torchrun."
        )
    algorithm = recipe.algorithm
    if ranks.world() > 1 and isinstance(algorithm, config.Ppo) and algorithm.critic.kind == "adapter":
        raise UserError(
            'ppo.critic.kind: "adapter" switches between two adapters, which weights that are cut up over processes '
            'do not allow; set kind = "model" or "head", or start without torchrun.'
        )
    head = isinstance(algorithm, config.Ppo) and algorithm.critic.kind == "head" and algorithm.critic.warmup
    if ranks.world() > 1 and head:  # every process must give all weights a gradient, and AdamW counts that as a step
        raise UserError('ppo.critic.warmup: a critic of kind "head" warms up in one process alone; set it to 0.')


def require_until(recipe: config.Recipe, until: int | None) -> None:
    """UserError where `until` is no step on the way."""
    last = recipe.algorithm.total_steps - 1
    if until is not None and not 1 <= until <= last:
        raise UserError(f"--until must be a step before the last one (1 to {last}), got {until}.")


def require_whole_steps(recipe: config.Recipe, until: int | None) -> None:
    """UserError where `until` is a step at which a rollout would be on its way; a line where `ahead` gains nothing."""
    algorithm = recipe.algorithm
    if not isinstance(algorithm, config.OnPolicy) or not algorithm.ahead:
        return
    every = [recipe.save_every, recipe.evaluation.every if recipe.evaluation else 0]
    if until is not None and all(n == 0 or until % n for n in every):
        raise UserError(
            f"--until: with {algorithm.name}.ahead = 1 a run can be gone on with from the steps at which it saves or "
            f"evaluates alone; give a multiple of save_every ({recipe.save_every})."
        )
    if not recipe.sampling.elsewhere:
        print(
            f'{algorithm.name}.ahead = 1 gains no time with sampling.engine = "{recipe.sampling.engine}", which writes '
            'in the learner\'s own process: each rollout is sampled before the update; use "vllm_server".'
        )


def require_lengths(recipe: config.Recipe, prompter: Prompter) -> None:
    """UserError where a page and its transcript may be longer than what the engine is opened for."""
    if not recipe.needs_sampler or recipe.sampling.engine == "transformers":
        return
    prompt = _longest_prompt(prompter)
    prompt = min(prompt, prompter.max_prompt_tokens or prompt)
    lengths = {"sampling.max_tokens": recipe.sampling.max_tokens}
    if recipe.evaluation is not None:
        lengths["evaluation.max_tokens"] = recipe.evaluation.max_tokens
    for name, tokens in lengths.items():
        if prompt + tokens > recipe.sampling.max_model_len:
            raise UserError(
                f"{name} is {tokens} and a prompt has up to {prompt} tokens, more than sampling.max_model_len "
                f"({recipe.sampling.max_model_len}) together: raise it, or lower {name} or policy.max_prompt_tokens."
            )


def _longest_prompt(prompter: Prompter) -> int:
    """Tokens of a square page's prompt: no page has more."""
    side = prompter.longest_px
    return len(prompter.expand(prompter.num_image_tokens(Image.new("1", (side, side)))))


def require_short(pages: Sequence[Page], prompter: Prompter) -> None:
    """UserError naming the first page whose prompt is longer than policy.max_prompt_tokens, and how many are.

    Nothing is cut to fit. Pages that cannot be drawn do not count here: each costs itself alone when it is asked for.
    """
    if prompter.max_prompt_tokens is None or _longest_prompt(prompter) <= prompter.max_prompt_tokens:
        return  # nothing need be drawn to know
    long = []
    for page in tqdm(pages, desc="measuring prompts", unit="page", leave=False):
        try:
            prompter.prompt(page)
        except PromptTooLong as error:
            long.append(error)
        except PageError:
            continue
    if long:
        raise UserError(f"{long[0]} ({len(long)} of {len(pages)} pages); or take such pages out of the dataset.")


def checked_pages(recipe: config.Recipe, open_pages: OpenPages, prompter: Prompter, pool: RewardPool) -> Sequence[Page]:
    """The pages that samples are drawn of, none for SFT; UserError where the rewards do not fit them.

    Rewards and gates that apply to no page, or to few, are printed.
    """
    algorithm = recipe.algorithm
    if isinstance(algorithm, config.Sft):  # its pages are opened stage by stage
        require_lessons(algorithm, open_pages)
    if algorithm.training_pages is None:
        return []
    pages = open_pages(algorithm.training_pages)
    if (
        isinstance(algorithm, config.Dpo | config.RewardModel) and algorithm.preferences is not None
    ):  # somebody has judged already
        for preference in read_preferences(algorithm.preferences, pages, algorithm.name):
            encoded(preference, prompter)
        return pages
    if isinstance(algorithm, config.OnPolicy) and len(pages) < algorithm.pages_per_step:
        print(small_step(algorithm.name, len(pages), algorithm.pages_per_step))
    require_short(pages, prompter)
    if recipe.learned:
        print("A learned reward is not audited: its held-out accuracy says what it knows, nothing what a policy finds.")
        pool = without_learned(pool)
        if not any(reward.weight for reward in pool.rewards):
            return pages
    for line in require_rewards(pages, pool.score_all).lines(pool.rewards):
        print(line)
    if recipe.scoring.audit:
        require_honest(pages, pool, algorithm.group_size, recipe.seed, algorithm.comparison)
    return pages
