# One gate, one folder for everything that is installed: .venv
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
BENCHMARKS := benchmarks/speed.py benchmarks/engine.py benchmarks/fidelity.py benchmarks/zero_bubble.py benchmarks/memory.py \
	benchmarks/schedules.py benchmarks/presets.py

.PHONY: demo test check-all check-exhaustive bench format venv clean

demo: venv ## calibrate this machine, then predict, train and compare six plans on two processes
	@$(BIN)/plancast demo

test: venv ## the gate: format, lint, types, layers, tests
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/pytest -q -m "not slow and not exhaustive"

check-all: venv ## what the gate leaves out because it takes long
	@$(BIN)/pytest -q -m slow

check-exhaustive: venv ## an hour more: every fault ten times, plans drawn over all schemes
	@$(BIN)/pytest -q -m exhaustive

bench: venv ## tables of speed, fidelity and schedules
	@set -e; for benchmark in $(BENCHMARKS); do $(BIN)/python $$benchmark; done

format: venv ## rewrite the sources the way `make test` wants them
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

venv: $(STAMP) ## .venv with the pinned versions

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "plancast needs Python 3.11 or newer; choose one with: make PYTHON=python3.12 venv" >&2; exit 1; }
	@echo "installing into .venv"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[executor,dev]' -c constraints.txt
	@touch $@

clean: ## everything that can be made again
	@rm -rf .venv build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
