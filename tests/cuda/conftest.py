"""The learner's fixtures, for the tests that need CUDA."""

from tests.learn.conftest import make_learner, policy_dir, rows  # noqa: F401
