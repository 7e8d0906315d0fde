# Two commands on a bare machine (Python 3.11 or newer, make; nothing else):
#   make demo    the whole path on this machine, live in the terminal
#   make test    everything, on a real Apache Kafka
# All that is made stays inside this directory: .venv and .cache.

SHELL := /bin/sh
BROKER ?= memory
DEMO_SECONDS ?=
TESTS ?= tests
EVAL_CORPORA ?=
EVAL_ARGS ?=
FORECAST_ARGS ?=
ROOT := $(CURDIR)

export PIP_CACHE_DIR := $(ROOT)/.cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PATH := $(ROOT)/.venv/bin:$(ROOT)/.cache/tools/usr/bin:$(PATH)

.PHONY: help demo test lint venv bench evaluate evaluate-forecasts events-bundle wheelhouse clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  make demo BROKER=kafka       the demo on a real Apache Kafka (needs Java 17 and Maven)"
	@echo "  make demo DEMO_SECONDS=60    ends by itself, with a summary"
	@echo "  make test TESTS=tests/unit   a part of the tests"
	@echo "  KAFKA_BOOTSTRAP=host:port    uses this Kafka for the tests"

demo: .venv/.installed-demo  ## the whole path on this machine: BROKER=memory|kafka, DEMO_SECONDS=n
	@if [ "$(BROKER)" = kafka ]; then .ci/tools java mvn; fi
	@exec streamproc demo --broker $(BROKER) $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS))

test: .venv/.installed-test  ## lint, types, layers and all tests on a real Apache Kafka
	@.ci/tools java mvn tshark promtool prometheus alertmanager systemd-analyze kustomize
	@$(MAKE) --no-print-directory lint
	@.ci/tests $(TESTS)

lint: .venv/.installed-test  ## ruff, mypy, import-linter
	ruff check .
	ruff format --check .
	mypy
	lint-imports

bench: .venv/.installed-test  ## the decoder and the batch seam against the bare client
	streamproc bench decode
	@.ci/tools java mvn
	streamproc bench seam

evaluate: .venv/.installed-test  ## find and name the events of the corpora: EVAL_CORPORA="more.npz ..." EVAL_ARGS=...
	@mkdir -p .cache/evaluate
	TMPDIR=$(ROOT)/.cache/evaluate streamproc evaluate events tests/data/andes39_events tests/data/events $(EVAL_CORPORA) \
		--ambient tests/data/gsf_openpdc_freq/freq_80min.csv.gz --report .cache/evaluate/report.html $(EVAL_ARGS)
	streamproc evaluate floods tests/data/andes39_events tests/data/events
	@$(MAKE) --no-print-directory evaluate-forecasts

evaluate-forecasts: .venv/.installed-test  ## the table of forecast targets; fetches its data first (an hour on two cores)
	@.ci/series .cache/series
	python -m tools.forecast_table --data .cache/series $(FORECAST_ARGS)

events-bundle: .venv/.installed-test  ## what names disturbances, fitted anew: corpora made with ANDES, then `train events`
	@.ci/corpora train
	streamproc train events tests/data/andes39_events tests/data/events .cache/corpora/train \
		--ambient tests/data/gsf_openpdc_freq/freq_80min.csv.gz --out streamproc/bundles/events

wheelhouse:  ## dist/wheelhouse: streamproc and all it needs, for machines without a network
	@python3 -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(MAKE) --no-print-directory venv
	rm -rf dist/wheelhouse
	python3 -m pip wheel --quiet --wheel-dir dist/wheelhouse .
	cd dist/wheelhouse && sha256sum *.whl \
		| awk '{ split($$2, part, "-"); print part[1] "==" part[2] " --hash=sha256:" $$1 }' >requirements.txt
	@echo "$$(ls dist/wheelhouse/*.whl | wc -l) wheels for $$(python3 -V) in dist/wheelhouse: take the directory to the other machine, then"
	@echo "  pip install --no-index --find-links wheelhouse --require-hashes -r wheelhouse/requirements.txt"

venv: .venv/.installed-test  ## the environment for development

.venv/.installed-%: pyproject.toml .ci/venv
	@.ci/venv $*

clean:  ## remove everything that was made here
	rm -rf .venv .cache build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
