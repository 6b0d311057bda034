"""Specs of the networks in `jaxml.models`, written down by hand."""

from jaxml.merge.spec import MergeSpec, Node, ParamAxis
from jaxml.models.bert import BertConfig
from jaxml.models.mlp import MlpConfig
from jaxml.models.resnet import ResNetConfig
from jaxml.models.vgg import VggConfig


def mlp_spec(cfg: MlpConfig) -> MergeSpec:
    """One node per hidden layer, read after its activation."""
    nodes = {}
    for i in range(len(cfg.hidden)):
        here, after = f"params/layer{i}", f"params/layer{i + 1}"
        bias = (ParamAxis(f"{here}/bias", 0),) if cfg.bias else ()
        writers = (ParamAxis(f"{here}/kernel", 1), *bias)
        nodes[f"layer{i}"] = Node(writers, (ParamAxis(f"{after}/kernel", 0),), tap=f"layer{i}")
    return MergeSpec(nodes)


def _norm(name: str) -> tuple[ParamAxis, ...]:
    """The four vectors of a batch norm."""
    params = (ParamAxis(f"params/{name}/{leaf}", 0) for leaf in ("scale", "bias"))
    state = name.removesuffix("/norm")
    return (*params, *(ParamAxis(f"state/{state}/{leaf}", 0) for leaf in ("mean", "var")))


def vgg_spec(cfg: VggConfig) -> MergeSpec:
    """One node per convolution, read after its ReLU and before any pooling; then hidden layers."""
    num, nodes = len(cfg.widths), {}
    kernels = [f"conv{i}" for i in range(num)] + [f"head{i}" for i in range(len(cfg.hidden) + 1)]
    for i, (here, after) in enumerate(zip(kernels[:-1], kernels[1:], strict=True)):
        out, into = (3 if i < num else 1), (2 if after.startswith("conv") else 0)
        writers = (ParamAxis(f"params/{here}/kernel", out), ParamAxis(f"params/{here}/bias", 0))
        norms = _norm(f"norm{i}") if cfg.batch_norm and i < num else ()
        nodes[here] = Node(writers, (ParamAxis(f"params/{after}/kernel", into),), norms, here)
    return MergeSpec(nodes)


def resnet_spec(cfg: ResNetConfig) -> MergeSpec:
    """One node inside each block, and one residual stream per stage.

    A stream is written by the stem, by the second convolution of every block of the stage and by
    the shortcut that opens the stage, and read by whatever follows; its features are those that
    enter the next stage (or the head).
    """
    nodes: dict[str, Node] = {}
    streams: dict[int, tuple[list[str], list[str]]] = {0: (["stem"], [])}
    last: dict[int, str] = {}
    for name, before, width, stride in cfg.layout:
        stage, changes = int(name[5 : name.index("_")]), stride != 1 or before != width
        writers, _ = streams.setdefault(stage, ([], []))
        _, readers = streams[stage - 1 if changes else stage]
        writers += [f"{name}/second", *([f"{name}/shortcut"] if changes else [])]
        readers += [f"{name}/first", *([f"{name}/shortcut"] if changes else [])]
        last[stage] = name
        nodes[f"{name}_hidden"] = _conv_node(
            [f"{name}/first"], [f"{name}/second"], f"{name}_hidden"
        )
    for stage, (writers, readers) in streams.items():
        nodes[f"stage{stage}"] = _conv_node(writers, readers, last[stage])
    final = nodes[f"stage{len(cfg.blocks) - 1}"]
    head = (*final.readers, ParamAxis("params/head/kernel", 0))
    nodes[f"stage{len(cfg.blocks) - 1}"] = final._replace(readers=head)
    return MergeSpec(nodes)


def _conv_node(writers: list[str], readers: list[str], tap: str) -> Node:
    return Node(
        tuple(ParamAxis(f"params/{name}/conv/kernel", 3) for name in writers),
        tuple(ParamAxis(f"params/{name}/conv/kernel", 2) for name in readers),
        tuple(axis for name in writers for axis in _norm(f"{name}/norm")),
        tap,
    )


def bert_spec(cfg: BertConfig, residual: bool = False) -> MergeSpec:
    """Heads and feed-forward units of every Transformer block; the residual stream if asked.

    Heads move whole, and inside a head the basis of values is free. Only permutations keep the
    meaning of the residual stream, because of its layer norms. The masked-language-model head is
    not covered by `residual`.

    Raises:
      ValueError: `residual` with a pooler or a masked-language-model head.
    """
    nodes = {}
    for layer in range(cfg.num_layers):
        nodes |= {
            f"layer{layer}_heads": _heads(cfg, layer),
            f"layer{layer}_units": _units(layer),
        }
    if residual:
        if cfg.pooler or cfg.mlm:
            raise ValueError(
                "residual needs a network without pooler and mlm head; "
                f"got pooler={cfg.pooler}, mlm={cfg.mlm}."
            )
        nodes["residual"] = _residual(cfg)
    return MergeSpec(nodes)


def _heads(cfg: BertConfig, layer: int) -> Node:
    at = "params/layers/attention"

    def both(name: str, rigid: bool) -> tuple[ParamAxis, ...]:
        kernel = ParamAxis(f"{at}/{name}/kernel", 1, layer, rigid=rigid)
        return kernel, ParamAxis(f"{at}/{name}/bias", 0, layer, rigid=rigid)

    writers = (*both("query", True), *both("key", True), *both("value", False))
    reader = ParamAxis(f"{at}/out/kernel", 0, layer)
    return Node(writers, (reader,), tap=f"layer{layer}_heads", block=cfg.width // cfg.num_heads)


def _units(layer: int) -> Node:
    at = "params/layers/mlp"
    writers = (ParamAxis(f"{at}/up/kernel", 1, layer), ParamAxis(f"{at}/up/bias", 0, layer))
    return Node(writers, (ParamAxis(f"{at}/down/kernel", 0, layer),), tap=f"layer{layer}_units")


def _residual(cfg: BertConfig) -> Node:
    embed = [f"params/embed/{name}" for name in ("word", "position", "type")]
    writers = [ParamAxis(f"{path}/embedding", 1) for path in embed]
    norms = [ParamAxis(f"params/embed/norm/{leaf}", 0) for leaf in ("scale", "bias")]
    readers = []
    for layer in range(cfg.num_layers):
        at = "params/layers"
        for path in (f"{at}/attention/out", f"{at}/mlp/down"):
            writers += [ParamAxis(f"{path}/kernel", 1, layer), ParamAxis(f"{path}/bias", 0, layer)]
        for name in ("attention_norm", "mlp_norm"):
            norms += [ParamAxis(f"{at}/{name}/{leaf}", 0, layer) for leaf in ("scale", "bias")]
        places = [f"attention/{name}" for name in ("query", "key", "value")] + ["mlp/up"]
        readers += [ParamAxis(f"{at}/{place}/kernel", 0, layer) for place in places]
    return Node(tuple(writers), tuple(readers), tuple(norms), "residual", rigid=True)
