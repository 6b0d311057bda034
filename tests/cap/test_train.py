import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml import cap
from jaxml.cap import count, evaluate, phases, steps
from jaxml.core import config, files, tree, weights
from jaxml.dist import mesh as meshes
from tests.cap.conftest import MODEL


def quiet(text):
    del text


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


@pytest.fixture(scope="module")
def straight(small, task, teacher, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("structured")
    return cap.prune(small, task, teacher, tiny, folder, quiet), folder


def test_rounds_reach_the_share_and_every_module_takes_part(straight):
    found, _ = straight
    heads, neurons = found.sparsity.heads, found.sparsity.neurons
    assert sum(heads) == 4 and sum(neurons) == 24 and min(heads) >= 1
    assert found.steps == 2 * 3
    assert {row["phase"] for row in found.curve} == {"round0", "round1"}
    every = {f"{m}_{k}" for m in ("pre", "snap", "fine") for k in ("unsup", "sup")}
    assert every <= set(found.curve[-1])
    assert all(np.isfinite(v) for row in found.curve for v in row.values() if v is not row["phase"])


@pytest.mark.slow
def test_the_arm_without_contrast_takes_equal_steps(straight, small, task, teacher, tiny):
    plain = cap.prune(small, task, teacher, cap.arms(tiny)["kd"], None, quiet)
    assert plain.steps == straight[0].steps
    assert not any(name.endswith(("_unsup", "_sup")) for name in plain.curve[-1])


def _saved(folder, name):
    return tree.unflatten(weights.read(folder / f"{name}.safetensors"))


def test_a_snapshot_is_of_the_model_before_the_new_masks_without_dropout(straight, task):
    _, folder = straight
    before, after = _saved(folder, "start0"), _saved(folder, "start1")
    assert (before["snap"] == 0).all()
    old = cap.Masks(before["heads"], before["ffn"])
    assert (after["heads"] <= old.heads).all() and after["heads"].sum() < old.heads.sum()
    params = after["params"]
    folded = {**params, "encoder": cap.fold_masks(params["encoder"], old)}
    want = evaluate.answers(folded, MODEL, task.train).reps
    assert after["snap"].dtype == np.float16
    np.testing.assert_allclose(after["snap"][:, 0], want, atol=2e-3)


class Stop(Exception):
    pass


@pytest.mark.parametrize("method", ["structured", pytest.param("movement", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_exactly(
    method, straight, small, task, teacher, tiny, gradual, tmp_path, monkeypatch
):
    cfg = tiny if method == "structured" else gradual
    want = straight[0] if method == "structured" else cap.prune(small, task, teacher, cfg, None,
                                                                quiet)  # fmt: skip
    calls, real = [], steps.Rows.__next__

    def dies(self):
        calls.append(0)
        if len(calls) == (9 if method == "structured" else 6):  # importance draws too
            raise Stop
        return real(self)

    with monkeypatch.context() as patch:
        patch.setattr(steps.Rows, "__next__", dies)
        with pytest.raises(Stop):
            cap.prune(small, task, teacher, cfg, tmp_path, quiet)
    found = cap.prune(small, task, teacher, cfg, tmp_path, quiet)
    same(found.params, want.params)
    same(found.masks, want.masks)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["structured", "movement"])
def test_eight_devices_prune_as_one(method, straight, small, task, teacher, tiny, gradual):
    """Batches and banks split; the same heads and neurons go, the same weights are left."""
    cfg = tiny if method == "structured" else gradual
    want = straight[0] if method == "structured" else cap.prune(small, task, teacher, cfg, None,
                                                                quiet)  # fmt: skip
    mesh = meshes.make(meshes.MeshConfig(data=8))
    found = cap.prune(small, task, teacher, cfg, None, quiet, mesh)
    same(found.masks, want.masks)
    for a, b in zip(*(jax.tree.leaves(x.params) for x in (found, want)), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-4)
    with pytest.raises(ValueError, match="mesh_data must divide batch_size; got mesh_data=8"):
        odd = dataclasses.replace(cfg, tune=dataclasses.replace(cfg.tune, batch_size=6))
        cap.prune(small, task, teacher, odd, None, quiet, mesh)


def test_batches_of_one_kind_of_length(task, tiny):
    lengths = np.random.default_rng(0).integers(3, 30, 96)
    plain, grouped = (steps.Rows(lengths, 8, 0, {}, g) for g in (1, 4))
    one, many = ([next(rows)["index"] for _ in range(8)] for rows in (plain, grouped))
    for half in (slice(4), slice(4, 8)):  # the same examples within each group
        a, b = (np.concatenate(x[half]) for x in (one, many))
        assert set(a) == set(b)
        spans = sorted((lengths[i].min(), lengths[i].max()) for i in many[half])
        assert all(x[1] <= y[0] for x, y in zip(spans, spans[1:], strict=False))
    means = [lengths[i].mean() for i in many]
    assert means != sorted(means)
    grouped.set_state({"number": 5})
    np.testing.assert_array_equal(next(grouped)["index"], many[5])
    tune = dataclasses.replace(tiny.tune, group=4)
    cut = task.train.ids.copy()
    cut[:2, 5:] = 0
    given = task._replace(train=task.train._replace(ids=cut))
    run = phases.Run(dataclasses.replace(tiny, tune=tune), MODEL, given, None, quiet)
    shown = [run.examples_for(np.array(i))[0].shape[1] for i in ([0, 1], [1, 2])]
    assert shown == [6, 12]


def test_a_folder_in_use_is_refused(small, task, teacher, tiny, tmp_path):
    with files.lock(tmp_path / "round0"), pytest.raises(files.FolderInUseError):
        cap.prune(small, task, teacher, tiny, tmp_path, quiet)


@pytest.mark.parametrize(
    "method",
    ["movement", *(pytest.param(m, marks=pytest.mark.slow) for m in ("magnitude", "soft"))],
)
def test_gradual_methods_keep_exactly_the_share(method, small, task, teacher, gradual):
    cfg = dataclasses.replace(gradual, prune=dataclasses.replace(gradual.prune, method=method))
    found = cap.prune(small, task, teacher, cfg, None, quiet)
    sizes = {n: m[0].size for n, m in found.masks.items()}
    if method == "soft":
        total = sum(m.size for m in found.masks.values())
        assert found.sparsity.matrices == (int(0.1 * total), total)
    else:
        for name, mask in found.masks.items():
            assert np.asarray(mask).reshape(2, -1).sum(1).tolist() == [int(0.1 * sizes[name])] * 2
    kernels = count.kernels(found.params["encoder"])
    assert (
        sum(int((np.asarray(k) != 0).sum()) for k in kernels.values())
        <= (found.sparsity.matrices[0])
    )
    shares = [row["kept"] for row in found.curve]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1.0


@pytest.mark.slow
def test_a_fixed_soft_threshold_is_the_published_form(small, task, teacher, gradual):
    prune = cap.PruneConfig("soft", 0.5, 2, threshold=0.1, penalty=200.0)
    cfg = dataclasses.replace(gradual, prune=prune)
    found = cap.prune(small, task, teacher, cfg, None, quiet)
    assert found.curve[-1]["level"] == pytest.approx(0.1)
    assert 0 < found.sparsity.shares()["matrices"] <= 1


def test_candidates_differ_from_step_to_step(task, tiny):
    run = phases.Run(tiny, MODEL, task, None, quiet)
    rows = run.rows(2)
    one, two = next(rows), next(rows)
    assert {n: len(x) for n, x in one["extra"].items()} == {"pre": 16, "snap": 8, "fine": 16}
    assert set(one["extra"]["pre"]) != set(two["extra"]["pre"])
    assert set(one["extra"]["pre"]) != set(one["extra"]["fine"])
    again = run.rows(2)
    again.set_state({"number": 1})
    jax.tree.map(np.testing.assert_array_equal, next(again), two)


def test_learning_rates_and_weights_share_a_compiled_step(tiny):
    plans = [
        steps.plan_of(cfg, MODEL)
        for cfg in (
            tiny,
            dataclasses.replace(tiny, tune=dataclasses.replace(tiny.tune, lr=1e-5)),
            dataclasses.replace(tiny, contrast=dataclasses.replace(tiny.contrast, weight_sup=3.0)),
            cap.arms(tiny)["without snap"],
        )
    ]
    assert len({id(steps.compiled(p)) for p in plans}) == 1
    assert steps.compiled(steps.plan_of(cap.arms(tiny)["kd"], MODEL)) is not (
        steps.compiled(plans[0])
    )


def test_a_loss_without_contrast_is_that_of_the_teacher_alone(task, teacher, tiny):
    logits = jnp.asarray(teacher.logits[:8])
    batch = {"label": jnp.asarray(task.train.label[:8]), "teacher": logits + 1.0}
    found = cap.cap_loss(jnp.ones((8, 3)), logits, batch, tiny.tune, None)
    assert float(found.parts["kd"]) == pytest.approx(0.0, abs=1e-6)
    assert float(found.value) == pytest.approx(0.1 * float(found.parts["ce"]), rel=1e-5)


@pytest.mark.parametrize("name", cap.PRESETS)
def test_presets_are_as_written_down(name):
    from pathlib import Path

    golden = Path(__file__).parent / "golden" / f"{name}.txt"
    assert config.text(cap.PRESETS[name]) == golden.read_text()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cap.PruneConfig(keep=0.0), "keep must be > 0"),
        (lambda: cap.PruneConfig(keep=1.5), "keep must lie in"),
        (lambda: cap.PruneConfig("hessian"), "must be"),
        (lambda: cap.TuneConfig(temperature=0.0), "temperature must be > 0"),
    ],
)
def test_bad_settings_are_explained(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()
