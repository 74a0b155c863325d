# The commands. `make PYTHON=python3 test` uses another Python than .venv's.
PYTHON ?= .venv/bin/python

.PHONY: install test test-slow check docs wheel

install: ## Makes .venv with everything that development needs
	python3 -m venv .venv
	.venv/bin/pip install -e ".[dev,docs]"

test: ## Runs the tests that are not slow; `make test ARGS="tests/test_losses.py"` runs some
	$(PYTHON) -m pytest -n auto $(ARGS)

test-slow: ## Runs the tests that are marked slow
	$(PYTHON) -m pytest -n auto -m slow $(ARGS)

check: ## Lint, format and types, in less than a minute
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff format --check --isolated --line-length 85 README.md CONTRIBUTING.md docs/*.md docs/*.ipynb
	$(PYTHON) -m mypy

docs: ## Shows the site while you write
	$(PYTHON) -m mkdocs serve

wheel: ## Builds wheel and sdist into dist/ and tries them
	.ci/wheel $(PYTHON)
