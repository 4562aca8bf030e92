"""The information constraint: the closed form, the operator's own, and their way into a loss."""

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from dmt.config import SparsityConfig
from dmt.sparsity import DynamicThreshold, gaussian_information, information_loss


def test_closed_form_is_the_divergence_of_fitted_gaussians():
    torch.manual_seed(0)
    values = torch.randn(200, 6) * torch.linspace(0.5, 3, 6) + 1
    masked = values * (values.abs() > 1)
    p = Normal(masked.mean(0), (masked.var(0, correction=0) + 1e-6).sqrt())
    q = Normal(values.mean(0), (values.var(0, correction=0) + 1e-6).sqrt())
    torch.testing.assert_close(gaussian_information(masked, values), kl_divergence(p, q).mean())
    assert gaussian_information(values, values).abs() < 1e-6


def test_operator_and_closed_form_agree_with_gradients():
    torch.manual_seed(0)
    threshold, x = DynamicThreshold(SparsityConfig(initial_threshold=0.6), 6), torch.randn(40, 3, 6)
    ours = x.clone().requires_grad_()
    out = threshold(ours)
    threshold.information.backward()
    twin = x.clone().requires_grad_()
    meaning = gaussian_information(twin * (out.detach() != 0), twin)
    meaning.backward()
    torch.testing.assert_close(threshold.information, meaning, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.grad, twin.grad, atol=1e-6, rtol=1e-3)


def test_loss_is_the_mean_over_sites_and_is_taken_once():
    torch.manual_seed(0)
    sites = nn.ModuleList(DynamicThreshold(SparsityConfig(initial_threshold=v), 6) for v in (0.2, 0.7))
    x = torch.randn(50, 6)
    expected = torch.stack([gaussian_information(s(x), x) for s in sites]).mean()
    loss = information_loss(sites)
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-4)
    loss.backward()
    assert all(s.theta.grad > 0 for s in sites)  # a higher threshold loses more
    assert float(information_loss(sites)) == 0.0


def test_no_sites_no_loss():
    assert float(information_loss(nn.Linear(2, 2))) == 0.0
