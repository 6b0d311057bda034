"""Weights in torch's names and layouts, from safetensors files or mappings of NumPy arrays.

Linear kernels are (out, in) there and (in, out) here; convolutions (out, in, y, x) there and
(y, x, in, out) here. torch itself is not needed, and nothing is unpickled: save a state dict with
`safetensors.torch.save_file`, or pass `{name: tensor.numpy()}`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxml.core import param, weights
from jaxml.core.types import PyTree
from jaxml.models import mlp, resnet, vgg
from jaxml.models.mlp import MlpConfig
from jaxml.models.resnet import ResNetConfig
from jaxml.models.vgg import VggConfig

type Source = Path | str | Mapping[str, np.ndarray]


def linear_rules(theirs: str, ours: str, bias: bool = True) -> list[weights.Rule]:
    """The rules of one `torch.nn.Linear`."""
    kernel = weights.linear(f"{theirs}.weight", f"{ours}/kernel")
    return [kernel, *_bias(theirs, ours, bias)]


def conv_rules(theirs: str, ours: str, bias: bool = True) -> list[weights.Rule]:
    """The rules of one `torch.nn.Conv2d`."""

    def load(x: np.ndarray) -> np.ndarray:
        return np.transpose(x, (2, 3, 1, 0))

    def dump(x: np.ndarray) -> np.ndarray:
        return np.transpose(x, (3, 2, 0, 1))

    kernel = weights.Rule(f"{theirs}.weight", f"{ours}/kernel", load, dump)
    return [kernel, *_bias(theirs, ours, bias)]


def norm_rules(theirs: str, params: str, state: str) -> list[weights.Rule]:
    """The rules of one `torch.nn.BatchNorm2d`: its parameters and its running statistics."""
    return [
        weights.Rule(f"{theirs}.weight", f"{params}/scale"),
        weights.Rule(f"{theirs}.bias", f"{params}/bias"),
        weights.Rule(f"{theirs}.running_mean", f"{state}/mean"),
        weights.Rule(f"{theirs}.running_var", f"{state}/var"),
    ]


def _bias(theirs: str, ours: str, bias: bool) -> list[weights.Rule]:
    return [weights.Rule(f"{theirs}.bias", f"{ours}/bias")] if bias else []


def mlp_rules(cfg: MlpConfig, names: Sequence[str] | None = None) -> list[weights.Rule]:
    """The rules of an MLP whose layers are called `names`.

    By default those of a `torch.nn.Sequential` of linear layers with an activation between any two:
    "0", "2", "4", ...

    Raises:
      ValueError: not one name per layer.
    """
    num = len(cfg.hidden) + 1
    names = [str(2 * i) for i in range(num)] if names is None else names
    if len(names) != num:
        raise ValueError(f"names must name all {num} layers; got {len(names)} names.")
    table = [linear_rules(n, f"params/layer{i}", cfg.bias) for i, n in enumerate(names)]
    return [rule for rules in table for rule in rules]


def vgg_rules(cfg: VggConfig, classifier: Sequence[str] | None = None) -> list[weights.Rule]:
    """The rules of a VGG laid out like torchvision's: `features.{n}`, then the `classifier` layers.

    By default the classifier is one layer of that name, or, with hidden layers, a `Sequential` of
    linear, activation and dropout: "classifier.0", "classifier.3", ...

    Raises:
      ValueError: not one name per layer of the classifier.
    """
    table, place = [], 0
    for i in range(len(cfg.widths)):
        table += conv_rules(f"features.{place}", f"params/conv{i}")
        if cfg.batch_norm:
            table += norm_rules(f"features.{place + 1}", f"params/norm{i}", f"state/norm{i}")
        place += 2 + cfg.batch_norm + (i in cfg.last_of_stage)
    num = len(cfg.hidden) + 1
    if classifier is None:
        classifier = [f"classifier.{3 * i}" for i in range(num)] if cfg.hidden else ["classifier"]
    if len(classifier) != num:
        raise ValueError(f"classifier must name all {num} layers; got {len(classifier)} names.")
    for i, name in enumerate(classifier):
        table += linear_rules(name, f"params/head{i}")
    return table


def resnet_rules(
    cfg: ResNetConfig, *, shortcut: str = "downsample", head: str = "fc"
) -> list[weights.Rule]:
    """The rules of a ResNet laid out like torchvision's (`conv1`, `bn1`, `layer1.0.conv1`, ...).

    Args:
      cfg: the network.
      shortcut: name of the convolution and norm on a shortcut.
      head: name of the last layer.
    """
    table = _conv_norm("conv1", "bn1", "stem")
    declared = resnet.params(cfg)
    for stage, num in enumerate(cfg.blocks):
        for block in range(num):
            theirs, ours = f"layer{stage + 1}.{block}", f"stage{stage}_block{block}"
            table += _conv_norm(f"{theirs}.conv1", f"{theirs}.bn1", f"{ours}/first")
            table += _conv_norm(f"{theirs}.conv2", f"{theirs}.bn2", f"{ours}/second")
            if "shortcut" in declared[ours]:
                side = f"{theirs}.{shortcut}"
                table += _conv_norm(f"{side}.0", f"{side}.1", f"{ours}/shortcut")
    return table + linear_rules(head, "params/head")


def _conv_norm(conv: str, norm: str, ours: str) -> list[weights.Rule]:
    return [
        *conv_rules(conv, f"params/{ours}/conv", bias=False),
        *norm_rules(norm, f"params/{ours}/norm", f"state/{ours}"),
    ]


def load_mlp(source: Source, cfg: MlpConfig, names: Sequence[str] | None = None) -> PyTree:
    """Parameters of `cfg` from a file, a folder or tensors; see `mlp_rules`.

    Raises:
      WeightsError: names every tensor that is missing, left over or of the wrong shape.
    """
    return _load(source, mlp_rules(cfg, names), mlp.params(cfg), {})[0]


def load_vgg(
    source: Source, cfg: VggConfig, classifier: Sequence[str] | None = None
) -> tuple[PyTree, PyTree]:
    """Parameters and batch statistics of `cfg`; see `vgg_rules` and `load_mlp`."""
    return _load(source, vgg_rules(cfg, classifier), vgg.params(cfg), vgg.state(cfg))


def load_resnet(
    source: Source, cfg: ResNetConfig, *, shortcut: str = "downsample", head: str = "fc"
) -> tuple[PyTree, PyTree]:
    """Parameters and batch statistics of `cfg`; see `resnet_rules` and `load_mlp`."""
    rules = resnet_rules(cfg, shortcut=shortcut, head=head)
    return _load(source, rules, resnet.params(cfg), resnet.state(cfg))


def export(rules: Sequence[weights.Rule], params: PyTree, state: PyTree = None) -> weights.Tensors:
    """Our trees under the names of `rules`, in torch's layouts; write them with `weights.write`."""
    return weights.export_tree({"params": params, "state": state or {}}, rules)


def _load(source: Source, rules: list[weights.Rule], params: PyTree, state: PyTree):
    tensors = source if isinstance(source, Mapping) else weights.read(source)
    target = param.abstract({"params": params, "state": state})
    loaded = weights.import_tree(tensors, rules, target, ignore=_counts_batches)
    return loaded["params"], loaded.get("state", {})


def _counts_batches(name: str) -> bool:
    return name.endswith(".num_batches_tracked")
