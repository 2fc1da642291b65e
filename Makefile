# Two commands set up everything in a virtual environment of their own: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM ?= true

.PHONY: install demo test lint types unit docs clean

install: $(VENV)/.installed

# torch first and pinned: a machine without a GPU then gets the small build
$(VENV)/.installed: pyproject.toml plugins/ner/pyproject.toml plugins/sentiment/pyproject.toml plugins/translation/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,lora]' --editable plugins/ner --editable plugins/sentiment \
		--editable 'plugins/translation[ct2]'
	touch $@

demo: install
	rm -rf $(DEMO)
	$(BIN)/nlpkit demo shop --out $(DEMO)/shop
	$(BIN)/nlpkit pretrain $(DEMO)/shop/reviews.csv --objective mlm --out $(DEMO)/runs/base --config demo
	$(BIN)/nlpkit fit --task sentiment $(DEMO)/shop/labelled.csv --from $(DEMO)/runs/base --out $(DEMO)/runs/sentiment
	$(BIN)/nlpkit evaluate $(DEMO)/runs/sentiment $(DEMO)/shop/more-labelled.csv
	$(BIN)/nlpkit predict $(DEMO)/runs/sentiment $(DEMO)/shop/new.csv

test: install lint types unit

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: install
	$(BIN)/mypy

unit: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

# the site, in build/site; a dead link or anchor is an error
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build
