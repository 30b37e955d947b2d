# Everything runs in .venv, which is made and kept up to date where needed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
OUT ?= runs/demo
SEED ?= 0
# Worker processes of the tests.
JOBS ?= auto

.PHONY: help
help: ## show what can be made
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  With another Python: make clean, then make PYTHON=python3.12 ..."

.PHONY: venv
venv: $(STAMP) ## set up .venv with Plaudit and its tools (others do this where needed)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV): a few minutes the first time"
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

.PHONY: demo
demo: $(STAMP) ## run all three acts on the built-in world into runs/demo (SEED=0 OUT=runs/demo)
	$(BIN)/plaudit demo --seed $(SEED) --out $(OUT)

.PHONY: real-arguments
real-arguments:
	@test -n "$(MODEL)" && test -n "$(DATA)" \
		|| { echo "usage: make real MODEL=<model folder> DATA=<data folder>" >&2; exit 2; }

.PHONY: real
real: real-arguments $(STAMP) ## run on a real model and real people's pairs: MODEL=folder DATA=folder
	$(BIN)/plaudit run recipes/smollm2-hh-cpu.yaml model.path='$(MODEL)' \
		data.preferences.0.path='$(DATA)/hh/helpful.train.jsonl.gz' \
		data.preferences.1.path='$(DATA)/hh/harmless.train.jsonl.gz' \
		data.prompts='$(DATA)/prompts/hh_first_turn.train.jsonl.gz'

.PHONY: bench
bench: $(STAMP) ## time and memory against the peers: MODEL=folder [DATA=folder] [BENCH='--runs 1 --only sft'] [BENCH=--quick]
	$(BIN)/python benchmarks/bench.py $(if $(MODEL),--model '$(MODEL)') $(if $(DATA),--data '$(DATA)') $(BENCH)

QUICK := bench active careless 'depth world' 'depth model' 'equal_reward model' 'equal_reward world' heldout judges leash phases real_judge rivals scaling

.PHONY: quick
quick: $(STAMP) ## does every benchmark still work? With tiny models (half an hour)
	@for each in $(QUICK); do set -- $$each; name=$$1; shift; \
		echo "$$name $$*"; $(BIN)/python benchmarks/$$name.py $$* --quick || exit 1; done

.PHONY: learn
learn: $(STAMP) ## what is learned in what time (hours): MODEL=folder DATA=folder
	@test -n "$(MODEL)" && test -n "$(DATA)" \
		|| { echo "usage: make learn MODEL=<model folder> DATA=<data folder>" >&2; exit 2; }
	$(BIN)/python benchmarks/scaling.py
	$(BIN)/python benchmarks/depth.py world
	$(BIN)/python benchmarks/depth.py model --model '$(MODEL)' --data '$(DATA)'
	$(BIN)/python benchmarks/heldout.py --model '$(MODEL)' --data '$(DATA)'
	$(BIN)/python benchmarks/equal_reward.py model --model '$(MODEL)' --data '$(DATA)'
	$(BIN)/python benchmarks/equal_reward.py world

.PHONY: check
check: $(STAMP) ## format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pyright --pythonpath $(BIN)/python -p tests
	$(BIN)/pyright --pythonpath $(BIN)/python -p benchmarks
	$(BIN)/lint-imports

.PHONY: test
test: check ## every check, then every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --maxprocesses=8

.PHONY: clean
clean: ## remove .venv and what tools left behind (runs stay)
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
