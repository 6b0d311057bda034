"""Near-duplicate search beside datasketch, Rensa, datatrove and Daft: the same texts, one core.

Peers run from an environment with them: a folder `env` in the one that `JAXML_PEERS_CURATE` names.
Without it their columns stay empty. Every side is a process bound to one core; times are processor
seconds of the process, in alternation. `python benchmarks/curate.py OUT.json`.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

from benchmarks.peers.worker import Worker  # noqa: E402
from jaxml.inputs import source  # noqa: E402
from jaxml.inputs import text as inputs_text  # noqa: E402
from jaxml.report import timing  # noqa: E402

GOALS = {"datasketch": 8.0, "rensa": 2.0, "datatrove": 40.0, "daft": 0.5}
"""Ratios asked for."""
PARTS = (
    ("datasketch", "components"),
    ("rensa", "components"),
    ("datatrove", "signatures"),
    ("daft", "signatures"),
    ("daft", "operation"),
)
"""How far each peer goes; "operation" begins at normalised text. Daft has its own normal form."""

WORDS = {
    "components": "texts to components",
    "signatures": "texts to signatures",
    "operation": "normalised texts to signatures",
}


def texts(num: int) -> tuple[str, list[str]]:
    """English documents of the corpus with at least 200 characters, else Python's own."""
    try:
        rows = source.records("corpus", "train")
    except source.DataNotFoundError:
        every = inputs_text.python_text().train
        return "python", [t for t in every if len(t) >= 200][:num]
    known = ("docs_", "essays", "fiction", "man_en")
    found = [
        row["text"]
        for row in (rows[i] for i in range(len(rows)))
        if row["domain"].startswith(known) and len(row["text"]) >= 200
    ]
    step = max(len(found) // num, 1)
    return "corpus", found[::step][:num]


def _worker(python: str, name: str, path: Path) -> Worker:
    ours = os.pathsep.join([str(HERE.parent), str(HERE.parent / "kernels")])
    env = {**os.environ, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu", "DO_NOT_TRACK": "true"}
    env["PYTHONPATH"] = ours if name == "jaxml" else ""
    made = Worker([python, str(HERE / "peers" / "curate_worker.py"), name], env, quiet=True)
    made.tell({"texts": str(path)})
    return made


def rows(smoke: bool) -> list[timing.Row]:
    """One row for each peer, and ours alone where there is none."""
    folder = os.environ.get("JAXML_PEERS_CURATE")
    where, documents = texts(60 if smoke else 1500)
    size = sum(len(t.encode()) for t in documents) / 1e6
    name = f"{len(documents)} documents, {size:.1f} MB ({where}), 14 x 8 hashes, 5-grams"
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "texts.json"
        path.write_text(json.dumps(documents))
        sides = {"jaxml": _worker(sys.executable, "jaxml", path)}
        if folder:
            python = str(Path(folder) / "env" / "bin" / "python")
            sides |= {peer: _worker(python, peer, path) for peer in GOALS}
        found = _measure(sides, 1 if smoke else 3)
    times = {
        (side, part): timing.Timing(tuple(answer[part] for answer in answers))
        for side, answers in found.items()
        for part in ("components", "signatures", "operation")
        if answers and part in answers[0]
    }
    out = [_alone(name, part, times["jaxml", part], size) for part in ("signatures", "components")]
    for peer, part in PARTS:
        if (peer, part) in times:
            goal = None if smoke else GOALS[peer]
            out.append(timing.faster(f"{name}, {WORDS[part]}", "cpu_ms", times["jaxml", part], peer,
                                     times[peer, part], goal))  # fmt: skip
    return out + _agreement(name, found)


def _measure(sides: dict[str, Worker], repeats: int) -> dict[str, list[dict]]:
    """Answers of every side, in alternation; datatrove, the slowest, once."""
    found: dict[str, list[dict]] = {side: [] for side in sides}
    for side, worker in sides.items():
        if side != "datatrove":  # whose 20 seconds hide its start
            worker.ask("run")  # compiles, imports, fills caches
    for k in range(repeats):
        for side, worker in sides.items():
            if side != "datatrove" or k == 0:
                found[side].append(worker.run())
    for worker in sides.values():
        worker.close()
    return found


def _alone(name: str, part: str, found: timing.Timing, size: float) -> timing.Row:
    return timing.Row(f"{name}, {WORDS[part]}", "mb_per_cpu_s", "MB/s", size / found.median)


def _agreement(name: str, found: dict[str, list[dict]]) -> list[timing.Row]:
    """How many documents each side would leave: other hash families, nearly the same answer."""
    ours = found["jaxml"][0]["survivors"]
    return [
        timing.Row(name, "survivors", "documents", ours, side, answers[0]["survivors"])
        for side, answers in found.items()
        if side != "jaxml" and "survivors" in answers[0]
    ]


if __name__ == "__main__":
    measured = rows("--smoke" in sys.argv)
    print(timing.table(measured))
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        timing.write(sys.argv[1], measured)
