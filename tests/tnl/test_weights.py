"""Released checkpoints: logits by the equations in NumPy, bit-exact round trips, named errors."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxml.core import weights as core
from jaxml.core.weights import WeightsError
from jaxml.tnl import model, weights
from jaxml.tnl.config import TNLConfig
from tests.tnl import oracle

HEADS, WIDTH, GLU, VOCAB = 2, 8, 12, 11


def _released(lrpe_layers=(0,), num_layers=3, seed=0):
    """Random tensors under the released names and shapes, as the authors' layout has them."""
    draw = np.random.default_rng(seed)

    def matrix(rows, columns):
        return (0.4 * draw.standard_normal((rows, columns))).astype(np.float32)

    tensors = {"model.embed_tokens.weight": matrix(VOCAB, WIDTH)}
    for i in range(num_layers):
        name = f"model.layers.{i}"
        tensors[f"{name}.token_mixer.qkvu_proj.weight"] = matrix(4 * WIDTH, WIDTH)
        tensors[f"{name}.token_mixer.out_proj.weight"] = matrix(WIDTH, WIDTH)
        tensors[f"{name}.channel_mixer.l1.weight"] = matrix(GLU, WIDTH)
        tensors[f"{name}.channel_mixer.l2.weight"] = matrix(GLU, WIDTH)
        tensors[f"{name}.channel_mixer.l3.weight"] = matrix(WIDTH, GLU)
        if i in lrpe_layers:
            theta = draw.uniform(0.01, 1, (HEADS, 1, WIDTH // HEADS)).astype(np.float32)
            tensors[f"{name}.token_mixer.lrpe.theta"] = theta
    return tensors


@pytest.mark.parametrize(("lrpe_layers", "scale"), [((0,), True), ((1, 2), False)])
def test_logits_are_those_of_the_equations(tmp_path, lrpe_layers, scale):
    tensors = _released(lrpe_layers)
    save_file(tensors, tmp_path / "model.safetensors")
    cfg, params = weights.load(tmp_path, scale_embedding=scale)
    assert cfg == TNLConfig(
        VOCAB, WIDTH, 3, HEADS, GLU, lrpe_layers=lrpe_layers, scale_embedding=scale
    )
    ids = np.random.default_rng(1).integers(0, VOCAB, 17)
    lm = model.language_model(cfg)
    got = lm.logits(params, jax.jit(lm.hidden)(params, ids[None]))[0]
    want = oracle.logits({n: np.float64(x) for n, x in tensors.items()}, ids, HEADS, scale)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_round_trip_is_bit_exact(tmp_path):
    tensors = _released()
    save_file(tensors, tmp_path / "a.safetensors")
    cfg, params = weights.load(tmp_path / "a.safetensors")
    weights.save(tmp_path / "b.safetensors", cfg, params)
    again_cfg, again = weights.load(tmp_path / "b.safetensors")
    assert again_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, again, params)
    from safetensors.numpy import load_file

    written = load_file(tmp_path / "b.safetensors")
    assert written.keys() == tensors.keys()
    for name, x in tensors.items():
        np.testing.assert_array_equal(written[name], x)


def test_shards_with_an_index_and_a_tied_head(tmp_path):
    tensors = _released()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    names = sorted(tensors)
    where = {n: f"model-{i % 2}.safetensors" for i, n in enumerate(names)}
    for shard in set(where.values()):
        save_file({n: tensors[n] for n in names if where[n] == shard}, tmp_path / shard)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    cfg, params = weights.load(tmp_path)
    assert cfg.num_layers == 3
    np.testing.assert_array_equal(
        params["embed"]["embedding"], tensors["model.embed_tokens.weight"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"model.layers.1.token_mixer.out_proj.weight": None},
            "missing model.layers.1.token_mixer.out_proj.weight",
        ),
        ({"model.norm.weight": np.ones(8, np.float32)}, "unexpected model.norm.weight"),
        (
            {"model.layers.2.channel_mixer.l3.weight": np.ones((8, 5), np.float32)},
            "model.layers.2.channel_mixer.l3.weight has shape",
        ),
        ({"lm_head.weight": np.ones((11, 8), np.float32)}, "lm_head.weight differs from"),
        ({"model.embed_tokens.weight": None}, "a TNL checkpoint holds model.embed_tokens.weight"),
        (
            {"model.layers.0.token_mixer.lrpe.theta": None},
            "num_heads must be given where no layer has LRPE",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    tensors = _released() | {n: x for n, x in change.items() if x is not None}
    for name, x in change.items():
        if x is None:
            del tensors[name]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        weights.load(tmp_path)


def test_a_size_that_was_asked_for_and_is_not_there(tmp_path):
    save_file(_released(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="embed_tokens.weight has shape"):
        weights.load(tmp_path, TNLConfig(VOCAB + 1, WIDTH, 3, HEADS, GLU))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_shards_go_out_and_come_in_bit_for_bit(tmp_path, dtype):
    kind = np.dtype(jax.numpy.dtype(dtype))
    tensors = {name: x.astype(kind) for name, x in _released(lrpe_layers=()).items()}
    save_file(tensors, tmp_path / "model.safetensors")
    how = {"num_heads": HEADS, "decay_rule": "minimax", "scale_embedding": False}
    cfg, params = weights.load(tmp_path, **how)
    out = tmp_path / "out"
    weights.save(out, cfg, params, dtype=dtype, max_bytes=700)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(set(index["weight_map"].values()))
    assert len(files) > 3
    assert all(name.endswith(f"-of-{len(files):05d}.safetensors") for name in files)
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in tensors.values())
    again_cfg, again = weights.load(out)  # heads, scale and rule come from config.json
    assert again_cfg == cfg
    jax.tree.map(np.testing.assert_array_equal, again, params)
    written = core.read(out)
    assert written.keys() == tensors.keys()
    for name, x in tensors.items():
        assert written[name].dtype == kind
        np.testing.assert_array_equal(written[name], x)
    with pytest.raises(FileExistsError, match="holds weights already"):
        weights.save(out, cfg, params)
    (out / files[0]).unlink()
    with pytest.raises(FileNotFoundError, match=files[0]):
        weights.load(out)


def test_sizes_are_those_of_the_released_description(tmp_path):
    """Keys and values as the authors' configuration class names them."""
    save_file(_released(lrpe_layers=()), tmp_path / "model.safetensors")
    told = {
        "model_type": "transnormer",
        "decoder_attention_heads": 4,
        "no_scale_embedding": True,
    }
    (tmp_path / "config.json").write_text(json.dumps(told))
    cfg, _ = weights.load(tmp_path)
    assert (cfg.num_heads, cfg.scale_embedding, cfg.decay_rule) == (4, False, "tnl")
    assert weights.load(tmp_path, num_heads=2, scale_embedding=True)[0].num_heads == 2
