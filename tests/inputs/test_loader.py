import json
import multiprocessing
import threading

import numpy as np
import pytest

from jaxml.inputs import loader

IDS = np.arange(1000, 1103, dtype=np.int64)
ARRAYS = {
    "image": np.random.default_rng(0).integers(0, 256, (23, 4, 4), np.uint8),
    "label": np.arange(23, dtype=np.int32),
}
DOCUMENTS = [np.arange(n) + 1000 * i for i, n in enumerate([3, 30, 1, 9, 17, 2, 0, 12, 25, 5])]


def noisy(batch, rng):
    return {**batch, "noise": rng.normal(size=len(batch["label"]))}


def windows(**kwargs):
    return loader.token_windows(IDS, 8, 4, seed=1, **kwargs)


def rows(**kwargs):
    return loader.examples(ARRAYS, 4, seed=1, transform=noisy, **kwargs)


def packed(**kwargs):
    return loader.packed_documents(DOCUMENTS, 10, 4, seed=1, num_bins=3, **kwargs)


PIPELINES = [windows, rows, packed]


def take(batches, count):
    return [next(batches) for _ in range(count)]


def same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("make", PIPELINES)
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("position", [0, 1, 2, 5, 13, 40])
def test_a_new_iterator_resumes_exactly(make, prefetch, position):
    straight = take(make(prefetch=0), position + 12)
    first = make(prefetch=prefetch)
    same(take(first, position), straight[:position])
    state = json.loads(json.dumps(first.get_state()))
    second = make(prefetch=prefetch)
    take(second, 3)
    second.set_state(state)
    same(take(second, 12), straight[position:])
    first.close()
    second.close()


@pytest.mark.parametrize("make", PIPELINES)
def test_going_back_on_the_same_iterator(make):
    batches = make()
    take(batches, 2)
    state = batches.get_state()
    ahead = take(batches, 5)
    batches.set_state(state)
    same(take(batches, 5), ahead)
    batches.close()


@pytest.mark.parametrize("make", PIPELINES)
def test_prefetching_changes_nothing_and_starts_no_process(make):
    ahead = make(prefetch=3)
    same(take(ahead, 30), take(make(prefetch=0), 30))
    assert multiprocessing.active_children() == []
    ahead.close()
    before = threading.active_count()
    take(make(prefetch=0), 3)
    assert threading.active_count() <= before


def test_a_state_of_another_pipeline_is_refused():
    state = windows().get_state()
    with pytest.raises(ValueError, match=r"same pipeline; got seq_len=8, here 9"):
        loader.token_windows(IDS, 9, 4, seed=1).set_state(state)
    with pytest.raises(ValueError, match="got kind='token_windows', here 'examples'"):
        rows().set_state(state)


def test_windows_of_an_epoch_do_not_overlap():
    batches = loader.token_windows(IDS, 8, 1, seed=0, prefetch=0)
    per_epoch = len(IDS) // 8 - 1
    offsets = set()
    for _ in range(20):
        starts = np.array([b["inputs"][0, 0] for b in take(batches, per_epoch)])
        assert (np.diff(np.sort(starts)) == 8).all()
        assert (np.sort(starts) != starts).any()
        offsets.add(int(starts.min()) - 1000)
    assert min(offsets) >= 0 and max(offsets) <= len(IDS) - 1 - 8 * per_epoch
    assert len(offsets) > 3


def test_targets_are_the_next_tokens():
    for batch in take(windows(prefetch=0), 40):
        assert batch["inputs"].shape == batch["targets"].shape == (4, 8)
        assert batch["inputs"].dtype == batch["targets"].dtype == np.int32
        np.testing.assert_array_equal(batch["targets"], batch["inputs"] + 1)
        assert (np.diff(batch["inputs"]) == 1).all()
        assert batch["inputs"].min() >= 1000 and batch["targets"].max() <= 1102


