"""What the paper, and this project, ask of one H100: claims from results files.

Each function takes the content of a results file and returns decided claims; nothing is measured
here. The rules were written before the runs.
"""

import statistics
from collections.abc import Callable, Mapping
from typing import Any

from jaxml.report import claim
from jaxml.report.claim import Claim, Promise, Rule, Source
from jaxml.tnl.throughput import FALL, FLAT, MEMORY, SPEED

NOISE = 2.0
"""Loss curves count as equal within this many standard deviations of our own seeds."""
PEER_GOAL = 1.2


def _promise(id: str, words: str, paper: str, source: Source, unit: str, rule: Rule) -> Promise:
    return Promise("tnl", id, words, paper, source, unit, rule)


def _flat(preset: str) -> Promise:
    return _promise(
        f"{preset}-flat",
        f"Training speed is constant in the length ({preset})",
        "38,615 tokens/s at 1K, 38,596 at 92K (0.4B, A100)"
        if preset == "385m"
        else "20,052 tokens/s at 1K, 20,186 at 80K (1B, A100)",
        "read",
        "slowest over fastest length",
        claim.at_least(FLAT, "131,072 tokens an update at every length"),
    )


def _speed(preset: str) -> Promise:
    return _promise(
        f"{preset}-speed",
        f"TNL trains fast at every length ({preset})",
        "about 38,600 tokens/s (0.4B, A100)" if preset == "385m" else "about 20,000 (1B, A100)",
        "read",
        "tokens/s at the slowest length",
        claim.at_least(SPEED[preset], "our own mark for one H100"),
    )


def _memory(preset: str) -> Promise:
    return _promise(
        f"{preset}-memory",
        f"Memory of an update does not grow with the length ({preset})",
        "direction only",
        "read",
        "x, most over least",
        claim.at_most(MEMORY, "arguments, results and temporaries of the compiled update"),
    )


STEEP = _promise(
    "385m-transformer",
    "The Transformer's speed falls with the length",
    "32,453 tokens/s at 2K, 4,078 at 92K (0.4B, FlashAttention-2, A100)",
    "read",
    "longest over shortest",
    claim.at_most(FALL, "tokens/s at 131,072 over 2,048, softmax attention by cuDNN"),
)
PEER = _promise(
    "385m-peer",
    "Faster than the trainer of jax-linear-attention with its lightning layers",
    "no such run in the paper",
    "none",
    "x its tokens/s, at the worst length",
    claim.at_least(PEER_GOAL, "385M shape, in one process, in alternation"),
)
CURVES = _promise(
    "peer-loss",
    "The same loss as that trainer's on the same tokens",
    "no such run in the paper",
    "none",
    "standard deviations of our seeds",
    claim.between(-NOISE, NOISE, "mean of the last 50 losses, ours minus theirs"),
)
QUALITY = _promise(
    "40m-quality",
    "TNL reaches a lower loss than a Transformer of its size",
    "2.248 against 2.362 nats (385M parameters, 100K updates)",
    "read",
    "nats, TNL minus Transformer",
    claim.at_most(0.01, "test documents, 40M parameters, equal tokens, paired seeds"),
)
DECODE = _promise(
    "385m-decode",
    "Decoding costs the same at any context",
    "direction only",
    "read",
    "x the time of a step",
    claim.at_most(1.05, "after the longest context over after the shortest"),
)
ABLATIONS: dict[str, tuple[str, str, bool]] = {
    "no decay": ("Without the decay the loss is higher", "2.287 against 2.248", True),
    "no LRPE": ("Without LRPE the loss is higher", "2.267 against 2.248", True),
    "no gate": ("Without the gate the loss is higher", "2.263 against 2.248", True),
    "LRPE in every layer": ("LRPE in every layer lowers it", "2.236 against 2.248", False),
}
"""By arm: what the paper says, its nats at 385M, and whether the arm is to be worse."""


def _ablation(arm: str) -> Promise:
    words, paper, worse = ABLATIONS[arm]
    rule = claim.at_least(0.0) if worse else claim.at_most(0.0)
    return _promise(
        "ablation-" + arm.replace(" ", "-").lower(),
        words,
        f"{paper} nats (385M parameters)",
        "read",
        "nats, arm minus TNL",
        rule,
    )


type Record = Mapping[str, Any]


def _metric(record: Record, metric: str, case: str = "") -> list[dict[str, Any]]:
    rows = record["rows"]
    return [row for row in rows if row["metric"] == metric and row["case"].startswith(case)]


def _where(record: Record) -> str:
    return f"{record['device']}, {record['date']}, commit {record['commit']}"


