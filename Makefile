# The commands of the README. Each sets up .venv when it is missing or out of date, and rebuilds what changed.

PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

BUILD_TOOLS := 'setuptools>=70.1' 'pybind11>=2.13' 'cmake>=3.26' ninja
CPP_FILES = $(shell find csrc examples tests/cpp tests/emulator benchmarks -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

# What the CUDA kernels and their tests are compiled with where there is no CUDA toolkit; they need no GPU.
CUDA_TOOLKIT := nvidia-cuda-nvcc nvidia-cuda-runtime nvidia-cuda-cccl

# Each process loads a torch of its own.
PARALLEL = --numprocesses auto --maxprocesses 4 --dist worksteal

# What setup.py builds in.
RELEASE = build/$$(python -c 'import sys; print(sys.implementation.cache_tag)')-release

# What pytest adds to ctest where there is a build for ARM.
ARM_TESTS = tests/test_arm_build.py tests/test_arm_instructions.py tests/test_disassembly_arm.py \
	tests/test_network_program.py

RESULTS = benchmarks/results

# The other torch that test-torch runs this build's libraries under.
TORCH ?= 2.13.0
TORCH_VENV = build/torch-$(TORCH)

.PHONY: demo check test test-arm arm-tools test-torch bench record gpu-check lint build clean

demo: build
	mnv2 demo

# Between edits: some of every kind of test. CUDA's kernels run in pytest's emulator; valgrind and sanitizers take long.
check: $(VENV)/set-up
	ruff check
	MNV2_BUILD_TESTS=ON python setup.py --quiet build_ext --inplace
	MNV2_TEST_SAMPLE=5 ctest --test-dir $(RELEASE) --output-on-failure --no-tests=error --parallel 2 \
		--exclude-regex '^(emulator|forward)_'
	python -m pytest $(PARALLEL) -m 'not slow'

test: build
	MNV2_BUILD_TESTS=ON python setup.py --quiet build_ext --inplace
	ctest --test-dir $(RELEASE) --output-on-failure --no-tests=error --parallel 2
	cmake --workflow --preset sanitize
	cmake --workflow --preset thread
	python -m pytest $(PARALLEL) -m 'not ray'
	python -m pytest -m ray

test-arm: arm-tools build
	cmake --preset arm
	cmake --build --preset arm
	ctest --preset arm-cortex-a53
	ctest --preset arm-neoverse-n1
	ctest --preset arm-no-sve
	MNV2_ARM_BUILD=build/arm python -m pytest $(ARM_TESTS)

# Before anything is built.
arm-tools:
	@which aarch64-linux-gnu-g++ qemu-aarch64-static >/dev/null || \
		{ echo "test-arm needs g++-aarch64-linux-gnu and qemu-user-static (Debian's names)" >&2; exit 1; }

test-torch: build
	rm -rf build/wheel
	python -m build --wheel --no-isolation --outdir build/wheel
	$(PYTHON) -m venv $(TORCH_VENV)
	$(TORCH_VENV)/bin/pip install torch==$(TORCH) pytest hypothesis
	$(TORCH_VENV)/bin/pip install --force-reinstall --no-deps build/wheel/*.whl
	$(TORCH_VENV)/bin/pytest tests/test_ops.py tests/test_block.py tests/test_stem_head.py tests/test_layouts.py \
		tests/test_network.py

# All peers take gigabytes, which nothing else here needs.
bench: build
	pip install --no-build-isolation --editable '.[bench]'
	mnv2 bench --quick
	pytest benchmarks --benchmark-only -k quick

# Every results file of this machine, the README's table and the report of them; traffic needs valgrind.
record: build
	pip install --no-build-isolation --editable '.[bench]'
	mnv2 bench --json $(RESULTS)/peers.json
	mnv2 bench --peers deploy,int8,openvino-int8,onnxruntime-int8 --threads 1 --threads 2 --batch 1 --batch 8 \
		--json $(RESULTS)/int8.json
	mnv2 traffic --json $(RESULTS)/traffic.json
	mnv2 roofline --json $(RESULTS)/roofline.json
	mnv2 memory --json $(RESULTS)/memory.json
	mnv2 memory --split --json $(RESULTS)/memory-split.json
	mnv2 bottleneck --out build/bottleneck.png --json $(RESULTS)/bottleneck.json
	mnv2 headlines --json $(RESULTS)/headlines.json
	mnv2 scaling --json $(RESULTS)/scaling.json
	python benchmarks/readme.py
	mnv2 report

# Needs CMake, Ninja, nvcc, a GPU and the Python packages, but not this package installed.
gpu-check:
	$(PYTHON) benchmarks/gpu/check.py

lint: $(VENV)/set-up
	ruff check
	ruff format --check
	mypy
	clang-format --dry-run --Werror $(CPP_FILES)

build: $(VENV)/set-up
	python setup.py --quiet build_ext --inplace

# The editable install comes last: it compiles, and needs torch for that.
$(VENV)/set-up: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	pip install torch torchvision $(BUILD_TOOLS)
	command -v nvcc || [ "$$CUDA_HOME$$MNV2_CUDA" ] || pip install $(CUDA_TOOLKIT)
	pip install --no-build-isolation --editable '.[test,dev]'
	touch $@

clean:
	rm -rf build dist *.egg-info mnv2_kernels/*.so
