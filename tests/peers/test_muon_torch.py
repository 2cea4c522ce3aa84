"""Muon beside PyTorch's, whose products are done in bfloat16: here in float64."""

import numpy as np
import pytest

from nn_from_scratch.modern import Muon

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_muon_as_in_pytorch(shape, nesterov, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    rng = np.random.default_rng(0)
    ours, noise = rng.normal(size=shape), rng.normal(size=(50, *shape))
    theirs = torch.nn.Parameter(torch.tensor(ours.T.copy()))  # (out, in)
    a, b = Muon(0.05, nesterov=nesterov), torch.optim.Muon([theirs], lr=0.05, nesterov=nesterov)
    for e in noise:
        theirs.grad = torch.tensor((np.sin(3 * theirs.detach().numpy().T) + e).T.copy())
        b.step()
        a.update(ours, np.sin(3 * ours) + e)
        np.testing.assert_allclose(ours, theirs.detach().numpy().T, rtol=1e-9, atol=1e-11)
