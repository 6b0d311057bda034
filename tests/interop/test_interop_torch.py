"""Networks in torch's names and layouts, run by a NumPy transcription and by ours after loading."""

import jax
import numpy as np
import pytest

from jaxml.core import weights
from jaxml.interop import torch
from jaxml.models import mlp, resnet, vgg
from jaxml.models.mlp import MlpConfig
from jaxml.models.resnet import ResNetConfig
from jaxml.models.vgg import VggConfig


def _conv(w, name, x, stride=1):
    """`torch.nn.Conv2d` with padding = size // 2: x [b, c, y, x], kernel [o, i, y, x]."""
    kernel = w[f"{name}.weight"]
    pad = kernel.shape[-1] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[2:], (2, 3))
    y = np.einsum("bcyxhw,ochw->boyx", windows[:, :, ::stride, ::stride], kernel)
    return y + w[f"{name}.bias"][:, None, None] if f"{name}.bias" in w else y


def _norm(w, name, x):
    mean, var, scale, bias = (
        w[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def _pool(x):
    y = x[:, :, : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    return y.reshape(*x.shape[:2], x.shape[2] // 2, 2, -1, 2).max((3, 5))


class _Draw:
    """Random tensors in torch's layouts."""

    def __init__(self):
        self.rng, self.w = np.random.default_rng(0), {}

    def conv(self, name, before, width, size=3, bias=True):
        shape = (width, before, size, size)
        self.w[f"{name}.weight"] = self.rng.normal(size=shape) / np.sqrt(before * size)
        if bias:
            self.w[f"{name}.bias"] = self.rng.normal(size=width)

    def linear(self, name, before, width):
        self.w[f"{name}.weight"] = self.rng.normal(size=(width, before))
        self.w[f"{name}.bias"] = self.rng.normal(size=width)

    def norm(self, name, width):
        for part in ("weight", "bias", "running_mean"):
            self.w[f"{name}.{part}"] = self.rng.normal(size=width)
        self.w[f"{name}.running_var"] = self.rng.random(width) + 0.5
        self.w[f"{name}.num_batches_tracked"] = np.array(7)


def _check(module, cfg, loaded, x_bcyx, want):
    p, state = loaded
    x = np.transpose(x_bcyx, (0, 2, 3, 1)).astype(np.float32)
    got, _ = jax.jit(module.apply, static_argnums=1)(p, cfg, x, state)
    np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-4 * abs(want).max())


@pytest.mark.parametrize(("hidden", "norms"), [((), True), ((5,), False)])
def test_vgg11_of_torchvision(hidden, norms):
    plan = (4, "M", 8, "M", 16, 16, "M", 32, 32, "M", 32, 32, "M")
    cfg = VggConfig(3, 11, 1 / 16, in_channels=2, hidden=hidden, batch_norm=norms)
    draw, place, before, steps = _Draw(), 0, 2, []
    for width in plan:
        if width == "M":
            steps.append(_pool)
            place += 1
            continue
        conv, norm = f"features.{place}", f"features.{place + 1}"
        draw.conv(conv, before, width)
        steps.append(lambda x, name=conv: _conv(draw.w, name, x))
        if norms:
            draw.norm(norm, width)
            steps.append(lambda x, name=norm: _norm(draw.w, name, x))
        steps.append(lambda x: np.maximum(x, 0))
        place, before = place + 2 + norms, width
    names = ["classifier.0", "classifier.3"] if hidden else ["classifier"]
    widths = (32, *hidden, 3)
    for name, a, b in zip(names, widths[:-1], widths[1:], strict=True):
        draw.linear(name, a, b)
    image = draw.rng.normal(size=(2, 2, 32, 32))
    x = image
    for step in steps:
        x = step(x)
    x = x[:, :, 0, 0]
    for i, name in enumerate(names):
        x = np.maximum(x, 0) if i else x
        x = x @ draw.w[f"{name}.weight"].T + draw.w[f"{name}.bias"]
    _check(vgg, cfg, torch.load_vgg(draw.w, cfg), image, x)


def _resnet_tensors(cfg, shortcut, head):
    draw, before = _Draw(), cfg.widths[0]
    draw.conv("conv1", cfg.in_channels, before, 7 if cfg.stem == "imagenet" else 3, bias=False)
    draw.norm("bn1", before)
    for s, (num, width) in enumerate(zip(cfg.blocks, cfg.widths, strict=True)):
        for b in range(num):
            name = f"layer{s + 1}.{b}"
            draw.conv(f"{name}.conv1", before, width, bias=False)
            draw.conv(f"{name}.conv2", width, width, bias=False)
            draw.norm(f"{name}.bn1", width)
            draw.norm(f"{name}.bn2", width)
            if s and not b:
                draw.conv(f"{name}.{shortcut}.0", before, width, cfg.shortcut, bias=False)
                draw.norm(f"{name}.{shortcut}.1", width)
            before = width
    draw.linear(head, before, cfg.num_classes)
    return draw.w


def _resnet(w, cfg, x, shortcut, head):
    large = cfg.stem == "imagenet"
    x = np.maximum(_norm(w, "bn1", _conv(w, "conv1", x, 2 if large else 1)), 0)
    if large:
        x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
        x = windows[:, :, ::2, ::2].max((-1, -2))
    for s, num in enumerate(cfg.blocks):
        for b in range(num):
            name, stride = f"layer{s + 1}.{b}", 2 if s and not b else 1
            y = np.maximum(_norm(w, f"{name}.bn1", _conv(w, f"{name}.conv1", x, stride)), 0)
            y = _norm(w, f"{name}.bn2", _conv(w, f"{name}.conv2", y))
            if f"{name}.{shortcut}.0.weight" in w:
                x = _norm(w, f"{name}.{shortcut}.1", _conv(w, f"{name}.{shortcut}.0", x, stride))
            x = np.maximum(x + y, 0)
    return x.mean((2, 3)) @ w[f"{head}.weight"].T + w[f"{head}.bias"]


@pytest.mark.parametrize(
    ("cfg", "names"),
    [
        (ResNetConfig(3, (2, 1), (3, 5), 2, "cifar", 3), ("shortcut", "linear")),
        (ResNetConfig(3, (1, 2), (3, 5), 2, "imagenet", 1), ("downsample", "fc")),
    ],
    ids=["cifar", "imagenet"],
)
def test_resnet(cfg, names, tmp_path):
    w = _resnet_tensors(cfg, *names)
    image = np.random.default_rng(1).normal(size=(2, 2, 12, 12))
    settings = dict(zip(("shortcut", "head"), names, strict=True))
    want = _resnet(w, cfg, image, *names)
    _check(resnet, cfg, torch.load_resnet(w, cfg, **settings), image, want)
    weights.write(tmp_path / "model.safetensors", w)
    p, state = torch.load_resnet(tmp_path, cfg, **settings)
    _check(resnet, cfg, (p, state), image, want)
    back = torch.export(torch.resnet_rules(cfg, **settings), p, state)
    assert sorted(back) == sorted(n for n in w if not n.endswith("num_batches_tracked"))
    for name, x in back.items():
        np.testing.assert_array_equal(x, w[name].astype(np.float32))


def test_mlp_of_a_sequential():
    cfg, draw = MlpConfig(4, (6, 5), 3), _Draw()
    for name, a, b in zip("024", cfg.widths[:-1], cfg.widths[1:], strict=True):
        draw.linear(name, a, b)
    x = draw.rng.normal(size=(2, 4))
    want = x
    for name in "024":
        want = np.maximum(want, 0) if name != "0" else want
        want = want @ draw.w[f"{name}.weight"].T + draw.w[f"{name}.bias"]
    got = mlp.apply(torch.load_mlp(draw.w, cfg), cfg, jax.numpy.asarray(x, np.float32))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_misfits_are_named():
    cfg, draw = MlpConfig(4, (), 3), _Draw()
    draw.linear("0", 5, 3)
    draw.linear("9", 1, 1)
    with pytest.raises(weights.WeightsError) as error:
        torch.load_mlp(draw.w, cfg)
    assert "0.weight has shape (3, 5)" in str(error.value)
    assert "unexpected 9.bias" in str(error.value)
    with pytest.raises(ValueError, match="names must name all 1 layers; got 2 names"):
        torch.load_mlp(draw.w, cfg, ["a", "b"])
    with pytest.raises(ValueError, match="classifier must name all 1 layers; got 0 names"):
        torch.load_vgg(draw.w, VggConfig(3), [])
    with pytest.raises(FileNotFoundError):
        torch.load_mlp("/nowhere", cfg)
