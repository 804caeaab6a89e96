# The commands of this repository; `make` alone lists them.
#
# Everything is installed into $(VENV). A stamp file stands for each step that is done, so that a
# second run starts at once; a step runs again when pyproject.toml is newer than its stamp. What the
# steps do, and what they say when something is missing, is in .ci/install.py and .ci/engine.py.
#
#   make PYTHON=/path/to/python3.12 dashboard     builds with a certain Python
#   make dashboard ARGS="--port 9000"             hands arguments on
#   make test ARGS="tests/core -k fit"            likewise, to pytest
#   make bench ARGS=--quick                      likewise, to each benchmark

VENV ?= .venv
PYTHON ?=
ARGS ?=

BIN := $(VENV)/bin
STAMPS := $(VENV)/share/gguf-widgets/stamps
INSTALL := $(BIN)/python .ci/install.py

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # two pips must not write into one environment
.SUFFIXES:
.PHONY: help dashboard lab test check bench install llama engine clean

help:
	@echo "make dashboard   open the dashboard in your browser (installs what it needs the first time)"
	@echo "make lab         open the notebooks in JupyterLab"
	@echo "make test        run all tests, the ones in a real browser too"
	@echo "make check       check style and types, of the Python and of the JavaScript"
	@echo "make bench       measure speed and print ratios"
	@echo "make install     only install"
	@echo "make llama       try again to install the engine, llama-cpp-python"
	@echo "make clean       remove $(VENV) and what tools leave behind"

dashboard: engine
	@exec $(BIN)/gguf-widgets dashboard $(ARGS)

lab: engine
	@exec $(BIN)/gguf-widgets lab $(ARGS)

install: engine

# The tests run the real engine, so here its absence is a failure. Two files at a time: a test in a
# browser waits more than it computes.
test: $(STAMPS)/test $(STAMPS)/browser
	@$(INSTALL) engine --must
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

# The type checker reads the engine's own types, so it is installed for this, too.
check: $(STAMPS)/dev engine
	@.ci/check.sh $(BIN)

bench: $(STAMPS)/bench $(STAMPS)/browser # some figures are taken in a real browser
	@$(INSTALL) engine --must
	@missed=""; \
	for script in tests/bench/bench_*.py; do \
	    echo; echo "== $$script"; \
	    $(BIN)/python "$$script" $(ARGS) || missed="$$missed $$script"; \
	done; \
	test -z "$$missed" || { echo; echo "Failed, or missed their goal:$$missed"; exit 1; }

# Always asked, because the answer depends on the compiler too; it takes a twentieth of a second.
engine: $(STAMPS)/package
	@$(INSTALL) engine

llama: $(STAMPS)/package
	@$(INSTALL) engine --again --must

clean:
	@test ! -e $(VENV)/pyvenv.cfg || { echo "rm -rf $(VENV)"; rm -rf $(VENV); }
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf tests/js/node_modules tests/ui/artifacts tests/bench/cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- steps --------------------------------------------------------------------------------------

# An environment that was made elsewhere (this folder has been moved) or whose Python no longer runs
# (the system was upgraded) is forgotten here and made anew.
$(shell test ! -d $(STAMPS) || { \
    test "$$(cat $(STAMPS)/venv)" = '$(CURDIR)' && $(BIN)/python -c ''; \
  } 2>/dev/null || rm -rf $(STAMPS))

$(STAMPS)/venv:
	@python=$$(PYTHON='$(PYTHON)' sh .ci/find_python.sh) && "$$python" .ci/install.py venv $(VENV)
	@mkdir -p $(STAMPS) && echo '$(CURDIR)' > $@

# What whoever runs it from a clone would miss; none of it is compiled.
EXTRAS := charts documents download tables

$(STAMPS)/package: pyproject.toml | $(STAMPS)/venv
	@$(INSTALL) package $(EXTRAS)
	@touch $@

$(STAMPS)/test $(STAMPS)/dev $(STAMPS)/bench: pyproject.toml $(STAMPS)/package
	@$(INSTALL) package $(EXTRAS) $(@F)
	@touch $@

$(STAMPS)/browser: $(STAMPS)/test
	@$(INSTALL) browser
	@touch $@
