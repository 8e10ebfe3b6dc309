# Every target makes its own environment in .venv when it is missing.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

# Two processes of one thread each are done sooner than one of two threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2

.PHONY: demo test check audit docs fuzz results format clean

demo: .venv/core  ## the main job on the bundled sample; pictures in out/demo
	$(BIN)/refsr demo -o out/demo

test: .venv/dev  ## all tests but the slow ones
	$(PYTEST) -m "not slow"

check: .venv/dev  ## what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) audit docs
	$(PYTEST)

audit: .venv/dev  ## secrets in the repository; known holes in the dependencies, where the network allows
	git ls-files -z | xargs -0 $(BIN)/detect-secrets-hook --exclude-files "^docs/results/"
	$(BIN)/python scripts/audit.py

docs: .venv/dev  ## the site, in out/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir out/site

fuzz: .venv/dev  ## damaged and odd files: 60,000 guided by coverage, some thousands made by hypothesis
	$(BIN)/python scripts/fuzz_readers.py -runs=60000 -max_len=4096
	REFSR_FUZZ=2000 $(BIN)/pytest tests/test_fuzz.py

results: .venv/dev  ## docs/results.md; with DATA=folder, what is missing is measured first
	$(BIN)/python scripts/results.py $(if $(DATA),--data $(DATA))

format: .venv/dev  ## put the code into its form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## forget the environment and what was made
	rm -rf .venv out dist

# torch comes first and alone, so that pip takes exactly the pinned build of it.
.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) "$$(grep ^torch== constraints.txt)"
	$(PIP) --editable .
	touch $@

.venv/dev: .venv/core
	$(PIP) --editable ".[dev]"
	touch $@
