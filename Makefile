# The two that matter: `make demo` shows it, `make test` proves it. Both install what is missing and need root for the
# private host in which real containers run. The rest are parts of those two.
MAKEFLAGS += --no-print-directory
# Tests and benchmarks start the program thousands of times: not to be compiled each time.
unexport PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.PHONY: help demo test unit lint format docs bench plots bench-deps setup images clean

# One pytest process directs, two run tests, and each is in a private host of its own.
WORKERS := -d --tx '2*popen//python=scripts/private-python'

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 14

demo: setup images ## Run real images on every storage x network pair
	@scripts/demo

test: setup images lint ## The whole suite, real containers included (as root)
	@PLUGRUN_REQUIRE_ROOT=1 scripts/private-host .venv/bin/pytest $(WORKERS) $(ARGS)

unit: setup ## The quick part of the suite, no root needed
	@.venv/bin/pytest -q -n 2 -m 'not root and not slow' $(ARGS)

lint: setup ## Style and types
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --check --quiet
	@.venv/bin/mypy --no-error-summary

format: setup ## Mend what lint can mend by itself
	@.venv/bin/ruff check --quiet --fix
	@.venv/bin/ruff format --quiet

docs: setup ## Write the reference pages from the code
	@.venv/bin/python docs/gen.py

bench: setup images ## Side by side with podman and docker, those installed (as root)
	@scripts/private-host .venv/bin/python bench/run.py
	@scripts/private-host .venv/bin/python bench/pull.py
	@scripts/private-host .venv/bin/python bench/storage.py
	@scripts/private-host .venv/bin/python bench/network.py

plots: setup ## Draw the plots of docs/bench from its numbers
	@$$(command -v uv || ls .cache/uv-*/bin/uv | tail -n 1) run --quiet --no-project --with 'matplotlib==3.10.*' bench/plots.py

bench-deps: ## Install from Debian what make bench needs
	@apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends podman docker.io curl \
		iperf3 sockperf

setup: ## Install what is missing
	@scripts/setup

images: setup ## Build the images that demo, test and bench run
	@scripts/images

clean: ## Remove everything that was made in the checkout
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache
