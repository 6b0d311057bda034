import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jaxml.curate import dedup, text
from jaxml.curate.dedup import MinHashConfig


def word_sets(docs, n=5):
    out = []
    for doc in docs:
        w = text.normalise(doc).split()
        out.append({tuple(w[i : i + n]) for i in range(max(len(w) - n + 1, 1))} if w else set())
    return out


def true_jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 0.0


@pytest.fixture(scope="module")
def planted():
    """120 documents of 300 words, and a copy of each with 0 to 30 words changed."""
    rng = np.random.default_rng(0)
    vocabulary = np.array(
        [f"w{chr(97 + i // 26 % 26)}{chr(97 + i % 26)}{chr(97 + i // 676)}" for i in range(3000)]
    )
    docs = []
    for i in range(120):
        words = rng.choice(vocabulary, 300)
        other = words.copy()
        other[rng.choice(300, i // 4, replace=False)] = "changed"
        docs += [" ".join(words), " ".join(other)]
    return docs


@pytest.fixture(scope="module")
def signed(planted):
    return dedup.minhash(text.pack(planted))


def test_signatures_estimate_the_jaccard_similarity(planted, signed):
    sets = word_sets(planted)
    for i in range(0, len(planted), 2):
        truth = true_jaccard(sets[i], sets[i + 1])
        estimate = np.mean(signed[i] == signed[i + 1])
        assert abs(estimate - truth) <= 4 * np.sqrt(truth * (1 - truth) / 112) + 1e-12


def test_planted_pairs_are_found_and_strangers_are_not(planted, signed):
    sets = word_sets(planted)
    edges = {tuple(e) for e in dedup.lsh_edges(signed).tolist()}
    pairs = [(i, i + 1) for i in range(0, len(planted), 2)]
    truth = {p: true_jaccard(sets[p[0]], sets[p[1]]) for p in pairs}
    assert all(p in edges for p in pairs if truth[p] >= 0.9)
    near = [p for p in pairs if truth[p] >= 0.8]
    assert len(near) > 10
    assert np.mean([p in edges for p in near]) >= 0.85
    assert all(true_jaccard(sets[i], sets[j]) >= 0.3 for i, j in edges)


def test_jaccard_of_edges_is_exact(planted):
    sets = word_sets(planted)
    edges = np.array([[0, 1], [60, 61], [200, 201], [0, 2]], np.int32)
    shingles = text.shingle(text.pack(planted))
    got = dedup.jaccard(shingles, edges)
    np.testing.assert_allclose(got, [true_jaccard(sets[i], sets[j]) for i, j in edges])
    assert dedup.verify(shingles, edges, 0.99).tolist() == [[0, 1]]


def test_probability_of_the_paper():
    got = [dedup.probability(j, MinHashConfig()) for j in (0.4, 0.5, 0.7, 0.8, 0.9)]
    np.testing.assert_allclose(got, [0.0091, 0.053, 0.56, 0.924, 0.9996], atol=6e-3)


def test_permuted_documents_permute_the_signatures(planted, signed):
    order = np.random.default_rng(1).permutation(len(planted))
    again = dedup.minhash(text.pack([planted[i] for i in order]))
    np.testing.assert_array_equal(again, signed[order])


def test_signatures_are_32_bit_and_use_them_all(signed):
    assert signed.dtype == np.uint32
    bits = ((signed[..., None] >> np.arange(22, dtype=np.uint32)) & 1).mean((0, 1))
    assert np.all(np.abs(bits - 0.5) < 0.1)  # a minimum of 300 lies below 2^24
    other = dedup.minhash(text.pack(["one two three four five six"]), MinHashConfig(seed=2))
    assert not np.array_equal(other, dedup.minhash(text.pack(["one two three four five six"])))
    again = dedup.minhash(text.pack(["One two, three four five six!"]), MinHashConfig(seed=2))
    np.testing.assert_array_equal(other, again)


def slow_signature(doc_hashes, cfg):
    """The hash family once more, in Python integers."""
    out = []
    for a, b in dedup._constants(cfg).tolist():
        values = []
        for s in doc_hashes:
            values.append((s * a + b) % 2**32)
        out.append(min(values))
    return out


def test_signature_is_the_least_hash(planted):
    cfg = MinHashConfig(num_bands=2, num_rows=2)
    docs = [planted[0], "short text", "", planted[1] + " " + planted[3]]
    shingles = text.shingle(text.pack(docs))
    got = dedup.signatures(shingles, 4, cfg)
    for i in (0, 1, 3):
        want = slow_signature(shingles.hash[shingles.doc == i].tolist(), cfg)
        assert got[i].tolist() == want
    assert np.all(got[2] == dedup.EMPTY)


def test_copies_take_linear_room():
    docs = ["the same few words again and again"] * 50_000
    edges = dedup.lsh_edges(dedup.minhash(text.pack(docs)))
    assert len(edges) < 2 * len(docs)
    assert np.all(dedup.components(edges, len(docs)) == 0)


def test_empty_documents_never_match_and_short_ones_only_their_equals():
    docs = [""] * 500 + ["  ,;. "] * 500
    docs += [
        f"x{chr(97 + i // 100)} y{chr(97 + i // 10 % 10)} z{chr(97 + i % 10)}" for i in range(1000)
    ]
    edges = dedup.lsh_edges(dedup.minhash(text.pack(docs)))
    assert len(edges) == 0
    edges = dedup.lsh_edges(dedup.minhash(text.pack(["a b c", "", "A, b c", ""])))
    assert edges.tolist() == [[0, 2]]


@given(st.integers(1, 60), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=80))
def test_components_are_those_of_the_graph(n, pairs):
    edges = np.array([(a % n, b % n) for a, b in pairs], np.int32).reshape(-1, 2)
    got = dedup.components(edges, n)
    graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (n, n))
    _, label = connected_components(graph, directed=False)
    smallest = [int(np.flatnonzero(label == label[i])[0]) for i in range(n)]
    assert got.tolist() == smallest


