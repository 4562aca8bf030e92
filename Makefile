# `make demo` and `make test` each do everything on a fresh machine:
# virtual environment, pinned packages, compiled extensions, run.
# Needs Python 3.11 or 3.12 with venv and a C++17 compiler; nvcc is used where it is found.

PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo.mp4
PYTEST_ARGS ?=
FUZZ_SECONDS ?= 60

# Every path below is relative, so the folder of the clone may have spaces in its name.
BIN := $(VENV)/bin
PIP := "$(BIN)/python" -m pip --disable-pip-version-check
SOURCES := $(shell find csrc dmt dmt_kernels -type f -not -path '*/__pycache__/*' -not -name '*.so' 2>/dev/null) \
	pyproject.toml setup.py

.PHONY: help demo test test-slow docs lint format doctor audit fuzz clean

help:
	@echo "make demo     write $(DEMO): the bundled portrait says the bundled sentence"
	@echo "make test     run the whole test suite against the installed package"
	@echo "make test-slow  the tests that take minutes: hours of sound, many clients at once"
	@echo "make docs     write the reference of the Python interface to build/docs"
	@echo "make lint     ruff and clang-format, changing nothing"
	@echo "make format   the same, mending what can be mended"
	@echo "make audit    look up the pinned packages in the database of known faults (needs a network)"
	@echo "make fuzz     attack every reader of files for $(FUZZ_SECONDS) seconds (FUZZ_SECONDS=...), guided by coverage"
	@echo "make doctor   say what this machine has and what is missing"
	@echo "make clean    remove the environment and what was built"

demo: $(VENV)/.demo
	"$(BIN)/dmt" demo -o "$(DEMO)"

# The suite runs against the installed package, and insists that the compiled operators are what ran.
test: $(VENV)/.test
	DMT_EXPECT_COMPILED=1 DMT_EXPECT=cpu "$(BIN)/pytest" tests $(PYTEST_ARGS)

test-slow: $(VENV)/.test
	"$(BIN)/pytest" tests -m slow $(PYTEST_ARGS)

docs: $(VENV)/.demo
	$(PIP) install -q -c constraints.txt pdoc gradio fastapi uvicorn python-multipart websockets prometheus-client
	"$(BIN)/python" docs/api.py build/docs

lint: $(VENV)/.test
	"$(BIN)/ruff" check .
	"$(BIN)/ruff" format --check .
	find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' | xargs -r "$(BIN)/clang-format" --dry-run -Werror

format: $(VENV)/.test
	"$(BIN)/ruff" check --fix .
	"$(BIN)/ruff" format .
	find csrc -name '*.cpp' -o -name '*.cu' -o -name '*.h' -o -name '*.cuh' | xargs -r "$(BIN)/clang-format" -i

# Asks pypi.org about every pin, so it is no part of `make test`, which works without a network. The tool has an
# environment of its own: it must not change what it looks at. --no-deps: constraints.txt is the whole list already;
# --strict: a package that could not be looked up is a failure.
audit:
	"$(PYTHON)" -m venv "$(VENV)/audit"
	"$(VENV)/audit/bin/python" -m pip --disable-pip-version-check install -q "pip-audit==2.10.1"
	"$(VENV)/audit/bin/pip-audit" --requirement constraints.txt --no-deps --disable-pip --strict

# atheris lies in a folder of its own too, so that the environment stays what constraints.txt says. What a run has
# learnt, in build/fuzz, is where the next one begins; so are the files that a reader did not stand, for tests.
fuzz: $(VENV)/.test
	$(PIP) install -q --upgrade --target "$(VENV)/fuzz" "atheris==3.0.0"
	PYTHONPATH="$(VENV)/fuzz" "$(BIN)/python" tests/fuzz_readers.py --seconds $(FUZZ_SECONDS)

doctor: $(VENV)/.demo
	"$(BIN)/dmt" doctor

# The extensions are built against the torch that will load them: no isolation, one torch.
$(VENV)/.base: constraints.txt
	"$(PYTHON)" -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 12) or sys.exit("constraints.txt pins packages for Python 3.11 and 3.12; this is %d.%d. Run: make PYTHON=python3.11 ..." % v)'
	"$(PYTHON)" -m venv "$(VENV)"
	$(PIP) install -q -c constraints.txt torch numpy setuptools wheel pybind11 ninja
	touch $@

$(VENV)/.demo: $(VENV)/.base $(SOURCES)
	rm -rf build/lib*
	$(PIP) install -q -c constraints.txt --no-build-isolation ".[face]"
	touch $@

$(VENV)/.test: $(VENV)/.base $(SOURCES)
	rm -rf build/lib*
	$(PIP) install -q -c constraints.txt --no-build-isolation ".[face,train,onnx,web,ray,dev]"
	touch $@ "$(VENV)/.demo"

clean:
	rm -rf "$(VENV)" build *.egg-info
