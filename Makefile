# make demo    simulate, reconstruct, evaluate and report into demo/ (makes .venv first)
# make test    lint, types and tests
# make docs    the documentation as a site, with warnings as errors, into build/site
# make bench   timings, kept as JSON under benchmarks/
# make experiments [SIZE=tiny]  the paper's experiments into experiments/ (hours at the size `everyday`)
# make gpu-check  what a CUDA GPU makes of it, in six minutes, into benchmarks/results/gpu.json
# make viewer  the viewer's page, built anew from viewer/ (needs npm)
# make screenshots RUN=DIR  pictures of a run in the viewer, for the documentation
# make imports the picture of who imports whom, for the documentation
# make clean   remove what the above made

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A failed or interrupted step leaves no stamp, so the next run takes it up again.
PACKAGING := pyproject.toml constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test docs bench gpu-check experiments viewer screenshots clean

demo: $(VENV)/.installed-demo
	$(BIN)/cryoformer demo --out demo

test: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n auto --maxprocesses 8 --dist loadfile

docs: $(VENV)/.installed-docs
	$(BIN)/python docs/tooling/generate.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.installed-test
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/race.py

gpu-check: $(VENV)/.installed-test
	$(BIN)/python benchmarks/gpu_check.py

SIZE ?= everyday
experiments: $(VENV)/.installed-demo
	@set -e; for name in continuous homogeneous two-motions compositional ablations; do \
		$(BIN)/cryoformer benchmark $$name --size $(SIZE) --out experiments/$(SIZE)/$$name; done

viewer:
	cd viewer && npm ci --ignore-scripts --no-audit --no-fund && npm run check && npm run build

screenshots: $(VENV)/.installed-test
	CRYOFORMER_SCREENSHOT_RUN="$(abspath $(RUN))" CRYOFORMER_SCREENSHOTS=docs/images \
		$(BIN)/python -m pytest -q tests/explore/view/test_browser.py -k screenshots

imports: $(VENV)/.installed-test
	$(BIN)/python tests/import_graph.py docs/images/imports.svg

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-demo: $(PACKAGING) $(VENV)/.created
	$(INSTALL) -e '.[simulate,report]'
	@touch $@

$(VENV)/.installed-test: $(PACKAGING) $(VENV)/.created
	$(INSTALL) -e '.[test]'
	@touch $@ $(VENV)/.installed-demo

$(VENV)/.installed-docs: $(PACKAGING) $(VENV)/.created
	$(INSTALL) -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
