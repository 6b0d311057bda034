"""Every test sees eight CPU devices and an error for implicit rank promotion."""

import os

os.environ["XLA_FLAGS"] = " ".join(
    [
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=8",
        "--xla_backend_optimization_level=0",  # tests compile more than they compute
        "--xla_llvm_disable_expensive_passes=true",
    ]
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest
from hypothesis import settings

jax.config.update("jax_numpy_rank_promotion", "raise")
settings.register_profile("jaxml", max_examples=25, deadline=None, derandomize=True)
settings.load_profile("jaxml")


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without any prepared data."""
    monkeypatch.delenv("JAXML_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("HOME", str(tmp_path))
