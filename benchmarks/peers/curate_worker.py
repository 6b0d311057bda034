"""One side of the near-duplicate benchmark: datasketch, rensa, datatrove, daft, or jaxml.

Reads {"texts": path of a JSON list} and answers every further line with processor seconds to the
signatures and to the components, as far as the side has them, and how many documents stay. All get
normalised text; those whose shingling is Python take 5-grams of white-space words as a set.
"""

import json
import os
import re
import sys
import tempfile
import time
import unicodedata

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SYMBOL = re.compile(r"[^\w\s]|_")


def normalised(text):
    """Lower case, numbers 0, symbols blanks, no marks."""
    text = _SYMBOL.sub(" ", _NUMBER.sub("0", text.lower()))
    if not text.isascii():
        split = unicodedata.normalize("NFD", text)
        text = "".join(c for c in split if unicodedata.category(c) != "Mn")
    return text


def shingles(text):
    """The set of word 5-grams; of a shorter document all words."""
    words = normalised(text).split()
    return {" ".join(words[i : i + 5]) for i in range(max(len(words) - 4, 1))} if words else set()


def survivors(num, pairs):
    """How many components the pairs leave."""
    root = list(range(num))

    def find(i):
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for a, b in pairs:
        a, b = find(a), find(b)
        root[max(a, b)] = min(a, b)
    return sum(find(i) == i for i in range(num))


def _joined(sketches, lsh, start, signed):
    """The answer of a peer whose index is asked and filled document by document."""
    pairs = []
    for i, sketch in enumerate(sketches):
        pairs += [(j, i) for j in lsh.query(sketch)]
        lsh.insert(i, sketch)
    left = survivors(len(sketches), pairs)
    return {"signatures": signed, "components": time.process_time() - start, "survivors": left}


def datasketch(texts):
    from datasketch import MinHash, MinHashLSH

    start = time.process_time()
    sketches = []
    for text in texts:
        sketch = MinHash(num_perm=112, seed=1)
        sketch.update_batch([s.encode() for s in shingles(text)])
        sketches.append(sketch)
    signed = time.process_time() - start
    lsh = MinHashLSH(num_perm=112, params=(14, 8))
    return _joined(sketches, lsh, start, signed)


def rensa(texts):
    from rensa import RMinHash, RMinHashLSH

    start = time.process_time()
    sketches = []
    for text in texts:
        sketch = RMinHash(num_perm=112, seed=1)
        sketch.update(list(shingles(text)))
        sketches.append(sketch)
    signed = time.process_time() - start
    lsh = RMinHashLSH(threshold=0.72, num_perm=112, num_bands=14)
    return _joined(sketches, lsh, start, signed)


def datatrove(texts):
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    documents = [Document(text=text, id=str(i)) for i, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as folder:
        start = time.process_time()
        cfg = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8)
        MinhashDedupSignature(output_folder=folder, config=cfg).run(iter(documents), 0, 1)
        return {"signatures": time.process_time() - start}


def daft(texts):
    import daft as library

    column, settings = library.col("text"), {"num_hashes": 112, "ngram_size": 5, "seed": 1}
    start = time.process_time()
    plain = column.normalize(remove_punct=True, lowercase=True, nfd_unicode=True, white_space=True)
    frame = library.from_pydict({"text": texts}).select(plain).collect()
    ready = time.process_time()
    frame.select(column.minhash(**settings)).collect()
    end = time.process_time()
    return {"signatures": end - start, "operation": end - ready}


def jaxml(texts):
    from jaxml.curate import dedup, text

    start = time.process_time()
    packed = text.pack(texts)
    ready = time.process_time()
    sig = dedup.minhash(packed)
    signed, operation = time.process_time() - start, time.process_time() - ready
    labels = dedup.components(dedup.lsh_edges(sig), len(texts))
    left = len(set(labels.tolist()))
    done = time.process_time() - start
    return {
        "operation": operation, "signatures": signed, "components": done, "survivors": left,
    }  # fmt: skip


SIDES = {f.__name__: f for f in (datasketch, rensa, datatrove, daft, jaxml)}


def main():
    """Answers until the input ends."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print
    run = SIDES[sys.argv[1]]
    texts = json.load(open(json.loads(sys.stdin.readline())["texts"]))  # noqa: SIM115
    for _ in sys.stdin:
        answers.write(json.dumps(run(texts)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
