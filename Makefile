# make demo · make test · make test-all · make check · make docs · make bench · make families · make gpu · make study-small   (each sets up .venv first)
PY := .venv/bin/python
STAMP := .venv/.ready
# Bytecode is written, whatever the environment says: without it each process that starts compiles torch's sources anew.
export PYTHONDONTWRITEBYTECODE :=
# Two workers of one thread each. The tests of a file stay with one worker, or both would make what they share.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: demo test test-all check docs bench families gpu trl nano study-small study study-report clean

# Goes on where it was cut off; for another one from the start, remove runs/demo.
demo: $(STAMP)
	$(PY) -m ocr_rl.cli demo --out runs/demo --resume

# While writing: all but whole programs. `make test-all` is what CI runs.
test: $(STAMP)
	$(PYTEST) -m "not slow"

test-all: $(STAMP)
	$(PYTEST)

check: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

# The documents that come from the code; tests say when they are stale.
docs: $(STAMP)
	$(PY) -m ocr_rl.cli.document > docs/cli.md
	$(PY) -m ocr_rl.config.document docs/recipes.md ocr_rl/recipes/recipe.schema.json

# Beside the public checks too, with a Python that has olmocr (docs/checks.md): make bench PEER=olmocr-env/bin/python
bench: $(STAMP)
	$(PY) -m benchmarks.speed.judging $(if $(PEER),--peer-python $(PEER)) $(if $(BROWSER),--browser $(BROWSER))
	$(PY) -m benchmarks.speed.learner

# Every family of models on tiny random policies: its tests, then a table (docs/families.md)
families: $(STAMP)
	$(PY) -m pytest tests/families
	$(PY) -m benchmarks.families
	$(PY) -m benchmarks.robustness.canaries

# What only a GPU can show (docs/gpu.md), with a Python that has CUDA's torch: make gpu PYTHON=cuda-env/bin/python
gpu:
	$(if $(PYTHON),$(PYTHON),$(PY)) -m benchmarks.gpu $(PARTS)

# Losses beside TRL's, which needs an environment of its own, and another one for PPO (docs/measurements.md):
# make trl PEER=trl-env/bin/python PPO_PEER=trl-ppo-env/bin/python
trl: $(STAMP)
	$(PY) -m benchmarks.peers.losses $(if $(PEER),--peer-python $(PEER)) $(if $(PPO_PEER),--ppo-python $(PPO_PEER))

# Trains the embedded policy again, from nothing (about three and a half hours on two cores).
nano: $(STAMP)
	$(PY) -m ocr_rl.cli train nano_sft --out runs/nano_sft --resume

# DPO, best-of-N and SFT beside GRPO, on equal terms; goes on where it was cut off. Two cores: at most 40 minutes, and hours.
study-small: $(STAMP)
	$(PY) -m ocr_rl.cli study small --out runs/study-small

study: $(STAMP)
	$(PY) -m ocr_rl.cli study full --out runs/study

# Every figure of docs/study.md again, from the rows in docs/study.
study-report: $(STAMP)
	$(PY) -m benchmarks.policy.paper

$(STAMP): requirements.lock pyproject.toml
	./setup.sh
	touch $(STAMP)

clean:
	rm -rf .venv runs build dist
