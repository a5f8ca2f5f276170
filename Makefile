# What a fresh Debian machine needs is set up by the first target that needs it. `make help` lists them.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FILE ?= etc/appd.conf
BIND ?= 127.0.0.1:8080
FUZZ_SECONDS ?= 300
SOURCES := $(shell find appd twisted -type f -not -name '*.pyc' -not -name dropin.cache)

# What packages are made of.
PACKAGED := $(SOURCES) $(shell find packaging units etc docs -type f) pyproject.toml README.md CHANGELOG.md LICENSE
DIST ?= trixie

.PHONY: help run test test-all test-oldest test-trixie test-packages lint quick install deb rpm bench fuzz server-types clean

help:
	@echo 'make run       serve $(FILE) on $(BIND)'
	@echo 'make test      lint, types and every test'
	@echo 'make test-all  the same tests on the oldest releases that are allowed, on Debian 13 with systemd 257, and of the packages'
	@echo 'make quick     the tests without a booted systemd'
	@echo 'make install   $(VENV) with appd and all its extras'
	@echo 'make deb       dist/appd_VERSION_all.deb for Debian 13, made in a root file system of it (root, on any Debian)'
	@echo 'make rpm       dist/appd-VERSION-1.noarch.rpm for Fedora and EL, made there, too'
	@echo 'make bench     the measurements of bench/, beside other servers'
	@echo 'make soak      ten minutes of mixed clients and reloads: does anything leak?'
	@echo 'make fuzz      the core of HTTP/1.1 and that of HTTP/2 fuzzed for $(FUZZ_SECONDS) seconds each'
	@echo 'make server-types  the pages of docs/server-types, after a component has changed'

run: $(VENV)/.installed
	@echo 'appd serves $(FILE) on http://$(BIND)/ - Ctrl-C stops it'
	@exec $(BIN)/appd run $(FILE) --bind http=$(BIND)

install: $(VENV)/.installed

# systemd-python has no wheels: its build needs a compiler, Python's headers, pkg-config and libsystemd-dev.
$(VENV)/.dependencies: pyproject.toml
	@PYTHON=$(PYTHON) packaging/build-needs
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=23.1' 'setuptools>=77'
	$(BIN)/python packaging/dependencies | xargs -d '\n' $(BIN)/python -m pip install --quiet
	@touch $@

