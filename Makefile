# Everything runs in .venv, made at the first use and again when the requirements change.
python ?= python3
bin := .venv/bin

.venv/stamp: pyproject.toml constraints.txt
	$(python) -m venv .venv
	$(bin)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

.PHONY: setup demo test test-all test-numbers lint clean

setup: .venv/stamp  ## the environment

demo: .venv/stamp  ## train on handwritten digits, sample, and write runs/demo/report.html; again: go on
	@if [ -e runs/demo/run.toml ]; then $(bin)/unsteep train --resume --out runs/demo; \
	else $(bin)/unsteep train digits --out runs/demo; fi

test: .venv/stamp  ## the tests, but for the long ones
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 -m "not long"

test-all: .venv/stamp  ## all tests
	OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2

test-numbers: .venv/stamp  ## the tests of numbers, as on processors without AVX-512, and without AVX2
	for kernels in avx2 default; do \
	  ATEN_CPU_CAPABILITY=$$kernels OMP_NUM_THREADS=1 $(bin)/python -m pytest -n 2 -m "numbers and not long" || exit; \
	done

lint: .venv/stamp  ## style, types, import directions
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports

clean:  ## the environment and caches
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
