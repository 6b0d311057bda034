"""The released checkpoints: safetensors under the names of the authors' Hugging Face code.

One table of rules reads and writes them. Sizes follow from the tensors themselves; what no tensor
shows (the embedding's scale, the rule of the decay) is said by the caller.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxml.core import check, files, param, weights
from jaxml.core.types import PyTree
from jaxml.core.weights import Rule, WeightsError
from jaxml.tnl import model
from jaxml.tnl.config import DecayRule, TNLConfig

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
THETA = "token_mixer.lrpe.theta"
RULE = "decay_rule"
"""Our key in a `config.json` whose decay is not the released one."""


def rules(cfg: TNLConfig) -> list[Rule]:
    """One rule per leaf of `model.params(cfg)`."""
    heads, width, dim = cfg.num_heads, cfg.head_dim, cfg.width
    parts = 4 if cfg.gate else 3
    fused = "qkvu_proj" if cfg.gate else "qkv_proj"

    def load_fused(x: np.ndarray) -> np.ndarray:  # rows q | k | v | u, in each the heads
        return np.moveaxis(x.reshape(parts, heads, width, -1), -1, 0)

    def dump_fused(x: np.ndarray) -> np.ndarray:
        return np.moveaxis(x, 0, -1).reshape(parts * dim, dim)

    def load_out(x: np.ndarray) -> np.ndarray:
        return np.swapaxes(x, 0, 1).reshape(heads, width, dim)

    def dump_out(x: np.ndarray) -> np.ndarray:
        return np.swapaxes(x.reshape(dim, dim), 0, 1)

    table = [Rule(EMBEDDING, "embed/embedding")]
    if cfg.softmax_layers or cfg.gate_rank is not None:
        raise ValueError(
            "released checkpoints know neither softmax_layers nor gate_rank; "
            f"got softmax_layers={cfg.softmax_layers}, gate_rank={cfg.gate_rank}."
        )
    for index, (first, _, coded, _) in enumerate(cfg.stretches):
        theirs, ours = "model.layers.{i}", f"stretch_{index}"
        table += [
            Rule(
                f"{theirs}.token_mixer.{fused}.weight",
                f"{ours}/qkvu",
                load_fused,
                dump_fused,
                first,
            ),
            Rule(f"{theirs}.token_mixer.out_proj.weight", f"{ours}/out", load_out, dump_out, first),
        ]
        for name, part in (("l1", "gate"), ("l2", "up"), ("l3", "down")):
            table.append(
                Rule(
                    f"{theirs}.channel_mixer.{name}.weight",
                    f"{ours}/glu/{part}/kernel",
                    weights.transpose,
                    weights.transpose,
                    first,
                )
            )
        if coded:
            table.append(Rule(f"{theirs}.{THETA}", f"{ours}/lrpe/theta", first=first))
    return table


def sizes(
    tensors: Mapping[str, np.ndarray],
    *,
    num_heads: int | None = None,
    scale_embedding: bool | None = None,
    decay_rule: DecayRule | None = None,
    **more: Any,
) -> TNLConfig:
    """The configuration that fits a checkpoint's tensors.

    Args:
      tensors: by their names.
      num_heads: needed only where no layer has LRPE, whose tensor tells it.
      scale_embedding: False for the later releases (TNL2 on); None: True.
      decay_rule: of the slopes; None: "tnl".
      **more: further fields of `TNLConfig`, e.g. `dtype`.

    Raises:
      WeightsError: no embedding, no layers, or heads that nothing tells.
    """
    if EMBEDDING not in tensors:
        raise WeightsError(
            f"a TNL checkpoint holds {EMBEDDING}; got {', '.join(sorted(tensors)[:5])}."
        )
    found = [(int(m[1]), m[2]) for m in map(LAYER.fullmatch, tensors) if m]
    if not found:
        raise WeightsError("a TNL checkpoint holds model.layers.0 and so on; got none.")
    coded = sorted(layer for layer, name in found if name == THETA)
    if coded:
        num_heads = tensors[f"model.layers.{coded[0]}.{THETA}"].shape[0]
    if num_heads is None:
        raise WeightsError("num_heads must be given where no layer has LRPE; got None.")
    glu = tensors.get("model.layers.0.channel_mixer.l1.weight")
    if glu is None:
        raise WeightsError("missing model.layers.0.channel_mixer.l1.weight.")
    vocab_size, width = tensors[EMBEDDING].shape
    return TNLConfig(
        vocab_size=vocab_size,
        width=width,
        num_layers=1 + max(layer for layer, _ in found),
        num_heads=num_heads,
        glu_width=glu.shape[0],
        lrpe_layers=tuple(coded),
        scale_embedding=scale_embedding is not False,
        decay_rule=decay_rule or "tnl",
        gate="model.layers.0.token_mixer.qkvu_proj.weight" in tensors,
        **more,
    )


def load(path: Path | str, cfg: TNLConfig | None = None, **how: Any) -> tuple[TNLConfig, PyTree]:
    """A released checkpoint: a file, an index of shards, or the folder that holds them.

    Args:
      path: where it lies.
      cfg: its sizes; by default they are read off the tensors by `sizes(tensors, **how)`.
      **how: see `sizes`; what is left out is taken from a `config.json` beside the tensors.

    Returns:
      The configuration and float32 parameters.

    Raises:
      FileNotFoundError: nothing there, or a shard missing.
      WeightsError: damaged; or tensors missing, unexpected or of a wrong shape, each named; or an
        output matrix that is not the embedding.
    """
    tensors = {name: _float(x) for name, x in weights.read(path).items()}
    if cfg is None:
        given = {name: value for name, value in how.items() if value is not None}
        cfg = sizes(tensors, **{**_told(Path(path)), **given})
    tied = tensors.get(EMBEDDING, np.zeros(0))
    if HEAD in tensors and not np.array_equal(tensors[HEAD], tied):
        raise WeightsError(f"{HEAD} differs from {EMBEDDING}; TNL ties the two.")
    target = param.abstract(model.params(cfg))
    return cfg, weights.import_tree(tensors, rules(cfg), target, ignore=lambda name: name == HEAD)


def _float(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def _told(path: Path) -> dict[str, Any]:
    """What a released `config.json` says of things that no tensor shows; empty without one."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    try:
        record = json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    if not isinstance(record, dict) or record.get("model_type") != "transnormer":
        return {}
    told = {"num_heads": record.get("decoder_attention_heads"), "decay_rule": record.get(RULE)}
    told["scale_embedding"] = not record.get("no_scale_embedding", False)
    return {name: value for name, value in told.items() if value is not None}


