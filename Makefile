# make demo     the whole job on the packaged samples; pictures and tables in demo-output/. Then napari opens on
#               them; without a display, pictures of it are written instead
# make test     the tests, without the long ones
# make test-all all tests
# make lint     style and import order
# make format   put the style right
# make wheel    the wheel and the source archive, in dist/
# make docs     the site, in site/; with ARGS=serve it is shown while it is written
#
# Each makes its own .venv on first use. PYTHON=/path/to/python picks the interpreter (3.11 or newer).

SHELL := /bin/sh
OUT ?= demo-output
# Where a venv has its programs.
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Each worker holds a CT, its features and torch: more than four want more memory than a laptop has.
WORKERS ?= $(shell n=$(CORES); [ $$n -gt 4 ] && n=4; echo $$n)
# napari needs a real OpenGL context, which Qt's offscreen platform has not: a virtual X server has.
DISPLAY_SERVER := $(if $(or $(DISPLAY),$(WAYLAND_DISPLAY),$(filter-out Linux,$(shell uname))),,xvfb-run -a -s "-screen 0 1600x1000x24")
# One thread for each worker, or they fight over the cores.
PYTEST := $(DISPLAY_SERVER) env OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

.PHONY: demo test test-all lint format wheel docs clean

demo: .venv/.installed
	$(BIN)/tapct demo --out $(OUT)
	@$(MAKE) --no-print-directory .venv/.display
	$(BIN)/python -W ignore -m napari_tapct.demo $(OUT)

test: .venv/.installed .venv/.display .venv/.programs
	$(PYTEST) $(ARGS)

test-all: .venv/.installed .venv/.display .venv/.programs
	$(PYTEST) -m "slow or not slow" $(ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .

format: .venv/.installed
	$(BIN)/ruff check --fix .

wheel: .venv/.installed
	$(BIN)/python -m build --no-isolation --outdir dist .

docs: .venv/.installed
	$(BIN)/codespell docs README.md CONTRIBUTING.md
	$(BIN)/python -m mkdocs $(or $(ARGS),build --strict)

clean:
	rm -rf .venv demo-output build dist site *.egg-info .pytest_cache .ruff_cache

.venv/.installed: pyproject.toml constraints.txt scripts/setup.sh
	@PYTHON="$(PYTHON)" sh scripts/setup.sh packages
	@touch $@

.venv/.display: scripts/setup.sh | .venv/.installed
	@sh scripts/setup.sh display
	@touch $@

# Other people's programs that tests are held against; without them those tests are skipped with the reason.
.venv/.programs: scripts/setup.sh | .venv/.installed
	@sh scripts/setup.sh programs
	@touch $@
