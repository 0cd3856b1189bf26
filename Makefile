# One environment, the demo, the tests, and every recipe by name. `make help` lists it all.
PYTHON ?= python3
VENV ?= .venv
SAMA := $(VENV)/bin/sama
INSTALLED := $(VENV)/.installed
ARGS ?=
INPUTS ?= 10000

.PHONY: help demo test fuzz docs notebooks reference bad-inputs licences audit lint picture tour \
	report-screenshots benchmarks gpu table-text table-pruning large-selection clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -hE '^[a-z%-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | \
		awk -F '\t' '{ printf "make %-18s %s\n", $$1, $$2 }'
	@echo
	@echo "recipes: $(basename $(notdir $(wildcard recipes/*.yaml)))"
	@echo "ARGS hands options on: make reweight-trec ARGS='data.path=../shared/data/trec --seed 3'"

# torch first: any looser range would fetch another build of several GB.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --constraint constraints.txt torch
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[demo,dev]'
	touch $@

demo: $(INSTALLED) ## reweight noisy text and prune noisy images, on real data
	$(SAMA) demo text --overwrite
	$(SAMA) demo vision --overwrite

test: $(INSTALLED) ## run every test
	$(VENV)/bin/python -m pytest $(ARGS)

fuzz: $(INSTALLED) ## 10,000 broken recipes, tables and command lines; none may give a traceback
	SAMA_FUZZ_INPUTS=$(INPUTS) $(VENV)/bin/python -m pytest tests/fuzz $(ARGS)

docs: $(INSTALLED) ## the documentation as web pages, into build/site
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet

notebooks: $(INSTALLED) ## run the notebooks, into themselves (some minutes)
	$(VENV)/bin/python docs/make_notebooks.py

reference: $(INSTALLED) ## the reference pages from the code, into docs/reference
	$(VENV)/bin/python docs/make_reference.py

bad-inputs: $(INSTALLED) ## try every bad input that is listed, into docs/bad-inputs.md
	$(VENV)/bin/python docs/make_bad_inputs.py

licences: $(INSTALLED) ## the licences of what samacli needs, into docs/licences.md
	$(VENV)/bin/python docs/make_licences.py

audit: $(INSTALLED) ## look the pinned packages up in PyPI's list of known vulnerabilities (network)
	$(PYTHON) -m venv $(VENV)-audit
	$(VENV)-audit/bin/pip install --quiet 'pip-audit==2.10.1'
	$(VENV)-audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict $(ARGS) || \
		{ code=$$?; echo 'make audit: vulnerabilities, or PyPI out of reach: see above; nothing is proven safe' >&2; exit $$code; }

lint: $(INSTALLED) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

RUN ?= runs/demo-text
picture: $(INSTALLED) ## what a run ends with, into docs/demo.svg (RUN=DIR; make tour does it too)
	$(VENV)/bin/python docs/make_picture.py $(RUN)

tour: $(INSTALLED) ## a newcomer's first ten minutes, typed and answered, into docs/tour.md
	$(VENV)/bin/python docs/make_tour.py

# The runs that are there are taken as they are: `make demo` repeats them.
report-screenshots: $(INSTALLED) ## the demos' reports and their review in a browser, into docs/screenshots
	test -f runs/demo-text/metrics.json || $(SAMA) demo text
	test -f runs/demo-vision/metrics.json || $(SAMA) demo vision
	$(VENV)/bin/python docs/make_screenshots.py

# PLACE names the machine: make benchmarks PLACE=h100 ARGS='--precision bf16 --device cuda'
PLACE ?= cpu
benchmarks: $(INSTALLED) ## measure the engine beside its rivals (an hour), into docs/benchmarks
	SAMA=$(SAMA) docs/benchmarks/run.sh docs/benchmarks/$(PLACE) $(ARGS)
	test -f docs/benchmarks/$(PLACE)/local_direction.json || \
		$(VENV)/bin/python docs/benchmarks/local_direction.py docs/benchmarks/$(PLACE)/local_direction.json
	$(VENV)/bin/python docs/benchmarks/make_tables.py docs/benchmarks/$(PLACE)

# On a machine with a GPU, a few minutes at a time; docs/benchmarks/gpu/README.md has the calls.
gpu: $(INSTALLED) ## measure on a GPU for 400 s, and go on next time: ARGS='--list', '--seconds 200'
	$(VENV)/bin/python docs/benchmarks/gpu/run.py $(ARGS)
	$(VENV)/bin/python docs/benchmarks/gpu/page.py

# The folder with the data sets: this checkout's own where it has them.
DATA ?= $(if $(wildcard data/trec),data,../shared/data)
table-text: $(INSTALLED) ## every method on weakly labelled text (hours; goes on where it was cut off)
	$(SAMA) table text --data $(DATA) --output docs/results $(ARGS)

table-pruning: $(INSTALLED) ## every pruning score by retraining (hours; goes on where it was cut off)
	$(SAMA) table pruning --data $(DATA) --output docs/results $(ARGS)

large-selection: $(INSTALLED) ## select from 100 million scores, into docs/results (some minutes)
	$(VENV)/bin/python docs/benchmarks/large_selection.py --report docs/results/large-selection.md

table-honesty: $(INSTALLED) ## whether the claims hold, on simulated truth (a quarter of an hour; goes on)
	$(VENV)/bin/python -m samacli.lab.honesty --output docs/results $(ARGS)

table-attribution: $(INSTALLED) ## slopes against retraining without the rows (20 minutes; goes on)
	$(VENV)/bin/python -m samacli.lab.attribution --data $(DATA) --output docs/results $(ARGS)

table-%: $(INSTALLED) ## any other table by name
	$(SAMA) table $* --data $(DATA) --output docs/results $(ARGS)

reweight-%: $(INSTALLED) ## sama reweight with the recipe of that name
	$(SAMA) reweight $* --output runs/reweight-$* $(ARGS)

prune-%: $(INSTALLED) ## sama prune with the recipe of that name
	$(SAMA) prune $* --output runs/prune-$* $(ARGS)

clean: ## remove the environment and the caches, not the runs
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
