# make help says what each target does.
PYTHON ?= python3
VENV_PYTHON := .venv/bin/python
OUTPUT ?= output
COUNT ?= 10000
GRAPHS ?= 1000
SEED ?= 1
WORKERS ?= 2
export IMAGE AUDIO INSTRUCTION OUTPUT

.PHONY: help setup demo comfyui test fuzz train clean
.DEFAULT_GOAL := help

help: ## this list
	@grep -hE "^[a-z]+:.*##" $(MAKEFILE_LIST) | awk -F ":.*## " '{printf "make %-9s %s\n", $$1, $$2}'
	@echo "COMFYUI_PATH=/path/to/ComfyUI uses your own ComfyUI everywhere, COMFYUI_PYTHON the Python that runs it."

setup: ## makes .venv and the ComfyUI workspace; does nothing the second time
	@$(PYTHON) tools/workspace.py

demo: setup ## edits a picture with a sound: make demo IMAGE=me.png AUDIO=rain.wav INSTRUCTION="make it [audio1]" OUTPUT=folder
	@$(VENV_PYTHON) tools/demo.py

comfyui: setup ## opens the workspace as a web page, with the example workflows in its menu
	@$(VENV_PYTHON) tools/open_comfyui.py

test: ## sets up and runs every test; PYTEST_ARGS="-k name" picks some, WORKERS=1 takes one process
	@$(PYTHON) tools/workspace.py --browser
	$(VENV_PYTHON) -m pytest -n $(WORKERS) $(PYTEST_ARGS)

fuzz: setup ## drives nodes and a server with what nobody would choose: make fuzz COUNT=10000 GRAPHS=1000 SEED=1
	FUZZ_COUNT=$(COUNT) FUZZ_GRAPHS=$(GRAPHS) FUZZ_SEED=$(SEED) \
		$(VENV_PYTHON) -m pytest -n $(WORKERS) tests/nodes/fuzz tests/comfyui/test_fuzz_graphs.py $(PYTEST_ARGS)

train: setup ## trains the miniature checkpoint anew; what is done already is skipped
	$(VENV_PYTHON) -m any2pix.training.miniature $(TRAIN_ARGS)

clean: ## removes .venv, .comfyui and caches; pictures and training results stay
	rm -rf .venv .comfyui .pytest_cache build dist *.egg-info
