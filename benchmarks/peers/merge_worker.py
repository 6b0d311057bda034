"""One side of the benchmark of covariances and alignment, in a process of its own.

    python merge_worker.py jaxml|align-n-merge

Reads a JSON line `{"n", "d", "nodes", "samples", "batches"}`, answers one per `run` line with
seconds and the largest resident memory so far, in MB. Inputs are the same numbers on both sides.
"""

import json
import resource
import sys
import time
import types

import numpy as np


def features(n, d, samples, batches):
    """Correlated features of n networks, float32 [n, d, samples] a batch."""
    random = np.random.default_rng(0)
    mixes = [random.normal(size=(d, d // 4)).astype("f4") for _ in range(n)]
    found = []
    for _ in range(batches):
        shared = random.normal(size=(d // 4, samples)).astype("f4")
        noise = 0.5 * random.normal(size=(n, d, samples)).astype("f4")
        found.append(np.maximum(np.stack([m @ shared for m in mixes]) + noise, 0))
    return found


def jaxml(case):
    """Ours, as `merging` calls it."""
    import functools

    import jax

    from jaxml.merge import covariance as cov
    from jaxml.merge.config import MergeConfig
    from jaxml.merge.merging import _of_node
    from jaxml.merge.spec import Node

    data = [jax.numpy.asarray(x.transpose(0, 2, 1)) for x in features(*case)]
    update = jax.jit(cov.covariance_update, donate_argnums=0)
    start = jax.jit(functools.partial(cov.covariance_init))
    cfg = MergeConfig("cca", gamma=0.1, gamma_mode="absolute")

    def node():
        state = start(data[0])
        for x in data:
            state = update(state, x)
        return _of_node(Node((), ()), cov.covariance_finalize(state), cfg)[1].matrix

    return node


def align_n_merge(case):
    """The reference: CovarianceMetric, then match_tensors_cca."""
    import torch

    for name in ("sklearn", "sklearn.cluster", "ot", "networkx"):  # imported there, not used here
        sys.modules[name] = types.ModuleType(name)
    vars(sys.modules["sklearn.cluster"])["KMeans"] = None
    from matching_functions import match_tensors_cca
    from metric_calculators import CovarianceMetric

    n, d, samples, batches = case
    data = [[torch.from_numpy(y) for y in x] for x in features(*case)]

    def node():
        metric = CovarianceMetric()
        for x in data:
            metric.update(samples, *x)
        found = {"covariance": metric.finalize(samples * batches)}
        merge, _ = match_tensors_cca(found, reduce_ratio=1 - 1 / n, gamma=0.1)
        return n * merge[:, d : 2 * d].numpy()

    return node


def main():
    """Serves runs until the input ends."""
    spec = json.loads(sys.stdin.readline())
    case = (spec["n"], spec["d"], spec["samples"], spec["batches"])
    node = {"jaxml": jaxml, "align-n-merge": align_n_merge}[sys.argv[1]](case)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in sys.stdin:
        begun = time.perf_counter()
        for _ in range(spec["nodes"]):
            matrix = node()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = {"seconds": time.perf_counter() - begun, "mb": (peak - before) / 1024}
        answer["corner"] = np.asarray(matrix, float)[:4, :4].tolist()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
