"""Runs in the peers' environment: the reference, or CP-SAT, one JSON line per request.

Arguments: an npz of weights under the reference's names, and the folder of its checkout. The
reference's code is imported and called as it is; nothing of it is copied here.
"""

import contextlib
import json
import os
import sys
import time

import numpy as np


def reference(weights, code):
    """Two functions of the reference, each `-> (seconds, value)`.

    `sample(machines, durations, samples, seed)`, whose value is the best makespan, and
    `train(machines [k, n, m], durations, samples, seed)`, one update over k instances taken one by
    one as its training does, whose value is the mean loss.
    """
    import torch

    sys.path.insert(0, code)
    import inout
    import PointerNet
    import sampling

    torch.set_num_threads(int(os.environ.get("JAXML_PEER_THREADS", "2")))
    device = os.environ.get("JAXML_PEER_DEVICE", "cpu")
    arrays = {k: torch.tensor(v) for k, v in np.load(weights).items()}
    encoder, decoder = PointerNet.GATEncoder(15), PointerNet.MHADecoder(143, 11)
    for module, prefix in ((encoder, "enc."), (decoder, "dec.")):
        module.load_state_dict(
            {k[4:]: v for k, v in arrays.items() if k.startswith(prefix)}, strict=True
        )
        module.to(device)

    def shop_of(machines, durations):
        machines, costs = torch.tensor(machines), torch.tensor(durations, dtype=torch.float32)
        n, m = costs.shape
        x = inout.standardize(inout.extract_features(n, m, costs, machines), dim=0)
        edges = inout.graph_edges(n, m, machines).t().contiguous()
        shop = {"machines": machines, "costs": costs, "x": x, "edge_index": edges}
        return {"j": n, "m": m, **{name: tensor.to(device) for name, tensor in shop.items()}}

    def sample(machines, durations, samples, seed):
        torch.manual_seed(seed)
        begun = time.perf_counter()
        shop = shop_of(machines, durations)
        _, spans = sampling.sampling(shop, encoder, decoder, bs=samples, device=device)
        return time.perf_counter() - begun, float(spans.min())

    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=2e-4)

    def train(machines, durations, samples, seed):
        torch.manual_seed(seed)
        shops = [shop_of(*one) for one in zip(machines, durations, strict=True)]
        begun, total = time.perf_counter(), 0.0
        for shop in shops:
            chosen, logits, spans = sampling.sample_training(
                shop, encoder, decoder, bs=samples, device=device
            )
            best = spans.argmin(-1)
            loss = torch.nn.functional.cross_entropy(logits[best], chosen[best])
            (loss / len(shops)).backward()
            total += loss.item()
        adam.step()
        adam.zero_grad()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - begun, total / len(shops)

    return sample, train


def cp_sat(machines, durations, limit):
    """Wall seconds and makespan of CP-SAT with two workers and a time limit."""
    from ortools.sat.python import cp_model

    begun = time.perf_counter()
    model, horizon = cp_model.CpModel(), int(np.sum(durations))
    by_machine, last = {}, []
    for route, times in zip(machines, durations, strict=True):
        before = None
        for machine, duration in zip(route, times, strict=True):
            start = model.new_int_var(0, horizon, "")
            bar = model.new_fixed_size_interval_var(start, duration, "")
            by_machine.setdefault(machine, []).append(bar)
            if before is not None:
                model.add(start >= before)
            before = start + duration
        last.append(before)
    for bars in by_machine.values():
        model.add_no_overlap(bars)
    span = model.new_int_var(0, horizon, "")
    model.add_max_equality(span, last)
    model.minimize(span)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 2
    solver.parameters.max_time_in_seconds = limit - (time.perf_counter() - begun)
    solver.solve(model)
    return time.perf_counter() - begun, solver.objective_value


def main():
    """Answers until the input ends."""
    weights, code = sys.argv[1:3]
    with contextlib.redirect_stdout(sys.stderr):
        sample, train = reference(weights, code) if code else (None, None)
    for line in sys.stdin:
        request = json.loads(line)
        machines, durations = request["machines"], request["durations"]
        with contextlib.redirect_stdout(sys.stderr):
            if request["task"] == "cp_sat":
                seconds, span = cp_sat(machines, durations, request["limit"])
            else:
                run = train if request["task"] == "train" else sample
                assert run is not None, "no checkout of the reference"
                seconds, span = run(machines, durations, request["samples"], request["seed"])
        print(json.dumps({"seconds": seconds, "makespan": span}), flush=True)


if __name__ == "__main__":
    main()
