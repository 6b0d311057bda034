import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxml.models import logistic


def test_it_ends_where_scipy_ends():
    draw = np.random.default_rng(0)
    x, label, decay = draw.normal(size=(60, 4)), draw.integers(0, 3, 60), 1e-2

    def objective(flat):
        kernel, bias = flat[:12].reshape(4, 3), flat[12:]
        scores = x @ kernel + bias
        top = scores.max(1, keepdims=True)
        log = scores - top - np.log(np.exp(scores - top).sum(1, keepdims=True))
        return -log[np.arange(60), label].mean() + decay * (kernel**2).sum()

    want = minimize(objective, np.zeros(15), method="BFGS").x[:12].reshape(4, 3)
    f32 = jnp.asarray(x, jnp.float32)
    got = logistic.fit(logistic.zeros(4, 3), f32, jnp.asarray(label), decay, 60)
    np.testing.assert_allclose(got["kernel"], want, atol=2e-3)
