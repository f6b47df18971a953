# Two commands: `make serve` serves a model, `make test` tests everything that takes minutes.
# Each sets up what it needs. `make help` lists the rest.

PYTHON ?= python3
RUN := .venv/bin/python
ARGS ?=
MINUTES ?= 20
URL ?= http://127.0.0.1:8000
SERVED_MODEL_NAME ?= bundled
TASKS ?= gsm8k,ifeval
export PYTHONPATH := $(CURDIR)

.DEFAULT_GOAL := help
.PHONY: help engine test-environment serve test test-unit test-all test-budget test-faults faults-table lint \
	smoke bench bench-engine bench-isolation bench-gateway bench-gpu bench-served bench-fairness bench-overload \
	bench-memory bench-quantize lm-eval score soak bench-start demo-model profiles deploy-files lock clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

engine:
	@$(PYTHON) requirements/environment.py engine

test-environment:
	@$(PYTHON) requirements/environment.py test

serve: engine  ## serve a model on http://127.0.0.1:8000 (ARGS="--set server.port=8001 ...")
	@exec $(RUN) -m app serve --local-key .state/demo-key $(ARGS)

lint: test-environment  ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

test-unit: test-environment  ## the tests that start no engine; a few minutes
	$(RUN) -m pytest -q tests/unit

test: lint  ## everything but the long suites, on the real engine
	$(RUN) -m pytest -q tests/unit tests/shared_limits tests/integration

test-all: test test-deploy test-faults  ## with the long suites
	$(RUN) -m pytest -q tests/long

test-budget: test-environment  ## CPU time per streamed token and per request, beside vLLM's own server
	$(RUN) -m pytest -q tests/long/test_cpu_budget.py

test-faults: test-environment  ## break the running service: engine, connections, files
	$(RUN) -m pytest -q tests/faults

faults-table: test-environment  ## the same, and write what was seen into docs/reliability.md
	$(RUN) -m pytest -q tests/faults --write-table

deploy-files: test-environment  ## the chart's schema, its table of values and the dashboards, anew
	$(RUN) -m deploy.helm.config_schema
	$(RUN) -m deploy.helm.value_table
	$(RUN) -m deploy.monitoring.dashboards

test-deploy: test-environment  ## images, Compose, chart, rules
	$(RUN) -m pytest -q tests/deploy

smoke: test-environment  ## four questions to the server that `make serve` started
	$(RUN) -m app smoke $(ARGS)

bench: test-environment  ## load on the server that `make serve` started (ARGS="--help")
	$(RUN) -m app bench $(ARGS)

bench-engine: test-environment  ## the bundled model on the real engine, W8A8 beside 16 bits
	$(RUN) -m app bench-engine $(ARGS)

bench-isolation: test-environment  ## a stream beside prompts of 100,000 tokens and slow grammars
	$(RUN) -m app bench-isolation $(ARGS)

bench-gateway: engine  ## the gateway beside stock vLLM, its Rust front end and LiteLLM
	$(RUN) -m app bench-gateway $(ARGS)

bench-gpu: engine  ## the engine alone on a GPU: bf16, int8, fp8, and the roofline
	$(RUN) -m app bench-gpu $(ARGS)

bench-served: engine  ## the gateway on a GPU, beside stock vLLM and the engine alone
	$(RUN) -m app bench-served $(ARGS)

bench-start: engine  ## where the time of a start goes, with and without compiled code
	$(RUN) -m app bench-start $(ARGS)

soak: engine  ## all kinds of requests for MINUTES=20: what leaked, what is not accounted for
	$(RUN) -m app soak --minutes $(MINUTES) $(ARGS)

bench-fairness: engine  ## a light tenant beside a flood, and shares, beside plain vLLM
	$(RUN) -m app bench-fairness $(ARGS)

bench-overload: engine  ## answers in time at 2 and 4 times the capacity, beside plain vLLM
	$(RUN) -m app bench-overload $(ARGS)

score: ARGS := --profile bundled-16bit --profile bundled
score: engine  ## exact-match score of the bundled model, bf16 and W8A8, through the gateway
	$(RUN) -m app score $(ARGS)

demo-model:  ## train the bundled model anew and quantize it: an hour on two cores
	@$(PYTHON) requirements/environment.py quantize
	.venv-quantize/bin/python -m app.bundled.train --out models/bundled/bf16 \
		--calibration models/bundled/calibration.jsonl
	rm -rf models/bundled/w8a8
	.venv-quantize/bin/python -m app quantize --model models/bundled/bf16 \
		--out models/bundled/w8a8 --recipe smoothquant-gptq-int8 \
		--calibration models/bundled/calibration.jsonl --max-seq-length 256 --device cpu

bench-quantize: test-environment  ## every recipe on the bundled model, into docs/quantization.md
	$(RUN) -m app compare-recipes --baseline models/bundled/bf16 \
		--document docs/quantization.md $(ARGS)

lm-eval:  ## a public benchmark of the server that `make serve` started (TASKS=gsm8k,ifeval)
	@$(PYTHON) requirements/environment.py lm-eval
	OPENAI_API_KEY="$${OPENAI_API_KEY:-$$(cat .state/demo-key)}" .venv-lm-eval/bin/lm_eval run \
		--model local-chat-completions --apply_chat_template --tasks $(TASKS) \
		--model_args model=$(SERVED_MODEL_NAME),base_url=$(URL)/v1/chat/completions,num_concurrent=16 $(ARGS)

profiles: test-environment  ## write the profiles of known cards anew, by the planner
	$(RUN) -m app plan --cards --write config/profiles

bench-memory: engine  ## the memory plan against real engines (ARGS="NAME ..." for some)
	$(RUN) -m app bench-memory $(ARGS)

lock: test-environment  ## resolve the lock files anew
	$(PYTHON) requirements/environment.py lock

clean:  ## remove the environments and everything made
	rm -rf .venv .venv-* .state .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
