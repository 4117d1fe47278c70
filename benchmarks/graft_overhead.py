"""What the grafted head adds to the backbone's own time in ONNX Runtime.

    python benchmarks/graft_overhead.py

Backbone and grafted model run in turn in one process, with the spinning of idle threads off (the threads of one
session would otherwise take the cores from the other). The claim: medians at most 1.05 apart.
"""

from __future__ import annotations

import time

import numpy as np
import onnxruntime as ort

from probface.models.registry import resolve_backbone, resolve_model

ROUNDS = {1: 150, 32: 15}


def session(model: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def main() -> None:
    backbone, grafted = resolve_backbone("sface").model.SerializeToString(), resolve_model("sface").onnx
    if not isinstance(grafted, bytes):
        raise SystemExit("the shipped model is expected to be built in memory")
    print(f"ONNX Runtime {ort.__version__}")
    for threads in (1, 2):
        sessions = [session(model, threads) for model in (backbone, grafted)]
        name = sessions[0].get_inputs()[0].name
        for batch, rounds in ROUNDS.items():
            faces = np.random.default_rng(0).uniform(0, 255, (batch, 3, 112, 112)).astype(np.float32)
            times = np.empty((rounds + 2, 2))
            for row in times:
                for k, one in enumerate(sessions):
                    began = time.perf_counter()
                    one.run(None, {name: faces})
                    row[k] = time.perf_counter() - began
            plain, ours = np.median(times[2:], axis=0)
            print(f"{threads} threads, batch {batch:2d}: grafted / backbone = {ours / plain:.3f}")


if __name__ == "__main__":
    main()