# The wheel is what is tested everywhere, twistd's plugin and the units in it.
dist/wheel/.built: $(VENV)/.dependencies $(SOURCES) $(wildcard units/* etc/*) packaging/appd.catalog README.md LICENSE
	@rm -rf build dist/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist/wheel .
	@rm -rf build
	@touch $@

# Installed as a user would have it, not editable.
$(VENV)/.installed: dist/wheel/.built
	$(BIN)/python -m pip install --quiet --no-deps --force-reinstall dist/wheel/appd-*.whl
	@touch $@

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests wait for processes most of the time: several files at once. Those that boot a host come one after the other.
PARALLEL := -n 4 --dist loadfile

quick: lint
	$(BIN)/pytest -q $(PARALLEL) -m 'not system'

test: lint
	$(BIN)/pytest -q $(PARALLEL) -m 'not system'; quick=$$?; $(BIN)/pytest -q -m 'system and not package' && exit $$quick
ifeq ($(shell id -u),0)
	@$(MAKE) --no-print-directory deb
	$(BIN)/pytest -q tests/packages/test_deb.py -k readme
endif

# What `test` leaves out.
test-all: test-oldest test-trixie test-packages

# The tests on the oldest releases that pyproject.toml allows and the oldest Python at hand, random ones for longer. six is what that service_identity imports and does not declare.
test-oldest: .venv-oldest/.installed
	APPD_TEST_SECONDS=120 .venv-oldest/bin/pytest -q $(PARALLEL) -m 'not system' -W ignore  # old releases warn on newer Pythons

# The tests on a booted host, on Debian 13: its systemd, its Python and, as far as it has them, its packages.
test-trixie: $(VENV)/.installed
ifeq ($(shell id -u),0)
	@packaging/test-needs
	@$(MAKE) --no-print-directory .venv-trixie/.installed
	root=$$(packaging/root trixie) && APPD_SYSTEM_SANDBOX=inbound-only APPD_SYSTEM_ROOT=$$root $(BIN)/pytest -q tests/system
else
	@echo 'test-trixie is left out: making and booting a Debian 13 needs root'; test -z "$$APPD_REQUIRE_SYSTEM_TESTS"
endif

# The packages, each on hosts of their own: installed, upgraded under load, removed.
test-packages: $(VENV)/.installed
ifeq ($(shell id -u),0)
	@packaging/test-needs
	@$(MAKE) --no-print-directory deb rpm dist/.deb-bookworm $(PREVIOUS)/.deb $(PREVIOUS)/.rpm
	APPD_TEST_REQUESTS=50000 $(BIN)/pytest -q -n 2 --dist loadfile -m package
else
	@echo 'test-packages is left out: making and booting a Debian 13 needs root'; test -z "$$APPD_REQUIRE_SYSTEM_TESTS"
endif

.venv-trixie/.installed: packaging/root packaging/roots/trixie dist/wheel/.built
	packaging/root trixie --bind $(CURDIR) sh -euc 'cd $(CURDIR); test -x .venv-trixie/bin/pip || \
	    python3 -m venv --system-site-packages .venv-trixie; \
	    .venv-trixie/bin/pip install --quiet --no-build-isolation dist/wheel/appd-*.whl; \
	    .venv-trixie/bin/pip install --quiet --no-deps --force-reinstall dist/wheel/appd-*.whl'
	@touch $@

# The distribution's own Python is often older than the first one in $PATH, and it is what packages run on.
OLDEST_PYTHON = $(shell for one in $(PYTHON) /usr/bin/python3; do \
    $$one -c 'import sys; sys.version_info < (3, 11) or print("%d.%d.%d" % sys.version_info[:3], sys.executable)' 2>/dev/null; \
    done | sort -V | head -1 | cut -d ' ' -f 2)

.venv-oldest/.installed: pyproject.toml packaging/oldest.txt dist/wheel/.built
	@PYTHON=$(OLDEST_PYTHON) packaging/build-needs
	test -x .venv-oldest/bin/python || $(OLDEST_PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --upgrade 'pip>=23.1' 'setuptools>=77'
	(.venv-oldest/bin/python packaging/dependencies; echo six) | xargs -d '\n' \
	    .venv-oldest/bin/python -m pip install --quiet --constraint packaging/oldest.txt
	.venv-oldest/bin/python -m pip install --quiet --no-deps --force-reinstall dist/wheel/appd-*.whl
	@touch $@

# Without a change to what it is made of, a package is made once.
deb: dist/.deb-$(DIST)

dist/.deb-trixie: $(PACKAGED) dist/vendored/.downloaded
	@rm -f dist/*.deb
	packaging/deb dist
	@touch $@

server-types: $(VENV)/.installed
	$(BIN)/python -I packaging/server-types docs/server-types

# For another release: dist/RELEASE/appd_VERSION~RELEASE_all.deb, which the package of Debian 13 goes before.
dist/.deb-%: $(PACKAGED) dist/vendored/.downloaded
	@rm -rf dist/$*; mkdir -p dist/$*; ln -sfn ../vendored dist/$*/vendored
	packaging/deb dist/$* '' $*
	@touch $@

rpm: dist/.rpm

dist/.rpm: $(PACKAGED) dist/vendored/.downloaded
	@rm -f dist/*.rpm
	packaging/rpm/build dist
	@touch $@

# Those of an earlier commit, to upgrade from and to go back to: made once for each commit.
PREVIOUS := dist/previous/$(shell sed '/^\#/d' packaging/previous)

$(PREVIOUS)/.deb $(PREVIOUS)/.rpm: | dist/vendored/.downloaded
	@mkdir -p $(PREVIOUS); ln -sfn ../../vendored $(PREVIOUS)/vendored; rm -f $(PREVIOUS)/*$(suffix $@)
	packaging/earlier $(patsubst .%,%,$(suffix $@)) $(PREVIOUS)
	@touch $@

# What distributions do not have, by name and hash.
dist/vendored/.downloaded: packaging/vendored.txt $(VENV)/.dependencies
	rm -rf dist/vendored
	$(BIN)/python -m pip download --quiet --no-deps --require-hashes --requirement packaging/vendored.txt --dest dist/vendored
	@touch $@

# The servers that bench/ compares with; never in the environment that is tested.
.venv-bench/.installed: pyproject.toml
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --upgrade 'pip>=23.1'
	$(PYTHON) packaging/dependencies bench | xargs -d '\n' .venv-bench/bin/python -m pip install --quiet
	@touch $@

# One after the other, on a machine that does nothing else. BENCH=--quick only sees that they run.
bench: $(VENV)/.installed .venv-bench/.installed
	@command -v wrk >/dev/null || { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends wrk >/dev/null; } || \
	    echo 'please install first: apt-get install wrk'
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m compileall -q appd
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/adopt.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/echo.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/http_rates.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/asgi.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/memory.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/activation.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/restart.py $(BENCH)
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/tls.py --peers .venv-bench
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python bench/install.py

# What it finds is written to .cache/fuzz/ and belongs into tests/corpora/.
fuzz: $(VENV)/.installed
	$(BIN)/python packaging/dependencies fuzz | xargs -d '\n' $(BIN)/python -m pip install --quiet
	@mkdir -p .cache/fuzz/http1 .cache/fuzz/http2
	nice $(BIN)/python tests/fuzz/http1.py .cache/fuzz/http1 -max_total_time=$(FUZZ_SECONDS) -max_len=2048 \
	    -artifact_prefix=.cache/fuzz/
	nice $(BIN)/python tests/fuzz/http2.py .cache/fuzz/http2 -max_total_time=$(FUZZ_SECONDS) -max_len=2048 \
	    -artifact_prefix=.cache/fuzz/

soak: $(VENV)/.installed
	$(BIN)/python bench/soak.py

clean:
	rm -rf $(VENV) .venv-oldest .venv-trixie .venv-bench build dist .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