def throughput(record: Record, preset: str, scale: str) -> list[Claim]:
    """Of `jaxml.tnl.throughput`."""
    where, ours = _where(record), f"TNL {preset}"
    (flat,) = _metric(record, "slowest_over_fastest", ours)
    (memory,) = _metric(record, "most_memory", ours)
    slowest = min(_metric(record, "tokens_s", ours), key=lambda row: row["jaxml"])
    made = [
        _flat(preset).measured(flat["jaxml"], scale, why=f"{flat['case']}; {where}"),
        _speed(preset).measured(slowest["jaxml"], scale, why=f"{slowest['case']}; {where}"),
        _memory(preset).measured(memory["jaxml"], scale, why=where),
    ]
    fall = _metric(record, "longest_over_shortest", f"Transformer {preset}")
    if preset == "385m" and fall:
        made.append(STEEP.measured(fall[0]["jaxml"], scale, why=f"{fall[0]['case']}; {where}"))
    return made


def training(record: Record, scale: str) -> list[Claim]:
    """Of `benchmarks/tnl-training.py`, speed."""
    rows = [row for row in _metric(record, "tokens_s") if row["ratio"] is not None]
    if not rows:
        return [PEER.missing("the peer could not be imported where this was measured", scale)]
    worst = min(rows, key=lambda row: row["ratio"])
    why = (
        f"{worst['case']}: {worst['jaxml']:,.0f} against {worst['peer_value']:,.0f} tokens/s, "
        f"{len(rows)} lengths; {_where(record)}"
    )
    return [PEER.measured(worst["ratio"], scale, why=why)]


def curves(record: Record, scale: str) -> list[Claim]:
    """Of `benchmarks/tnl-training.py --curves`."""
    rows = [row for row in _metric(record, "last_loss") if row["peer_value"] is not None]
    if len(rows) < 2:
        return [CURVES.missing("two seeds or more of both trainers are needed", scale)]
    ours = [row["jaxml"] for row in rows]
    gap = statistics.mean(row["jaxml"] - row["peer_value"] for row in rows)
    spread = statistics.stdev(ours)
    why = f"gap {gap:.4f} nats, {len(rows)} seeds of ours differ by {spread:.4f}; {_where(record)}"
    return [CURVES.measured(gap / spread, scale, why=why)]


def quality(record: Record, scale: str) -> list[Claim]:
    """Of `jaxml.tnl.h100`."""
    arms, where = record["arms"], _where(record)
    made = []
    gaps = record.get("tnl minus transformer")
    if gaps:
        spread = statistics.stdev(gaps) if len(gaps) > 1 else None
        means = {name: arms[name]["mean"] for name in ("tnl", "transformer")}
        why = f"TNL {means['tnl']:.4f}, Transformer {means['transformer']:.4f}; {where}"
        made.append(QUALITY.measured(statistics.mean(gaps), scale, spread, why))
    else:
        made.append(QUALITY.missing("the runs of both are not finished", scale))
    for arm in ABLATIONS:
        promise = _ablation(arm)
        if arm not in arms or "tnl" not in arms:
            made.append(promise.missing("its run is not finished", scale))
            continue
        seeds = arms[arm]["test"]
        both = [(loss, arms["tnl"]["test"].get(seed)) for seed, loss in seeds.items()]
        gap = statistics.mean(loss - base for loss, base in both if base is not None)
        tnl = list(arms["tnl"]["test"].values())
        noise = f"; seeds of TNL differ by {statistics.stdev(tnl):.4f}" if len(tnl) > 1 else ""
        made.append(promise.measured(gap, scale, why=f"{len(seeds)} seed(s){noise}; {where}"))
    return made


def decode(record: Record, scale: str) -> list[Claim]:
    """Of `jaxml.tnl.decoding`."""
    (whole,) = _metric(record, "longest_over_shortest", "decode")
    steps = _metric(record, "step_ms")
    times = ", ".join(f"{row['jaxml']:.3f}" for row in steps)
    beside = [row for row in steps if row["peer_value"] is not None]
    peer = (
        f"; Transformer {beside[-1]['peer_value']:.3f} ms in {beside[-1]['case']}" if beside else ""
    )
    why = f"{whole['case']}: {times} ms a step{peer}; {_where(record)}"
    return [DECODE.measured(whole["jaxml"], scale, why=why)]


def every(preset: str) -> list[Promise]:
    """The promises that `throughput` decides for a preset."""
    return [_flat(preset), _speed(preset), _memory(preset)] + [STEEP] * (preset == "385m")


DECIDES: dict[str, tuple[Callable[[Record, str], list[Claim]], list[Promise]]] = {
    "throughput-385m": (lambda record, scale: throughput(record, "385m", scale), every("385m")),
    "throughput-1b": (lambda record, scale: throughput(record, "1b", scale), every("1b")),
    "training": (training, [PEER]),
    "curves": (curves, [CURVES]),
    "quality": (quality, [QUALITY, *map(_ablation, ABLATIONS)]),
    "decode-385m": (decode, [DECODE]),
}
"""By results file: what decides, and which promises it decides."""