def test_components_of_a_long_path_in_a_bad_order():
    order = np.random.default_rng(0).permutation(1000)
    edges = np.stack([order[:-1], order[1:]], 1)
    assert np.all(dedup.components(edges, 1000) == 0)


def test_survivors_do_not_depend_on_the_order(planted):
    ids = np.array([f"doc-{i:03d}" for i in range(len(planted))])

    def kept(order):
        sig = dedup.minhash(text.pack([planted[i] for i in order]))
        labels = dedup.components(dedup.lsh_edges(sig), len(order))
        return set(ids[order][dedup.survivors(labels, ids[order])].tolist())

    straight = kept(np.arange(len(planted)))
    assert 120 <= len(straight) < 240
    assert kept(np.random.default_rng(3).permutation(len(planted))) == straight


def test_exact_keeps_the_lowest_priority():
    docs = ["a b", "A  b", "cafe\u0301", "café ", "a b"]
    assert dedup.exact(docs).tolist() == [True, True, True, False, False]
    assert dedup.exact(docs, lower=True, fold=True).tolist() == [True, False, True, False, False]
    assert dedup.exact(docs, priority=[2, 0, 1, 0, 1]).tolist() == [False, True, False, True, True]


def slow_ranges(tokens, offsets, length, keep):
    """Every window against every other."""
    windows = {}
    for a, b in zip(offsets[:-1], offsets[1:], strict=True):
        for i in range(a, b - length + 1):
            windows.setdefault(tuple(tokens[i : i + length]), []).append(i)
    covered = np.zeros(len(tokens), bool)
    for places in windows.values():
        if len(places) > 1:
            for i in places[1:] if keep == "first" else places:
                covered[i : i + length] = True
    return covered


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=25), min_size=1, max_size=4),
    st.integers(1, 9),
    st.sampled_from(["none", "first"]),
)
def test_substring_ranges_are_those_of_brute_force(docs, length, keep):
    tokens = np.array([t for d in docs for t in d], np.int64)
    offsets = np.concatenate([[0], np.cumsum([len(d) for d in docs])])
    got = np.zeros(len(tokens), bool)
    ranges = dedup.substring_ranges(tokens, offsets, length, keep)
    for a, b in ranges:
        assert b - a >= length
        assert not got[a:b].any()
        got[a:b] = True
    assert ranges == sorted(ranges)
    np.testing.assert_array_equal(got, slow_ranges(tokens, offsets, length, keep))