@pytest.mark.parametrize("num_tokens", [9, 10, 16, 17, 18, 24, 25])
def test_short_streams(num_tokens):
    seen = set()
    for batch in take(loader.token_windows(IDS[:num_tokens], 8, 2, seed=0, prefetch=0), 60):
        seen |= set(batch["inputs"].ravel().tolist()) | set(batch["targets"].ravel().tolist())
    assert seen == set(IDS[:num_tokens].tolist())


def test_a_memory_map_serves(tmp_path):
    IDS.astype(np.uint16).tofile(tmp_path / "ids.bin")
    mapped = np.memmap(tmp_path / "ids.bin", np.uint16, mode="r")
    same(take(loader.token_windows(mapped, 8, 4, seed=1), 5), take(windows(), 5))


@pytest.mark.parametrize("make", [windows, rows])
@pytest.mark.parametrize("count", [2, 4])
def test_blocks_of_the_processes_are_the_batch(make, count):
    whole = take(make(), 20)
    shards = [take(make(process_index=i, process_count=count), 20) for i in range(count)]
    for step, batch in enumerate(whole):
        for name in set(batch) - {"noise"}:
            blocks = [shard[step][name] for shard in shards]
            np.testing.assert_array_equal(np.concatenate(blocks), batch[name])


def test_processes_draw_their_own_noise():
    one, other = (next(rows(process_index=i, process_count=2))["noise"] for i in range(2))
    assert not set(one) & set(other)


def test_a_saved_position_fits_another_number_of_processes():
    batches = windows()
    take(batches, 7)
    resumed = windows(process_index=1, process_count=2)
    resumed.set_state(batches.get_state())
    np.testing.assert_array_equal(next(resumed)["inputs"], next(batches)["inputs"][2:])


def test_rows_once_per_epoch_and_together():
    seen = np.concatenate([b["label"] for b in take(rows(prefetch=0), 23)])
    assert (np.bincount(seen) == 4).all()
    for epoch in seen.reshape(4, 23):
        assert sorted(epoch) == list(range(23))
    for batch in take(rows(prefetch=0), 10):
        np.testing.assert_array_equal(batch["image"], ARRAYS["image"][batch["label"]])


@pytest.mark.parametrize(
    ("drop", "sizes"), [(True, [5, 5, 5, 5]), (False, [5, 5, 5, 5, 3])], ids=["drop", "keep"]
)
def test_one_pass_in_order(drop, sizes):
    batches = loader.examples(ARRAYS, 5, 0, shuffle=False, num_epochs=1, drop_remainder=drop)
    labels = [batch["label"] for batch in batches]
    assert [len(part) for part in labels] == sizes
    np.testing.assert_array_equal(np.concatenate(labels), np.arange(sum(sizes)))
    batches.close()


def test_one_pass_by_two_processes_has_equally_many_batches():
    shards = [
        list(loader.examples(ARRAYS, 4, 0, num_epochs=1, process_index=i, process_count=2))
        for i in range(2)
    ]
    assert [len(shard) for shard in shards] == [5, 5]
    seen = np.concatenate([batch["label"] for shard in shards for batch in shard])
    assert len(set(seen.tolist())) == len(seen) == 20


def test_seeds_differ():
    for make in (
        lambda seed: loader.token_windows(IDS, 8, 4, seed),
        lambda seed: loader.examples(ARRAYS, 4, seed),
        lambda seed: loader.packed_documents(DOCUMENTS, 10, 4, seed),
    ):
        one, other = make(0), make(1)
        assert any(
            (a != b).any() for a, b in zip(next(one).values(), next(other).values(), strict=True)
        )


def pieces_of(batches, steps):
    """Every piece as a tuple of inputs and the token after, read off the segment ids."""
    found = []
    for batch in take(batches, steps):
        for row in range(len(batch["inputs"])):
            segments = batch["segment_ids"][row]
            for segment in range(1, segments.max() + 1):
                inside = segments == segment
                inputs, targets = batch["inputs"][row, inside], batch["targets"][row, inside]
                np.testing.assert_array_equal(inputs[1:], targets[:-1])
                np.testing.assert_array_equal(
                    batch["positions"][row, inside], np.arange(inside.sum())
                )
                found.append((*inputs.tolist(), int(targets[-1])))
    return found


