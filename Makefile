PYTHON ?= python

.PHONY: install format check fast test app

install:
	$(PYTHON) -m pip install -e . -r requirements-dev.txt
	$(PYTHON) -m pre_commit install

format:
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .

check:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m mypy

fast:
	$(PYTHON) tests/run.py --fast

test:
	$(PYTHON) tests/run.py

app:
	$(PYTHON) app.py