def test_windows_do_not_cross_documents():
    docs = ["ab" + "x" * 49, "x" * 30 + "cd", "x" * 49]
    assert dedup.strike(docs, 50) == docs
    assert dedup.strike([*docs, "x" * 50], 50) == [*docs, "x" * 50]
    assert dedup.strike(["q" + "x" * 51], 50) == ["q"]


def test_strike_keeps_whole_characters():
    docs = ["é" * 10 + "1", "é" * 10 + "2", "ê" * 3]
    struck = dedup.strike(docs, 7)
    assert struck == ["1", "2", "ê" * 3]
    odd = dedup.strike(["aé€b" * 4, "xé€b" * 4], 5, keep="first")
    assert odd[0].startswith("aé€b")


def test_semantic_is_its_definition():
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(60, 4)).astype(np.float32)
    unit[30:] = unit[:30] + 0.05 * rng.normal(size=(30, 4))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    centres = unit[:3]
    labels = np.argmax(unit @ centres.T, 1)
    for transitive in (True, False):
        keep = np.ones(60, bool)
        for c in range(3):
            members = np.flatnonzero(labels == c)
            members = members[np.argsort(unit[members] @ centres[c], kind="stable")]
            for place, j in enumerate(members):
                earlier = [i for i in members[:place] if transitive or keep[i]]
                keep[j] = not any(unit[i] @ unit[j] > 1 - 0.1 for i in earlier)
        got = dedup.semantic.__globals__["prune_clusters"](
            unit, centres, labels, 0.1, transitive=transitive, block=7
        )
        np.testing.assert_array_equal(got, keep)
    assert 20 < keep.sum() < 60


def test_semantic_drops_copies_and_keeps_strangers(key):
    eye = np.repeat(np.eye(6, dtype=np.float32), 4, axis=0)
    keep = dedup.semantic(eye * np.arange(1, 25)[:, None], key, k=3, eps=0.01, num_steps=5)
    assert keep.reshape(6, 4).sum(1).tolist() == [1] * 6


def test_bad_arguments_are_named(key, signed):
    with pytest.raises(ValueError, match="got num_bands=5, hashes=112"):
        dedup.lsh_edges(signed, num_bands=5)
    with pytest.raises(ValueError, match="ngram must be >= 1; got ngram=0"):
        MinHashConfig(ngram=0)
    with pytest.raises(ValueError, match=r"eps must lie in \(0, 2\); got eps=2"):
        dedup.semantic(np.eye(3), key, 1, 2.0)
    with pytest.raises(ValueError, match=r"got emb\[1\]"):
        dedup.semantic(np.array([[1.0, 0], [0, 0]]), key, 1, 0.1)
    with pytest.raises(ValueError, match="largest_index"):
        dedup.components(np.array([[0, 9]]), 5)
    with pytest.raises(ValueError, match="doc_offsets must ascend"):
        dedup.substring_ranges(np.arange(5), np.array([0, 3]))


def test_eight_devices_give_the_answer_of_one(planted, signed):
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    mesh = Mesh(np.array(jax.devices()), ("data",))
    shingles = text.shingle(text.pack(planted))
    grid = shingles.hash[: len(shingles.hash) // 256 * 256].reshape(-1, 32)
    split = jax.device_put(grid, NamedSharding(mesh, PartitionSpec("data")))
    constants = dedup._constants(MinHashConfig())
    np.testing.assert_array_equal(
        np.asarray(dedup._block_minima(constants, split)),
        np.asarray(dedup._block_minima(constants, grid)),
    )
