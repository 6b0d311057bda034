"""A small zoo: symmetries, masks, training together, what is kept, what is rejected, evidence."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import tree
from jaxml.inputs import splits
from jaxml.models.arch import ArchConfig
from jaxml.nfard import (
    commands,
    evaluate,
    evidence,
    maker,
    networks,
    reuse,
)
from jaxml.nfard import train as training
from jaxml.nfard import zoo as zoos
from jaxml.nfard.config import DetectorConfig
from jaxml.nfard.train import Job, TrainConfig
from tests.nfard.conftest import CFG, IMAGE, A, B


@pytest.mark.parametrize(
    "arch",
    [
        A,
        pytest.param(ArchConfig("vgg", 11, 0.0625, image=(32, 32, 3)), marks=pytest.mark.slow),
        pytest.param(
            ArchConfig("vgg", 11, 0.0625, batch_norm=True, image=(32, 32, 3)),
            marks=pytest.mark.slow,
        ),
        ArchConfig("resnet", 14, 0.25, image=(8, 8, 1)),
    ],
    ids=lambda a: f"{a.kind}{a.batch_norm}",
)
def test_reordered_and_rescaled_neurons_compute_the_same(arch):
    variables, draw = networks.init(jax.random.key(0), arch), np.random.default_rng(0)
    moved = jax.tree.map(
        lambda x: np.asarray(x) + np.float32(0.1) * draw.normal(size=x.shape).astype("f4") ** 2,
        variables,
    )
    attacked = reuse.attacked("reshaped", jax.random.key(1), arch, moved)
    x = jax.random.normal(jax.random.key(2), (2, *arch.image))

    def run(v):
        logits, _, layers = networks.apply(arch, v["params"], v["state"], x)
        return logits, list(layers.values())[-1]

    (a, hidden), (b, other) = map(jax.jit(run), (moved, attacked))
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-3)
    assert not np.allclose(hidden, other, rtol=0.05)


def test_masks_keep_the_largest_weights():
    params = {"a": {"kernel": np.array([[1.0, -5], [0.1, 3]]), "bias": np.zeros(2)}}
    mask = reuse.magnitude_mask(params, 0.5)["a"]
    assert mask["kernel"].tolist() == [[0, 1], [0, 1]]
    assert mask["bias"].tolist() == [1, 1]
    draw = np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)
    whole = reuse.magnitude_mask({"kernel": draw}, 0.8)["kernel"]
    assert whole.mean() == pytest.approx(0.2)
    assert np.abs(draw[whole == 0]).max() <= np.abs(draw[whole == 1]).min()


def test_quantised_weights_have_so_many_values():
    draw = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    got = reuse.quantised({"kernel": draw}, 8)["kernel"]
    step = np.abs(draw).max(0) / 127
    assert np.abs(got - draw).max() <= step.max() / 2 + 1e-6
    assert all(len(np.unique(np.round(got[:, c] / step[c]))) <= 255 for c in range(3))
    half = reuse.quantised({"kernel": draw}, 16)["kernel"]
    assert (half == draw.astype(np.float16)).all()


def test_together_is_one_by_one(data):
    jobs = [
        Job(networks.init(jax.random.key(k), A), np.arange(100), np.eye(10)[data.train.label[:100]],
            k, 2, 0.05 * (k + 1), 1.0 + k)
        for k in range(3)
    ]  # fmt: skip
    cfg = TrainConfig(2, 20)
    both = training.train(cfg, A, data.train, jobs)
    loop = training.train(dataclasses.replace(cfg, over="loop"), A, data.train, jobs)
    chunks = dataclasses.replace(cfg, over="loop", chunk=5)
    part = training.train(chunks, A, data.train, jobs[1:2])
    for one, other in zip(both, loop, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), one, other)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), part[0], loop[1])
    with pytest.raises(ValueError, match="equal numbers of rows"):
        training.train(cfg, A, data.train, [jobs[0], jobs[1]._replace(epochs=3)])


def test_one_step_of_distillation_is_the_gradient_of_kl(data):
    start = networks.init(jax.random.key(0), B)
    targets = np.full((20, 10), 0.1, np.float32)
    job = Job(start, np.arange(20), targets, 0, 1, 0.1, temperature=4.0)
    cfg = TrainConfig(1, 20, warmup=0.0, weight_decay=0.0, momentum=0.0)
    got = training.train(cfg, B, data.train, [job])[0]["params"]

    def kl(params):
        x = (data.train.image[:20] / 255.0 - data.train.mean[0]) / data.train.std[0]
        logits = networks.apply(B, params, {}, jnp.asarray(x, jnp.float32))[0]
        log_p = jax.nn.log_softmax(logits / 4.0)
        return 16 * jnp.mean(jnp.sum(targets * (jnp.log(targets) - log_p), 1))

    want = jax.tree.map(lambda p, g: p - 0.1 * g, start["params"], jax.grad(kl)(start["params"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), got, want)


def test_members_are_what_their_kind_says(built):
    zoo, _ = built
    by = {e.name: e for e in zoo.entries}
    assert len(zoo.entries) == len(zoos.orders(CFG)) + 6
    victim, last = by["victim0"].params["params"], by["ft_last-v0"].params["params"]
    assert (victim["layer0"]["kernel"] == last["layer0"]["kernel"]).all()
    assert not np.allclose(victim["layer2"]["kernel"], last["layer2"]["kernel"])
    kernels = [v for k, v in tree.flatten(by["prune80-v1"].params).items() if k.endswith("kernel")]
    assert np.mean(np.concatenate([np.ravel(k) for k in kernels]) == 0) == pytest.approx(
        0.8, abs=0.01
    )
    assert by["transfer-v0"].arch.num_classes == 5
    assert by["steal_labels-v1"].arch == B and by["steal_labels-v1"].source == "victim1"
    assert all(e.accuracy > 25 for e in zoo.entries), sorted(e.accuracy for e in zoo.entries)
    kinds = {evaluate.kind_of(e, by["victim0"]) for e in zoo.entries if "reference" not in e.kind}
    assert kinds == {"same", "other_half", "other_arch", "other_victim", *CFG.kinds, *reuse.ATTACKS}


def test_a_second_run_takes_what_is_there(built, data, monkeypatch):
    zoo, folder = built
    monkeypatch.setattr(maker, "train", None)
    again = zoos.build_zoo(CFG, data, 0, folder, lambda text: None)
    for a, b in zip(zoo.entries, again.entries, strict=True):
        assert (a.name, a.accuracy) == (b.name, b.accuracy)
        jax.tree.map(np.testing.assert_array_equal, a.params, b.params)
    home = next(p for p in folder.iterdir())
    (home / "same-a0.json").unlink()
    with pytest.raises(zoos.OutOfTimeError) as stopped:
        zoos.build_zoo(CFG, data, 0, folder, lambda text: None, deadline=0.0)
    assert stopped.value.built is not None  # victims, references and every kind are there
    assert "same-a0" not in {e.name for e in stopped.value.built.entries}
    (home / "same-a0.json").write_text(json.dumps({"accuracy": 12.0}))
    said = []
    broken = zoos.build_zoo(CFG, data, 0, folder, said.append)
    assert broken.rejected == [("same-a0", 12.0)]
    assert any("rejected: same-a0 has 12.00 %" in line for line in said)


def test_what_a_judgement_needs_is_made_first():
    cfg = dataclasses.replace(CFG, copies=2)
    names = [o.name for o in zoos.by_worth(zoos.orders(cfg))]
    assert sorted(names) == sorted(o.name for o in zoos.orders(cfg))
    last_needed = max(names.index(f"{k}-v{i}") for k in cfg.kinds for i in range(2))
    assert max(names.index(n) for n in names if n.startswith("reference-")) < last_needed
    assert last_needed < names.index("same-a0") < names.index("ft_all-v0-1")


def test_without_a_victim_nothing_is_judged(data, tmp_path):
    cfg = dataclasses.replace(CFG, kinds=("fp16",))
    with pytest.raises(zoos.OutOfTimeError) as stopped:
        zoos.build_zoo(cfg, data, 0, tmp_path, lambda text: None, deadline=0.0)
    assert stopped.value.built is None


@pytest.fixture
def npz(data, tmp_path):
    arrays = {}
    for split, part in (("train", data.train), ("test", data.test)):
        arrays |= {f"{split}_image": part.image, f"{split}_label": part.label}
    np.savez(tmp_path / "images.npz", **arrays)
    return tmp_path / "images.npz"


def test_detect_then_verify(built, npz, tmp_path, capsys):
    home = next(p for p in built[1].iterdir())
    references = tuple(sorted(home.glob("reference-a*.npz")))
    how = {"data_path": npz, "cfg": DetectorConfig(n_suite=60)}
    bundle = tmp_path / "evidence"
    victim, copy = home / "victim0.npz", home / "fp16-v0.npz"
    assert commands.detect(victim, copy, references, evidence_to=bundle, **how) == 1
    assert "REUSE" in capsys.readouterr().out
    assert (
        commands.detect(
            victim,
            home / "same-a1.npz",
            references,
            **(how | {"cfg": DetectorConfig("white", n_suite=60)}),
        )
        == 0
    )
    assert commands.detect(victim, copy, references, hard_labels=True, **how) in (0, 1)
    assert "weaker evidence: hard labels only" in " ".join(capsys.readouterr().out.split())
    assert commands.verify(bundle) == 0
    assert commands.verify(bundle, (copy, victim)) == 0
    assert commands.verify(bundle, (home / "same-a1.npz",)) == 1
    assert "model 0 is none of the recorded ones" in capsys.readouterr().out
    record = json.loads((bundle / evidence.RECORD).read_text())
    assert len(record["models_sha256"]) == 2 + len(references)
    record["verdict"]["distance"] += 0.01
    (bundle / evidence.RECORD).write_text(json.dumps(record))
    assert any(line.startswith("distance is recorded") for line in evidence.verify(bundle))
    record["statement"] = "no reuse found"
    (bundle / evidence.RECORD).write_text(json.dumps(record))
    assert any("the verdict is recorded" in line for line in evidence.verify(bundle))
    with (bundle / evidence.ANSWERS).open("ab") as out:
        out.write(b"x")
    assert evidence.verify(bundle) == ["answers.npz is not the file that was recorded."]
    with pytest.raises(FileNotFoundError, match="holds no evidence.json"):
        evidence.verify(tmp_path)


def test_bad_zoos():
    with pytest.raises(ValueError, match="kinds must be one of"):
        dataclasses.replace(CFG, kinds=("ft_al",))
    with pytest.raises(ValueError, match="same number of classes"):
        dataclasses.replace(CFG, archs=(A, dataclasses.replace(B, num_classes=3)))
    with pytest.raises(ValueError, match=r"rows must lie in \[1, 400\]"):
        zoos.build_zoo(
            dataclasses.replace(CFG, num_victim_rows=300), splits.synthetic(400, 0, IMAGE)
        )
