"""The landmark basis: shapes, inverse with the prior, gradients."""

import pytest
import torch

from dmt.errors import InputError
from dmt.face.basis import CHIN, EYE_LEFT, EYE_RIGHT, LOWER_LIP, UPPER_LIP, LandmarkBasis


@pytest.fixture(scope="module")
def basis():
    return LandmarkBasis.load()


def prior_sample(basis, count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    factor = torch.linalg.cholesky(basis.coef_cov + 1e-5 * torch.eye(64))
    return basis.coef_mean + torch.randn(count, 64, generator=generator) @ factor.T


def test_zero_coefficients_are_the_neutral_face(basis):
    assert torch.equal(basis.landmarks(torch.zeros(2, 3, 64)), basis.neutral.expand(2, 3, 478, 3))
    gap = basis.neutral[EYE_LEFT] - basis.neutral[EYE_RIGHT]
    assert torch.linalg.vector_norm(gap) == pytest.approx(1.0, abs=0.02)
    assert basis.neutral[CHIN, 1] > basis.neutral[LOWER_LIP, 1] > basis.neutral[UPPER_LIP, 1] - 0.1


def test_shortcuts_agree_with_the_landmarks(basis):
    coefficients = prior_sample(basis, 7)
    points = basis.landmarks(coefficients)
    torch.testing.assert_close(
        basis.mouth_opening(coefficients), points[:, 14, 1] - points[:, 13, 1], atol=1e-5, rtol=1e-5
    )
    width = torch.linalg.vector_norm(points[:, 61] - points[:, 291], dim=-1)
    torch.testing.assert_close(basis.mouth_width(coefficients), width, atol=1e-5, rtol=1e-5)


def test_solve_reaches_plausible_targets(basis):
    """Displacements that the prior can make come back with the right opening and width."""
    coefficients = prior_sample(basis, 32, seed=1)
    points = torch.cat([basis.contours["lips_outer"], basis.contours["lips_inner"]])
    target = basis.displacement(coefficients)[:, points]
    solved = basis.solve(target, points, noise=0.003)
    error = (basis.displacement(solved)[:, points] - target).abs()
    assert error.max() < 0.01
    assert (basis.mouth_opening(solved) - basis.mouth_opening(coefficients)).abs().max() < 0.006


def test_solve_without_evidence_is_the_prior_mean(basis):
    points = torch.tensor([13, 14])
    solved = basis.solve(torch.full((1, 2, 3), 9.0), points, torch.zeros(2))
    torch.testing.assert_close(solved[0], basis.coef_mean, atol=1e-4, rtol=1e-4)


def test_solve_takes_a_weight_per_axis(basis):
    points = torch.tensor([13, 14, 61, 291])
    weights = torch.zeros(4, 3)
    weights[:, 1] = 1
    target = torch.zeros(4, 3)
    target[1, 1] = 0.15
    ignored = target.clone()
    ignored[:, 0] = 5.0
    solved = basis.solve(target, points, weights)
    torch.testing.assert_close(solved, basis.solve(ignored, points, weights))
    assert basis.mouth_opening(solved) > 0.08


def test_gradients_flow_through_everything(basis):
    double = basis.to(dtype=torch.float64)
    coefficients = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    coefficients = (0.3 * coefficients).requires_grad_()
    for function in (double.mouth_opening, double.mouth_width, lambda c: double.landmarks(c)[..., ::40, :]):
        assert torch.autograd.gradcheck(function, coefficients)
    target = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: double.solve(t, torch.tensor([13, 14, 61, 291])), target)


def test_wrong_widths_and_files_are_refused(basis, tmp_path):
    with pytest.raises(ValueError, match="64"):
        basis.landmarks(torch.zeros(2, 63))
    (tmp_path / "other.npz").write_bytes(b"not a zip")
    with pytest.raises(InputError, match="landmark basis"):
        LandmarkBasis.load(tmp_path / "other.npz")
