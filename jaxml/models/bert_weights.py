"""BERT weights under Hugging Face's names: a folder with `config.json` and safetensors.

One table of rules serves reading and writing. Old names (`gamma`, `beta`) and the `bert.` prefix
are understood when reading.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxml.core import check, files, param, weights
from jaxml.core.types import PyTree
from jaxml.models import bert
from jaxml.models.bert import BertConfig

FIELDS = {
    "vocab_size": "vocab_size",
    "width": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "max_len": "max_position_embeddings",
    "num_types": "type_vocab_size",
    "eps": "layer_norm_eps",
    "dropout": "hidden_dropout_prob",
}
"""Our field of `BertConfig`, their key of `config.json`."""
OPTIONAL = {"layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "type_vocab_size": 2}
"""What a `config.json` without the key means."""


def rules(cfg: BertConfig) -> list[weights.Rule]:
    """One rule per leaf of `bert.params(cfg)`; the body carries the `bert.` prefix with a head."""
    prefix = "bert." if cfg.mlm else ""
    layer = f"{prefix}encoder.layer.{{i}}"
    table = [
        weights.Rule(f"{prefix}embeddings.{name}_embeddings.weight", f"embed/{ours}/embedding")
        for name, ours in (("word", "word"), ("position", "position"), ("token_type", "type"))
    ]
    table += _norm(f"{prefix}embeddings.LayerNorm", "embed/norm")
    for part in ("query", "key", "value"):
        table += _linear(f"{layer}.attention.self.{part}", f"layers/attention/{part}")
    table += _linear(f"{layer}.attention.output.dense", "layers/attention/out")
    table += _norm(f"{layer}.attention.output.LayerNorm", "layers/attention_norm")
    table += _linear(f"{layer}.intermediate.dense", "layers/mlp/up")
    table += _linear(f"{layer}.output.dense", "layers/mlp/down")
    table += _norm(f"{layer}.output.LayerNorm", "layers/mlp_norm")
    if cfg.pooler:
        table += _linear(f"{prefix}pooler.dense", "pooler")
    if cfg.mlm:
        table += _linear("cls.predictions.transform.dense", "mlm/dense")
        table += _norm("cls.predictions.transform.LayerNorm", "mlm/norm")
        table.append(weights.Rule("cls.predictions.bias", "mlm/bias"))
    return table


def _linear(theirs: str, ours: str) -> list[weights.Rule]:
    kernel = weights.linear(f"{theirs}.weight", f"{ours}/kernel")
    return [kernel, weights.Rule(f"{theirs}.bias", f"{ours}/bias")]


def _norm(theirs: str, ours: str) -> list[weights.Rule]:
    names = (("weight", "scale"), ("bias", "bias"))
    return [weights.Rule(f"{theirs}.{a}", f"{ours}/{b}") for a, b in names]


def import_tensors(cfg: BertConfig, tensors: Mapping[str, np.ndarray]) -> PyTree:
    """Tensors by Hugging Face's names as parameters of `cfg`.

    Heads, a pooler or position indices that `cfg` has no place for are left out.

    Raises:
      WeightsError: names every tensor that is missing, left over or of the wrong shape.
    """
    renamed = {_modern(name, cfg): array for name, array in tensors.items()}
    target = param.abstract(bert.params(cfg))
    return weights.import_tree(renamed, rules(cfg), target, ignore=_beside_the_body)


def _modern(name: str, cfg: BertConfig) -> str:
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
    body = name.removeprefix("bert.")
    is_body = body.startswith(("embeddings.", "encoder.", "pooler."))
    return (f"bert.{body}" if cfg.mlm else body) if is_body else name


def _beside_the_body(name: str) -> bool:
    outside = ("cls.", "classifier.", "qa_outputs.", "pooler.", "bert.pooler.")
    return name.startswith(outside) or name.endswith("embeddings.position_ids")


def export_tensors(cfg: BertConfig, params: PyTree) -> weights.Tensors:
    """Parameters under Hugging Face's names, in their layouts."""
    return weights.export_tree(params, rules(cfg))


def config_from(values: Mapping[str, Any], tensors: Mapping[str, Any]) -> BertConfig:
    """The configuration of a `config.json`; the tensors say which heads there are.

    Raises:
      ValueError: a missing key, or a network that is not this BERT.
    """
    merged = OPTIONAL | dict(values)
    if missing := [key for key in FIELDS.values() if key not in merged]:
        raise ValueError(f"config.json must have {', '.join(missing)}.")
    fixed = {"hidden_act": "gelu", "position_embedding_type": "absolute", "model_type": "bert"}
    for key, want in fixed.items():
        check.one_of([want], **{key: merged.get(key, want)})
    fields = {ours: merged[theirs] for ours, theirs in FIELDS.items()}
    return BertConfig(
        **fields,
        pooler=any("pooler.dense.weight" in name for name in tensors),
        mlm="cls.predictions.bias" in tensors,
    )


def load(folder: Path | str) -> tuple[BertConfig, PyTree]:
    """Reads a folder with `config.json` and safetensors, one file or sharded with an index.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the configuration is of another kind of network.
      WeightsError: tensors that do not fit it.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist.")
    try:
        values = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}).") from None
    tensors = weights.read(folder)
    cfg = config_from(values, tensors)
    return cfg, import_tensors(cfg, tensors)


def save(folder: Path | str, cfg: BertConfig, params: PyTree) -> None:
    """Writes `config.json` and `model.safetensors` as Hugging Face's libraries read them."""
    values = {theirs: getattr(cfg, ours) for ours, theirs in FIELDS.items()}
    values |= {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM" if cfg.mlm else "BertModel"],
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
    }
    folder = Path(folder)
    tensors = export_tensors(cfg, params)
    weights.write(folder / "model.safetensors", tensors, metadata={"format": "pt"})
    files.write_text(folder / "config.json", json.dumps(values, indent=2) + "\n")
