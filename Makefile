# One word each; CI calls only these. `make setup` needs python3.11 or newer with venv, make and the package index.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed-from
# what tests, checks and formatting look at
CODE := src tests tools $(wildcard bench demo)
PYTEST := $(BIN)/python -m pytest
# How long make cluster goes on killing, in seconds, and make chaos-cluster, in minutes. Not from the environment: bash
# exports a SECONDS of its own
ifneq ($(origin SECONDS),command line)
SECONDS := 120
endif
MINUTES ?= 30
# Extra arguments for pytest: make test ARGS="-k reply -x"
ARGS ?=
# How long each target of make fuzz runs
FUZZ_SECONDS ?= 600
# A folder without tests yet (pytest's exit 5) fails nothing
MAYBE_EMPTY := || { status=$$?; [ $$status = 5 ]; }
# The lock files name versions and hashes, never where they came from
COMPILE := PIP_CONFIG_FILE=/dev/null $(BIN)/pip-compile --quiet --strip-extras --allow-unsafe --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

.PHONY: help setup demo serve fmt check test scenarios interop interop-all cluster-test cluster fuzz cov cov-pure bench docs build chaos chaos-cluster attacks lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## the virtual environment in .venv, from the lock file with hashes

$(STAMP): requirements-dev.lock pyproject.toml tools/retry
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Pillarbox needs Python 3.11 or newer (make setup PYTHON=python3.12)")'
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	tools/retry $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup  ## start a server, send through both ports, show every step; with a terminal it stays up
	@$(BIN)/python demo/demo.py $(ARGS)

serve: setup  ## run the server with ./pillarbox.toml (make serve ARGS="--config FILE")
	@$(BIN)/pillarbox serve $(ARGS)

fmt: setup  ## format the code, and repair what can be repaired without a decision
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

check: setup  ## formatting, lint, types, layers, spelling
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

test: setup  ## all tests but the scenarios and those that need other people's programs
	$(PYTEST) -n 2 --ignore=tests/scenarios --ignore=tests/interop --ignore=tests/cluster $(ARGS)

scenarios: setup  ## the real daemon on real sockets, one behaviour per file
	$(PYTEST) -n 2 --dist loadscope tests/scenarios -m "not chaos" $(ARGS) $(MAYBE_EMPTY)

interop: setup  ## with Postfix, swaks, msmtp, curl, s-nail, Nodemailer; installs them on Debian, runs in its own network
	tests/interop/install
	tests/interop/run $(BIN)/python -m pytest tests/interop -m "not heavy" $(ARGS) $(MAYBE_EMPTY)

