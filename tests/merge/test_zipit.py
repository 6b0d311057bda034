import numpy as np
import pytest

from jaxml.merge import align, zipit
from tests.merge import oracle


def _correlation(n, d, seed):
    random = np.random.default_rng(seed)
    x = random.normal(size=(60, 4)) @ random.normal(size=(4, n * d))
    x += 0.4 * random.normal(size=x.shape)
    return np.corrcoef(x.T)


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 0.25), (1e-4, 0.0)])
def test_equals_the_transcription(n, alpha, beta):
    for seed in range(4):
        similar = _correlation(n, 8, seed)
        merge, unmerge = zipit.zipit_match(similar, n, alpha, beta)
        want = oracle.zipit(similar, n, alpha, beta)
        assert sorted(map(tuple, unmerge.T)) == sorted(map(tuple, want.T))
        np.testing.assert_allclose(merge, unmerge / (unmerge.sum(0) + 1e-5) * n)
        assert (unmerge.sum(1) == 1).all()


def test_without_repeats_two_networks_are_paired():
    _, unmerge = zipit.zipit_match(_correlation(2, 10, 0), 2, alpha=0.0, beta=0.0)
    assert unmerge.shape == (20, 10)
    assert (unmerge.sum(1) == 1).all()


def test_alignments_average_what_was_matched():
    order = np.array([2, 0, 1])
    x = np.random.default_rng(0).normal(size=(100, 3))
    similar = np.corrcoef(np.concatenate([x, x[:, order]], 1).T)
    first, second = zipit.zipit_align(similar, 2, 0.3, 0.0)
    y = (x @ first.matrix.T + x[:, order] @ second.matrix.T) / 2
    np.testing.assert_allclose(y @ first.inverse.T, x, rtol=1e-4)
    assert align.correlation(np.eye(2), np.eye(2), np.eye(2)).shape == (2, 2)


def test_bad_input():
    with pytest.raises(ValueError, match="num_models must divide width"):
        zipit.zipit_match(np.eye(5), 2)
    with pytest.raises(ValueError, match="alpha must lie in"):
        zipit.zipit_match(np.eye(4), 2, alpha=2.0)
