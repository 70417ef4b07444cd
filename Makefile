# One word each; CI calls only these. `make setup` needs python3.11+ with venv and the package index, nothing else.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup fmt
setup:
	$(PYTHON) -m venv .venv

fmt:
	$(BIN)/ruff format src tests
