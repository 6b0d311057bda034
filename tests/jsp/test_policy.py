"""Features, encoder, decoder and loss against a second transcription; masking; symmetries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxml.core import weights
from jaxml.jsp import features, policy, problem
from jaxml.jsp.instance import JSPInstance

from . import oracle
from .conftest import shop


def a_sequence(instance, seed=0):
    jobs = np.repeat(np.arange(instance.num_jobs), instance.lengths)
    return np.random.default_rng(seed).permutation(jobs).astype(np.int32)


@pytest.mark.parametrize("version", features.VERSIONS)
def test_features_are_those_of_the_oracle(version):
    one = shop(1, 5, 4)
    got = jax.jit(features.op_features, static_argnums=1)(problem.from_instance(one), version)
    want = oracle.features(one.machines, one.durations, version)
    np.testing.assert_allclose(np.asarray(got).reshape(20, 15), want, atol=2e-4)


def test_embeddings_are_those_of_the_oracle(params, arrays, cfg, instance):
    got = jax.jit(policy.encode, static_argnums=1)(params, cfg, problem.from_instance(instance))
    want = oracle.embed(arrays, instance.machines, instance.durations, "reference", cfg.heads)
    np.testing.assert_allclose(np.asarray(got).reshape(want.shape), want, atol=1e-4)


def test_logits_states_and_makespan_are_those_of_the_oracle(
    params, arrays, cfg, instance, logits_of, plain_logits_of
):
    seq = a_sequence(instance)
    prob = problem.from_instance(instance)
    got, before, last = logits_of(params, prob, seq)
    plain = plain_logits_of(params, prob, seq)
    embedding = oracle.embed(arrays, instance.machines, instance.durations, "reference", cfg.heads)
    sim = oracle.Shop(instance.machines, instance.durations)
    for step, job in enumerate(seq):
        want = oracle.decode(arrays, embedding, sim, cfg.heads)
        assert before.job_times[step].tolist() == sim.jobs
        assert before.sorted_machines[step].tolist() == sorted(sim.free)
        open_ = np.isfinite(want)
        np.testing.assert_allclose(got[step][open_], want[open_], atol=1e-3)
        np.testing.assert_allclose(got[step], plain[step], atol=1e-4)
        assert (np.asarray(got[step])[~open_] < -1e29).all()
        sim.schedule(job)
    assert int(last.job_times.max()) == sim.makespan


def test_loss_and_gradient(params, arrays, cfg, instance, loss_and_grad):
    seq = a_sequence(instance, 5)
    prob = problem.from_instance(instance)
    value, grad = loss_and_grad(params, prob, seq)
    args = (instance.machines, instance.durations, seq, "reference", cfg.heads)
    assert abs(value - oracle.loss(arrays, *args)) < 1e-4
    named = policy.torch_arrays_from_params(grad)
    rng = np.random.default_rng(0)
    # in_proj has a bias whose key part shifts all scores alike: its gradient is zero.
    for name in (
        "enc.embedding1.lin_l.weight",
        "enc.embedding2.att",
        "dec.linear1.bias",
        "dec.self_attn.in_proj_weight",
        "dec.self_attn.out_proj.weight",
        "dec.linear2.weight",
        "dec.linear3.weight",
        "dec.linear4.weight",
    ):
        direction = rng.normal(size=arrays[name].shape)
        step = 1e-5
        ends = [
            oracle.loss({**arrays, name: arrays[name] + s * direction}, *args)
            for s in (step, -step)
        ]
        want = (ends[0] - ends[1]) / (2 * step)
        got = float((named[name] * direction).sum())
        assert abs(got - want) <= 0.01 * abs(want) + 2e-6, name


def test_padding_changes_nothing(params, instance, logits_of):
    seq = a_sequence(instance)
    small, _, _ = logits_of(params, problem.from_instance(instance), seq)
    padded = problem.from_instance(instance, (7, 6))
    longer = np.concatenate([seq, np.full(42 - len(seq), -1, np.int32)])
    large, _, last = logits_of(params, padded, longer)
    np.testing.assert_allclose(large[: len(seq), :5], small, atol=1e-5)
    assert (np.asarray(large[:, 5:]) < -1e29).all()
    assert np.isfinite(np.asarray(large)).all()
    assert last.position.tolist() == [4] * 5 + [0] * 2


def test_relabelled_jobs_permute_logits(params, instance, logits_of):
    seq, order = a_sequence(instance), np.array([3, 0, 4, 1, 2])
    moved = JSPInstance(instance.machines[order], instance.durations[order])
    back = np.argsort(order)
    first, _, _ = logits_of(params, problem.from_instance(instance), seq)
    second, _, _ = logits_of(params, problem.from_instance(moved), back[seq].astype(np.int32))
    np.testing.assert_allclose(second, first[:, order], atol=1e-4)


def test_scaled_durations_leave_logits_with_the_papers_features(params, cfg, instance):
    paper = dataclasses.replace(cfg, feature_version="paper")
    encode = jax.jit(policy.encode, static_argnums=1)
    larger = dataclasses.replace(instance, durations=7 * instance.durations)
    a, b = (encode(params, paper, problem.from_instance(x)) for x in (instance, larger))
    np.testing.assert_allclose(a, b, atol=1e-4)
    a, b = (encode(params, cfg, problem.from_instance(x)) for x in (instance, larger))
    assert np.abs(np.asarray(a) - np.asarray(b)).max() > 1e-4


@pytest.mark.parametrize("durations", [np.zeros((5, 4), int), np.full((5, 4), 9)], ids=["0", "9"])
def test_equal_and_zero_durations_are_finite(params, instance, durations, logits_of):
    flat = dataclasses.replace(instance, durations=durations)
    got, _, last = logits_of(params, problem.from_instance(flat), a_sequence(instance))
    assert np.isfinite(np.asarray(got)).all()
    assert int(last.job_times.max()) >= 0


def test_names_and_shapes_of_foreign_weights(params, cfg, arrays):
    same = policy.params_from_torch_arrays(arrays, cfg)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), same, params)
    with pytest.raises(weights.WeightsError, match="missing dec.linear4.bias"):
        policy.params_from_torch_arrays(
            {k: v for k, v in arrays.items() if k != "dec.linear4.bias"}, cfg
        )


def test_save_and_load(tmp_path, params, cfg):
    policy.save(tmp_path / "w.safetensors", params, cfg)
    same = policy.load(tmp_path / "w.safetensors", cfg)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b), same, params)
    with pytest.raises(weights.WeightsError, match="shape"):
        policy.load(tmp_path / "w.safetensors")


def test_init_is_distributed_as_the_reference(key):
    from jaxml.jsp.config import SPNConfig

    tree = jax.jit(policy.init_params, static_argnums=1)(key, SPNConfig())
    flat = policy.torch_arrays_from_params(tree)
    bounds = {
        "enc.embedding1.lin_l.weight": (6 / (15 + 192)) ** 0.5,
        "enc.embedding1.lin_r.bias": 15**-0.5,
        "enc.embedding2.att": (6 / (3 + 128)) ** 0.5,
        "dec.self_attn.in_proj_weight": (6 / (192 + 576)) ** 0.5,
        "dec.self_attn.out_proj.weight": 192**-0.5,
        "dec.linear3.weight": 271**-0.5,
        "dec.linear3.bias": 271**-0.5,
    }
    for name, bound in bounds.items():
        values = flat[name]
        assert np.abs(values).max() <= bound, name
        assert abs(values.std() - bound / 3**0.5) < 0.15 * bound, name
    assert not flat["dec.self_attn.in_proj_bias"].any()
    assert jnp.size(flat["enc.embedding2.att"]) == 384