def _description(cfg: TNLConfig, dtype: str) -> dict[str, Any]:
    """The `config.json` that the authors' code reads (and, where ours differs, one key more)."""
    record = {
        "architectures": ["TransnormerForCausalLM"],
        "model_type": "transnormer",
        "vocab_size": cfg.vocab_size,
        "decoder_embed_dim": cfg.width,
        "hidden_dim": cfg.width,
        "decoder_layers": cfg.num_layers,
        "decoder_attention_heads": cfg.num_heads,
        "glu_dim": cfg.glu_width,
        "linear_use_lrpe_list": [int(i in cfg.lrpe_layers) for i in range(cfg.num_layers)],
        "linear_act_fun": "silu",
        "norm_type": "simplermsnorm",
        "no_scale_embedding": not cfg.scale_embedding,
        "init_std": cfg.init_std,
        "bias": False,
        "torch_dtype": dtype,
    }
    return record if cfg.decay_rule == "tnl" else {**record, RULE: cfg.decay_rule}


def save(
    path: Path | str,
    cfg: TNLConfig,
    params: PyTree,
    *,
    dtype: str = "float32",
    max_bytes: int = 5_000_000_000,
) -> None:
    """Writes parameters so that `load`, and the authors' code, reads them.

    Args:
      path: a file `*.safetensors`, or a folder, which gets shards with their index and a
        `config.json`.
      cfg: of the parameters.
      params: to write.
      dtype: "float32", "bfloat16" or "float16", of the tensors.
      max_bytes: of a shard.

    Raises:
      ValueError: options that no released checkpoint has, or another dtype.
      FileExistsError: the folder holds weights.
    """
    check.one_of(("float32", "bfloat16", "float16"), dtype=dtype)
    tensors = weights.export_tree(params, rules(cfg))
    tensors = {name: x.astype(jnp.dtype(dtype)) for name, x in tensors.items()}
    if Path(path).suffix == ".safetensors":
        weights.write(path, tensors, metadata={"format": "pt"})
        return
    weights.write_sharded(path, tensors, max_bytes, metadata={"format": "pt"})
    text = json.dumps(_description(cfg, dtype), indent=1) + "\n"
    files.write_text(Path(path) / "config.json", text)
