"""Gated fusion against its equations."""

import torch

from dmt.fusion import GatedFusion


def test_starts_as_the_identity_on_the_acoustic_rows():
    fusion, acoustic = GatedFusion(6, 4), torch.randn(2, 5, 6)
    assert torch.equal(fusion(acoustic, torch.randn(2, 5, 4)), acoustic)


def test_equations_one_row_at_a_time():
    torch.manual_seed(0)
    fusion, acoustic, prosodic = GatedFusion(6, 4), torch.randn(2, 5, 6), torch.randn(2, 5, 4)
    fusion.scale.data.fill_(0.7)
    out = fusion(acoustic, prosodic)
    for b in range(2):
        for r in range(5):
            a, p = acoustic[b, r], prosodic[b, r]
            g = 1 / (1 + torch.exp(-(fusion.gate.weight @ torch.cat([a, p]) + fusion.gate.bias)))
            f_tac = fusion.project.weight @ p + fusion.project.bias
            torch.testing.assert_close(out[b, r], a + 0.7 * (g * a + (1 - g) * f_tac), atol=1e-5, rtol=1e-5)


def test_the_scale_learns_first_and_then_all():
    torch.manual_seed(0)
    fusion, acoustic, prosodic = GatedFusion(6, 4), torch.randn(2, 5, 6), torch.randn(2, 5, 4)
    optimiser = torch.optim.SGD(fusion.parameters(), 0.1)
    for step in range(2):
        optimiser.zero_grad()
        (fusion(acoustic, prosodic) - prosodic.mean()).square().mean().backward()
        assert fusion.scale.grad.abs() > 0
        assert all(bool(p.grad.abs().sum() > 0) == (step > 0) for p in (*fusion.gate.parameters(), fusion.project.bias))
        optimiser.step()
