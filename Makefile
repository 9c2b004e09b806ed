# agentd: what people type. `make run` and `make test` need nothing but Rust
# and a Debian or Ubuntu machine; the rest is for those who work on it.

TARGET := x86_64-unknown-linux-gnu
BINARY := target/$(TARGET)/release/agentd
# What lint-deb looks at.
DEB ?= target/debian/agentd_*.deb
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

.PHONY: run stop test test-all test-code test-contract test-sdk test-browser test-systemd test-package test-tls-scan test-packaging deb lint-deb build-deps test-deps lint format bench bench-gateway failover soak fuzz build doc deny clean

run: build ## build, run the demo, leave the service up
	$(BINARY) demo

stop: build ## end the service that `make run` left
	$(BINARY) demo --stop

build: build-deps ## the static binary
	cargo build --release --locked

deb: build ## the Debian package, in target/debian
	packaging/debian/build

lint-deb: ## the package against Debian's rules
	@command -v lintian >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends lintian; }
	lintian --allow-root --fail-on error,warning $(DEB)

test: test-code ## the tests in Rust, with all that they need

test-all: test test-contract test-sdk test-browser test-systemd test-package test-packaging test-tls-scan ## every test: also real clients, a browser, systemd, packages

test-code: test-deps ## those in Rust; two need root: small file systems are mounted, ACME servers use the ports 80 and 443
ifeq ($(SUDO),)
	cargo test --locked --no-fail-fast
else
	cargo test --locked --no-fail-fast --lib --bins --examples --test api --test upstream --test ledger --test s3 --test crash --test architecture
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(SUDO) -E" cargo test --locked --no-fail-fast --test storage --test acme
endif

test-contract: build-deps ## the running service against its own document, with schemathesis, about two minutes
	@python3 -c 'import ensurepip' 2>/dev/null && command -v curl >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv curl; }
	tests/contract/run

test-sdk: build-deps ## the running service with OpenAI's own libraries for Python and Node
	@python3 -c 'import ensurepip' 2>/dev/null && command -v node >/dev/null && command -v npm >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv nodejs npm; }
	tests/sdk/run

test-browser: build-deps ## /docs, and the text of pages, in a real browser
	@python3 -c 'import ensurepip' 2>/dev/null && command -v chromium >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv chromium; }
	tests/browser/run

test-systemd: build-deps ## the units in a booted systemd (a small Debian, fetched once), about three minutes
	@command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends debootstrap systemd-container; }
	cargo build --locked --bins --example agentd-testbed
	tests/systemd/run

test-package: build-deps ## the package on a bare Debian: install, upgrade, roll back, remove; SUITES="bookworm trixie"
	@command -v debootstrap >/dev/null && command -v systemd-nspawn >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends debootstrap systemd-container; }
	cargo build --locked --bins --example agentd-testbed
	tests/package/run

test-tls-scan: build-deps ## what testssl.sh finds, about two minutes
	@command -v testssl >/dev/null && command -v jq >/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends testssl.sh jq; }
	cargo build --locked --bins
	tests/tls/scan

test-packaging: build-deps ## image, manifests, alerts and dashboard of packaging/, half a minute; the image needs root
	@missing=; \
	for tool in buildah kubectl:kubernetes-client docker-compose prometheus promtool:prometheus curl setpriv:util-linux; do \
		command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; done; \
	python3 -c 'import ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -z "$$missing" ] || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $$missing; }
	cargo build --locked --bins
	tests/packaging/run

build-deps: ## a C compiler for the libraries that are C
	@command -v cc >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q gcc libc6-dev; }

test-deps: build-deps ## what the tests run beside agentd
	@for tool in curl openssl promtool mount unshare script chattr pebble pebble-challtestsrv caddy age zstd; do command -v $$tool >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then \
		$(SUDO) apt-get update -q && \
		$(SUDO) apt-get install -y -q --no-install-recommends curl openssl prometheus mount util-linux bsdutils e2fsprogs pebble caddy age zstd; \
	fi
	@python3 -c 'import ensurepip' 2>/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends python3-venv; }
	tests/s3/install

lint: ## formatting, clippy, documentation links
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items --quiet

format:
	cargo fmt

doc: ## the code's own documentation
	cargo doc --locked --no-deps --open

deny: ## licences, sources, duplicates (cargo install --locked cargo-deny)
	cargo deny --offline check licenses bans sources

bench: build-deps ## the published tables, about eight minutes; BENCH_ONLY=batch,idle for some
	cargo bench --locked --bench published

bench-gateway: build-deps ## the gateway to models beside caddy, nginx, Portkey and LiteLLM, about six minutes
	@command -v caddy >/dev/null && [ -x /usr/sbin/nginx ] && command -v node >/dev/null && command -v npm >/dev/null && python3 -c 'import ensurepip' 2>/dev/null || { \
		$(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends caddy nginx-light nodejs npm python3-venv; }
	benches/gateway/install
	cargo bench --locked --bench gateway

failover: build ## a host with 2 GB is lost and another takes over: what is lost, how long it takes; ten minutes
	@command -v age-keygen >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends age; }
	tests/s3/install
	benches/failover

soak: build ## mixed load for SOAK_MINUTES (10): memory, files, errors
	cargo bench --locked --bench soak

fuzz: build-deps ## made-up input for every parser, FUZZ_SECONDS (10) each, FUZZ_SEED=0 for new ones; needs no nightly compiler
	@command -v c++ >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q g++; }
	fuzz/run

clean:
	cargo clean