def test_packed_pieces_are_whole_and_cover_every_target():
    found = pieces_of(packed(), 40)
    want = {
        tuple(tokens[start : start + 11].tolist())
        for tokens in DOCUMENTS
        for start in range(0, len(tokens) - 1, 10)
    }
    assert set(found) == want
    targets = [t for piece in want for t in piece[1:]]
    assert sorted(targets) == sorted(t for d in DOCUMENTS for t in d[1:].tolist())


def test_pieces_come_equally_often():
    found = pieces_of(packed(), 200)
    counts = {piece: found.count(piece) for piece in set(found)}
    assert max(counts.values()) - min(counts.values()) <= 2


def test_padding_is_segment_zero():
    for batch in take(packed(), 10):
        assert batch["inputs"].shape == (4, 10)
        assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
        padding = batch["segment_ids"] == 0
        assert (batch["inputs"][padding] == 0).all() and (batch["targets"][padding] == 0).all()
        assert (np.diff(padding.astype(int), axis=1) >= 0).all()


def test_packed_shards_are_disjoint_and_complete():
    per_epoch = len(set(pieces_of(packed(), 40)))
    shards = [
        pieces_of(packed(process_index=i, process_count=2), 60)[: per_epoch // 2] for i in range(2)
    ]
    assert len(shards[0]) == len(shards[1]) == per_epoch // 2
    every = [
        set(
            pieces_of(
                loader.packed_documents(DOCUMENTS, 10, 2, 0, process_index=i, process_count=2), 90
            )
        )
        for i in range(2)
    ]
    assert every[0] | every[1] == set(pieces_of(packed(), 40))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: windows(process_count=3), "process_count must divide batch_size"),
        (lambda: rows(process_count=3), "process_count must divide batch_size"),
        (lambda: packed(process_count=3), "process_count must divide batch_size"),
        (lambda: windows(process_index=2, process_count=2), r"process_index must lie in \[0, 1\]"),
        (lambda: windows(prefetch=-1), "prefetch must be >= 0"),
        (lambda: packed(prefetch=-1), "prefetch must be >= 0"),
        (
            lambda: loader.token_windows(IDS, 103, 1, 0),
            "more than seq_len tokens; got len.ids.=103",
        ),
        (lambda: loader.token_windows(IDS, 0, 1, 0), "seq_len must be > 0"),
        (lambda: loader.token_windows(IDS, 8, 0, 0), "batch_size must be > 0"),
        (lambda: loader.token_windows(IDS, 8, 1, -1), "seed must be >= 0"),
        (lambda: loader.token_windows(IDS[None], 8, 1, 0), r"ids must have shape \[n\]"),
        (lambda: loader.examples({}, 1, 0), "arrays must have one leading size above 0"),
        (lambda: loader.examples({"x": IDS, "y": IDS[1:]}, 1, 0), "'x': 103, 'y': 102"),
        (lambda: loader.examples({"x": IDS[:0]}, 1, 0), "leading size above 0"),
        (lambda: loader.examples({"x": IDS}, 1, 0, num_epochs=0), "num_epochs must be > 0"),
        (
            lambda: rows(drop_remainder=False, num_epochs=1, process_count=2),
            "needs num_epochs and a single process; got num_epochs=1, process_count=2",
        ),
        (lambda: rows(drop_remainder=False), "needs num_epochs .* got num_epochs=None"),
        (lambda: loader.examples({"x": IDS}, 104, 0, num_epochs=1), "batch_size must be at most"),
        (lambda: loader.packed_documents([IDS[:1]], 8, 1, 0), "got 0 pieces for 1 processes"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()
