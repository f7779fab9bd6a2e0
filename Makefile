# The commands people and CI both use. `make` alone lists them.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
TARGET = $${CARGO_TARGET_DIR:-target}

# rustup puts cargo where a fresh shell does not look yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-quick bench format build install clean
.PHONY: check check-format check-lints check-docs check-dependencies check-scripts

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build qfleet and start a demonstration fleet; Ctrl-C drains it
	@scripts/set-up.sh run
	$(CARGO) build --release --locked --bin qfleet
	@exec deploy/demo/run.sh "$(TARGET)/release/qfleet"

test: ## run every test, against real servers; installs what they need
	@scripts/set-up.sh test
	$(CARGO) test --workspace --locked --no-fail-fast

test-quick: ## run the tests that need no servers
	@scripts/set-up.sh build
	$(CARGO) test --workspace --locked --lib --bins

bench: ## measure qfleet and Node's BullMQ and Bull workers side by side; takes some minutes
	@scripts/set-up.sh bench
	$(CARGO) build --release --locked --bin qfleet
	@NODE_PATH="$(CURDIR)/target/node/node_modules" node bench/run.js "$(TARGET)/release/qfleet"

check: check-format check-lints check-docs check-dependencies check-scripts ## format, lints, documentation, dependencies, scripts

check-format:
	$(CARGO) fmt --all -- --check

check-lints:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

check-docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

# Without the advisories, which need the network.
check-dependencies:
	@if $(CARGO) deny --version >/dev/null 2>&1; then \
		$(CARGO) deny --offline --locked check --hide-inclusion-graph licenses bans sources; \
	else \
		echo "SKIPPED: licences and sources of dependencies (install with: cargo install --locked cargo-deny)"; \
	fi

check-scripts:
	@if command -v shellcheck >/dev/null; then \
		shellcheck .ci/run scripts/*.sh deploy/demo/*.sh; \
	else \
		echo "SKIPPED: shell scripts (install the package shellcheck)"; \
	fi

format: ## format the code
	$(CARGO) fmt --all

build: ## build the optimised binary for distribution
	@scripts/set-up.sh build
	$(CARGO) build --profile dist --locked --bin qfleet

install: build ## install binary, manual pages, completions and systemd units below PREFIX
	install -D -m 755 "$(TARGET)/dist/qfleet" "$(DESTDIR)$(PREFIX)/bin/qfleet"
	install -d "$(DESTDIR)$(PREFIX)/share/man/man1"
	"$(TARGET)/dist/qfleet" man --out "$(DESTDIR)$(PREFIX)/share/man/man1"
	install -d "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" \
		"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	"$(TARGET)/dist/qfleet" completions bash >"$(DESTDIR)$(PREFIX)/share/bash-completion/completions/qfleet"
	"$(TARGET)/dist/qfleet" completions zsh >"$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_qfleet"
	"$(TARGET)/dist/qfleet" completions fish >"$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/qfleet.fish"
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	sed 's|/usr/local/bin/|$(PREFIX)/bin/|' systemd/qfleet.service >"$(DESTDIR)$(PREFIX)/lib/systemd/system/qfleet.service"
	install -m 644 systemd/qfleet.socket "$(DESTDIR)$(PREFIX)/lib/systemd/system/"

clean: ## remove what was built
	$(CARGO) clean
