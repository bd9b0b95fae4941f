# One command from a bare machine: `make demo`. Needs Python 3.11+ and make; network only for `setup`.
PYTHON3 ?= python3
VENV := .venv
VENV_BACKENDS := .venv-backends
PYTHON := $(VENV)/bin/python
# Most of 20,000 modules are never imported; Python compiles the others when they are.
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints.txt
# Small matrix products of two processes, each on every core, slow each other down many times.
ONE_THREAD := OPENBLAS_NUM_THREADS=1
# A file of tests is one piece of work; half the suite is compiling, which uses one core.
PYTEST_PARALLEL := -n auto --maxprocesses 4 --dist loadfile
EXTRAS := web,cluster,export,trunks,vectors,dev

# What pip cannot install, as probe:package. Libraries are for OpenCV's window and 3D viewers;
# programs are for tests of windows and web pages, which skip without them.
LIBRARIES := libGL.so.1:libgl1 libEGL.so.1:libegl1 libgomp.so.1:libgomp1 libSM.so.6:libsm6 \
	libXext.so.6:libxext6 libX11-xcb.so.1:libx11-xcb1 libglib-2.0.so.0:libglib2.0-0 libusb-1.0.so.0:libusb-1.0-0
PROGRAMS := Xvfb:xvfb xdotool:xdotool chromium:chromium chromedriver:chromium-driver import:imagemagick

.DEFAULT_GOAL := help
.PHONY: help setup setup-backends demo test test-backends lint bench train-all clean

help:
	@echo "make setup          environment in $(VENV), system libraries"
	@echo "make demo           set up, run every application, write out/demo/index.html"
	@echo "make test           lint, import contracts, the whole suite"
	@echo "make test-backends  the marked subset on JAX and on PyTorch, in $(VENV_BACKENDS)"
	@echo "make lint           ruff and import contracts only"
	@echo "make bench          speed and quality beside other programs"
	@echo "make train-all      train every shipped weight file again (hours)"
	@echo "make clean          remove environments, caches and build results"

setup: $(VENV)/.complete

setup-backends: $(VENV_BACKENDS)/.complete

demo: setup
	$(VENV)/bin/convsuite demo -o out/demo

test: lint
	$(ONE_THREAD) $(PYTHON) -m pytest $(PYTEST_PARALLEL)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/lint-imports

test-backends: setup-backends
	$(ONE_THREAD) KERAS_BACKEND=jax $(VENV_BACKENDS)/bin/python -m pytest -m backends $(PYTEST_PARALLEL)
	$(ONE_THREAD) KERAS_BACKEND=torch $(VENV_BACKENDS)/bin/python -m pytest -m backends $(PYTEST_PARALLEL)

bench: setup
	$(VENV)/bin/convsuite enhance bench speed
	$(VENV)/bin/convsuite enhance bench flicker
	$(VENV)/bin/convsuite backbones bench twins
	$(VENV)/bin/convsuite backbones bench taps
	$(VENV)/bin/convsuite backbones bench grouped
	$(VENV)/bin/convsuite ocnn bench build
	$(VENV)/bin/convsuite ocnn bench scaling
	$(VENV)/bin/convsuite ocnn bench speed
	$(VENV)/bin/convsuite ocnn bench robustness

train-all: setup
	$(VENV)/bin/convsuite enhance train-looks
	$(VENV)/bin/convsuite backbones train shipped --digits "$$CONVSUITE_DATA/digits" \
		--pictures "$$CONVSUITE_DATA/cifar/cifar10_train_10k.zip" \
		--test "$$CONVSUITE_DATA/cifar/cifar10_test_2k.zip" \
		--licence "CIFAR-10 (Krizhevsky 2009), research use; non-commercial" \
		-o data/weights/backbones
	$(VENV)/bin/convsuite ocnn train shipped --data "$$CONVSUITE_DATA/meshes"
	$(VENV)/bin/convsuite textcnn train-shipped --data "$$CONVSUITE_DATA/text"

clean:
	rm -rf $(VENV) $(VENV_BACKENDS) build dist out/demo *.egg-info
	rm -rf .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find apps shared tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.complete: pyproject.toml constraints.txt $(VENV)/.system
	@echo "installing packages into $(VENV): about 4 GB, some minutes"
	@$(PYTHON) $(PIP_INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

# Without TensorFlow, so that the other backends prove that they stand alone; and without Open3D,
# whose tests say nothing about backends.
$(VENV_BACKENDS)/.complete: pyproject.toml constraints.txt
	@$(call create_venv,$(VENV_BACKENDS))
	@echo "installing packages into $(VENV_BACKENDS): some minutes"
	@$(VENV_BACKENDS)/bin/python $(PIP_INSTALL) jax torch $$($(VENV_BACKENDS)/bin/python -c '$(LIST_REQUIREMENTS)')
	@# The octrees of another program, to compare with; what it wants beside torch, we do not use.
	@$(VENV_BACKENDS)/bin/python $(PIP_INSTALL) --no-deps ocnn
	@$(VENV_BACKENDS)/bin/python $(PIP_INSTALL) --no-deps --editable .
	@touch $@

$(VENV)/.system: Makefile
	@$(call create_venv,$(VENV))
	@$(install_system_packages)
	@touch $@

LIST_REQUIREMENTS := import tomllib; \
	project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	extras = project["optional-dependencies"]; \
	wanted = project["dependencies"] + extras["dev"] + extras["trunks"]; \
	print(*(line for line in wanted if not line.startswith(("tensorflow", "open3d"))))

define create_venv
$(PYTHON3) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	echo "error: convsuite needs Python 3.11 or newer, $(PYTHON3) is older or missing;" \
		"name another one: make setup PYTHON3=/path/to/python3.12" >&2; exit 1; }; \
$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || { \
	echo "error: $(PYTHON3) has no venv module; on Debian and Ubuntu:" \
		"apt-get install python3-venv" >&2; exit 1; }; \
test -x $(1)/bin/python || $(PYTHON3) -m venv $(1)
endef

define install_system_packages
missing=""; \
for entry in $(LIBRARIES); do \
	PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null | grep -q "$${entry%%:*} " || missing="$$missing $${entry#*:}"; \
done; \
for entry in $(PROGRAMS); do \
	command -v "$${entry%%:*}" >/dev/null || missing="$$missing $${entry#*:}"; \
done; \
test -z "$$missing" && exit 0; \
if test "$$(id -u)" = 0; then as_root=""; else as_root="sudo -n"; fi; \
if command -v apt-get >/dev/null && $$as_root true 2>/dev/null; then \
	$$as_root apt-get update -qq || true; \
	for package in $$missing; do \
		echo "installing $$package"; \
		$$as_root env DEBIAN_FRONTEND=noninteractive \
			apt-get install -qq --no-install-recommends "$$package" >/dev/null \
			|| echo "warning: $$package could not be installed" >&2; \
	done; \
else \
	echo "note: some system packages are missing and need an administrator:" \
		"apt-get install$$missing (windows and their tests do not run without them)" >&2; \
fi
endef
