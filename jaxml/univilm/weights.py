"""The authors' checkpoints by the names of their tensors, and BERT's for the text encoder.

Convert a `.bin` once, where torch is: `torch.load(PATH, weights_only=True)`, tied tensors cloned,
`safetensors.torch.save_file`. Nothing here unpickles.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxml.core import param, tree, weights
from jaxml.core.types import PyTree
from jaxml.core.weights import Rule, WeightsError
from jaxml.models import bert_weights
from jaxml.univilm import model
from jaxml.univilm.config import UniVLConfig

TIED = {
    "decoder.embeddings.word_embeddings.weight": "bert.embeddings.word_embeddings.weight",
    "decoder.embeddings.position_embeddings.weight": "bert.embeddings.position_embeddings.weight",
    "decoder.classifier.cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "cls_visual.predictions.weight": "visual.embeddings.word_embeddings.weight",
}
"""Tensors that the authors' modules hold a second time, and the first."""


def _linear(theirs: str, ours: str) -> list[Rule]:
    kernel = weights.linear(f"{theirs}.weight", f"{ours}/kernel")
    return [kernel, Rule(f"{theirs}.bias", f"{ours}/bias")]


def _norm(theirs: str, ours: str) -> list[Rule]:
    return [Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")]


def _under(rules: Sequence[Rule], theirs: str, ours: str, parts: Sequence[str]) -> list[Rule]:
    return [
        dataclasses.replace(r, theirs=theirs + r.theirs, ours=ours + r.ours)
        for r in rules
        if r.ours.startswith(tuple(parts))
    ]


def _head(theirs: str, ours: str) -> list[Rule]:
    return [
        *_linear(f"{theirs}.transform.dense", f"{ours}/dense"),
        *_norm(f"{theirs}.transform.LayerNorm", f"{ours}/norm"),
        Rule(f"{theirs}.bias", f"{ours}/bias"),
    ]


def _decoder() -> list[Rule]:
    layer, table = "decoder.decoder.layer.{i}", []
    for theirs, ours in (("slf_attn", "attention"), ("enc_attn", "cross")):
        for part in ("query", "key", "value"):
            table += _linear(f"{layer}.{theirs}.att.{part}", f"decoder/layers/{ours}/{part}")
        table += _linear(f"{layer}.{theirs}.output.dense", f"decoder/layers/{ours}/out")
        table += _norm(f"{layer}.{theirs}.output.LayerNorm", f"decoder/layers/{ours}_norm")
    table += _linear(f"{layer}.intermediate.dense", "decoder/layers/mlp/up")
    table += _linear(f"{layer}.output.dense", "decoder/layers/mlp/down")
    table += _norm(f"{layer}.output.LayerNorm", "decoder/layers/mlp_norm")
    return table


def rules(cfg: UniVLConfig) -> list[Rule]:
    """One rule per leaf of `model.params(cfg)`."""
    text, video, cross = (bert_weights.rules(c) for c in (cfg.text, cfg.video, cfg.cross))
    return [
        *_under(text, "bert.", "text/", ("embed/", "layers/")),
        *_norm("normalize_video.visual_norm2d", "video_norm"),
        *_linear("visual.embeddings.word_embeddings", "video/input"),
        Rule("visual.embeddings.position_embeddings.weight", "video/position/embedding"),
        *_norm("visual.embeddings.LayerNorm", "video/norm"),
        *_under(video, "visual.", "video/", ("layers/",)),
        Rule("cross.embeddings.position_embeddings.weight", "cross/position/embedding"),
        Rule("cross.embeddings.token_type_embeddings.weight", "cross/type/embedding"),
        *_norm("cross.embeddings.LayerNorm", "cross/norm"),
        *_under(cross, "cross.", "cross/", ("layers/", "pooler")),
        *_linear("similarity_dense", "similarity"),
        *_norm("decoder.embeddings.LayerNorm", "decoder/norm"),
        *_decoder(),
        *_head("decoder.classifier.cls.predictions", "decoder/head"),
        *_head("cls.predictions", "cmlm"),
        *_head("cls_visual.predictions", "cmfm"),
    ]


def _modern(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Names as they are today: `gamma`, `beta` and a wrapper's `module.` are of the past."""
    names = {n: re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", n)) for n in tensors}
    return {names[n].removeprefix("module."): x for n, x in tensors.items()}


def _beside(name: str) -> bool:
    unused = ("bert.pooler.", "visual.pooler.", "cls.seq_relationship.")
    return name in TIED or name.startswith(unused) or name.endswith("position_ids")


def import_tensors(
    cfg: UniVLConfig, tensors: Mapping[str, np.ndarray], base: PyTree | None = None
) -> PyTree:
    """A state dict of the authors' model as parameters.

    Args:
      cfg: sizes that fit it.
      tensors: by name.
      base: parameters that components missing from it keep (a stage I checkpoint has two
        encoders only); None: everything must be there.

    Raises:
      WeightsError: names every tensor that is missing, left over or of the wrong shape, or a tied
        one that differs from its first.
    """
    found = _modern(tensors)
    for second, first in TIED.items():
        if {second, first} <= set(found) and not np.array_equal(found[second], found[first]):
            raise WeightsError(f"{second} must equal {first}, to which the model ties it.")
    target, table = param.abstract(model.params(cfg)), rules(cfg)
    if base is None:
        return weights.import_tree(found, table, target, _beside)
    kept = [r for r in table if any(_matches(r, name) for name in found)]
    wanted = {r.ours for r in kept}
    part = tree.unflatten({n: x for n, x in tree.flatten(target).items() if n in wanted})
    new = tree.flatten(weights.import_tree(found, kept, part, _beside))
    return tree.unflatten(tree.flatten(base) | new)


def _matches(rule: Rule, name: str) -> bool:
    return re.fullmatch(re.escape(rule.theirs).replace(r"\{i\}", r"\d+"), name) is not None


def export_tensors(cfg: UniVLConfig, params: PyTree) -> weights.Tensors:
    """Parameters under the authors' names, tied tensors repeated as their state dict does."""
    tensors = weights.export_tree(params, rules(cfg))
    return tensors | {second: tensors[first].copy() for second, first in TIED.items()}


def adopt_bert(cfg: UniVLConfig, params: PyTree, tensors: Mapping[str, np.ndarray]) -> PyTree:
    """The parameters with BERT's weights as text encoder, and its masked-word head as CMLM's.

    Word and position tables thereby become the decoder's too.

    Raises:
      WeightsError: tensors that do not fit `cfg`.
    """
    renamed = _modern(tensors)
    body = {n.removeprefix("bert."): x for n, x in renamed.items() if not n.startswith("cls.")}
    text = bert_weights.import_tensors(cfg.text, body)
    new = {**params, "text": text}
    head = {n: x for n, x in renamed.items() if n.startswith("cls.predictions.")}
    if head:
        target = {"cmlm": param.abstract(model.params(cfg)["cmlm"])}
        new |= weights.import_tree(head, _head("cls.predictions", "cmlm"), target, _beside)
    return new


def load_bert(cfg: UniVLConfig, params: PyTree, folder: Path | str) -> PyTree:
    """`adopt_bert` from a folder or file of safetensors."""
    return adopt_bert(cfg, params, weights.read(folder))
