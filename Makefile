# The commands of the README. Each sets up .venv when it is missing or out of date, and rebuilds what changed.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

BUILD_TOOLS := 'setuptools>=77' 'pybind11>=2.13' 'cmake>=3.25' ninja
CPP_FILES = $(shell find csrc tests/cpp -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

.PHONY: demo test bench lint build clean

demo: build
	mnv2 demo

test: build
	cmake --workflow --preset plain
	cmake --workflow --preset sanitize
	python -m pytest

bench: build
	python -m pytest benchmarks

lint: $(VENV)/set-up
	ruff check
	ruff format --check
	clang-format --dry-run --Werror $(CPP_FILES)

build: $(VENV)/set-up
	python setup.py --quiet build_ext --inplace

# The editable install comes last: it compiles, and needs torch for that.
$(VENV)/set-up: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	pip install torch torchvision $(BUILD_TOOLS)
	pip install --no-build-isolation --editable '.[test,bench,dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info mnv2_kernels/*.so