interop-all: setup  ## interop with the heavy matrices and every directory; writes docs/reports/{interop,directories}.md
	tests/interop/install all
	tests/interop/run $(BIN)/python tools/report.py docs/reports/interop.md "Interop, all of it" tests/interop $(ARGS)
	$(BIN)/python tools/report.py docs/reports/directories.md "Every directory, the real server behind it" --by-file \
		$(wildcard tests/directory/*/) $(addprefix tests/contract/,test_directory_kinds.py test_tokens.py) \
		$(wildcard tests/scenarios/test_*_sign_in.py) $(addprefix tests/scenarios/test_,app_passwords.py \
		chain_of_directories.py cluster_tries.py dovecot_scram.py import_domino.py sites_apart.py two_sites.py) $(ARGS)

cluster-test: setup  ## a cell of PostgreSQL under Patroni with etcd, and what may happen to it; installs what it needs
	tests/cluster/install >/dev/null
	$(PYTEST) tests/cluster -m "not heavy" $(ARGS)

cluster: setup  ## a cluster on this machine: load, a kill -9 every few seconds, a live table (SECONDS=120)
	tests/cluster/install >/dev/null
	@$(BIN)/python -m tests.cluster.show --seconds $(SECONDS) $(ARGS)

fuzz: setup  ## Atheris over smtp, sasl and message (FUZZ_SECONDS each), then hypothesis, longer than in the tests
	tools/retry $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.lock
	for target in smtp sasl message; do $(BIN)/python tests/fuzz/atheris_run.py $$target --seconds $(FUZZ_SECONDS); done
	PILLARBOX_FUZZ_EXAMPLES=20000 $(PYTEST) tests/fuzz --timeout=3600 $(ARGS) $(MAYBE_EMPTY)

cov: setup  ## tests and scenarios with branch coverage; report in htmlcov/
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --ignore=tests/interop --ignore=tests/cluster $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage html --quiet
	$(BIN)/coverage report --skip-covered --skip-empty

cov-pure: setup  ## smtp, sasl and message have all their branches covered by their own tests, or this fails
	$(BIN)/coverage erase --data-file=.coverage.pure
	$(BIN)/coverage run --data-file=.coverage.pure --source=pillarbox.smtp,pillarbox.sasl,pillarbox.message \
		-m pytest -q tests/smtp tests/sasl tests/message $(ARGS)
	$(BIN)/coverage combine --quiet --data-file=.coverage.pure
	$(BIN)/coverage report --data-file=.coverage.pure --fail-under=100 --show-missing --skip-covered

bench: setup  ## the load client against a server of its own; writes a table beside the machine's fsync rate
	$(BIN)/python -m bench.run $(ARGS)
	$(BIN)/python bench/parser.py
	$(BIN)/python -m bench.spool_commit
	$(BIN)/python -m bench.spool_commit --slow-sync 3
	$(BIN)/python -m bench.cluster
	$(BIN)/python -m bench.directories

docs: setup  ## write the generated pages of docs/reference anew
	$(BIN)/python -m pillarbox.config.reference > docs/reference/config.md.new
	$(BIN)/python -m pillarbox.cli.reference > docs/reference/cli.md.new
	$(BIN)/python -m pillarbox.smtp.reference > docs/reference/protocol.md.new
	for page in config cli protocol; do mv docs/reference/$$page.md.new docs/reference/$$page.md; done

build: setup  ## the wheel, and a try of that wheel in a fresh virtual environment
	rm -rf dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	tools/try-wheel dist/*.whl

chaos: setup  ## kill -9 under load, again and again: long; writes docs/reports/chaos.md
	$(BIN)/python tools/report.py docs/reports/chaos.md "Chaos" tests/scenarios -m chaos --timeout=3600 $(ARGS)

chaos-cluster: setup  ## every fault on a whole cluster under load (MINUTES=30); writes docs/reports/chaos-cluster.md
	tests/cluster/install >/dev/null
	$(BIN)/python -m tests.cluster.chaos --minutes $(MINUTES) $(ARGS)

attacks: setup  ## what an honest user notices of each attack; wants a quiet machine; writes docs/reports/attacks.md
	$(BIN)/python -m tests.scenarios.attacks --page docs/reports/attacks.md $(ARGS)

lock: setup  ## bring the lock files up to the newest versions that pyproject.toml admits
	$(COMPILE) --upgrade --output-file requirements.lock pyproject.toml
	$(COMPILE) --upgrade --extra cluster --output-file requirements-cluster.lock pyproject.toml
	$(COMPILE) --upgrade --extra acme --output-file requirements-acme.lock pyproject.toml
	$(COMPILE) --upgrade --extra hashes --output-file requirements-hashes.lock pyproject.toml
	$(COMPILE) --upgrade --extra oauth --output-file requirements-oauth.lock pyproject.toml
	$(COMPILE) --upgrade --extra ldap --output-file requirements-ldap.lock pyproject.toml
	$(COMPILE) --upgrade --extra acme --extra cluster --extra hashes --extra oauth --extra dev --all-build-deps --output-file requirements-dev.lock pyproject.toml
	for folder in tests/fuzz tests/cluster; do (cd $$folder && \
		$(COMPILE:$(BIN)%=$(CURDIR)/$(BIN)%) --upgrade --output-file requirements.lock requirements.in); done

clean:  ## remove what the other targets made
	rm -rf .venv build dist htmlcov .coverage .coverage.* demo-data .fuzz tests/interop/nodemailer/node_modules \
		tests/directory/oauth/provider/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
