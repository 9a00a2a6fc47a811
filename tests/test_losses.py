import math

import pytest
import pytorch_msssim
import torch

from nvcodec.codec import ssim
from nvcodec.codec.losses import LOSSES, Mended, check_loss, distortion
from nvcodec.errors import UsageError


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_falls_as_frames_agree(name):
    torch.manual_seed(0)
    target = torch.rand(2, 3, 176, 176)
    noise = torch.randn_like(target)
    near, far = ((target + s * noise).clamp(0, 1).requires_grad_() for s in (0.01, 0.1))
    loss, mse = distortion(name, near, target)
    worse, _ = distortion(name, far, target)
    assert loss < worse
    assert mse.shape == (2,)
    loss.backward()
    assert torch.isfinite(near.grad).all()


def test_there_are_the_papers_fifteen_and_ours():
    assert len(LOSSES) == 17


def test_log_l1_hardly_minds_outliers():
    torch.manual_seed(0)
    target = torch.rand(1, 3, 32, 32)
    spoilt = target.clone()
    spoilt[:, :, 5, 7] = 1 - spoilt[:, :, 5, 7].round()
    flat = target + 0.05
    for name, outlier_counts_less in (("log-l1", True), ("log-mse", False)):
        one, all_over = (distortion(name, x, target)[0] for x in (spoilt, target + 0.01))
        assert (one < all_over) == outlier_counts_less
    assert distortion("log-l1", flat, target)[0] == pytest.approx(2 * math.log(0.0503), abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_under_the_mask_do_not_count(name):
    torch.manual_seed(0)
    target = torch.rand(2, 3, 176, 176)
    drawn = (target + 0.1).requires_grad_()
    mask = torch.ones(2, 1, 176, 176)
    mask[1, :, 40:80, 30:90] = 0
    loss, _ = distortion(name, drawn, target, mask)
    other = torch.where(mask == 0, torch.rand(()), target)
    assert torch.equal(loss, distortion(name, drawn, other, mask)[0])
    loss.backward()
    assert not drawn.grad[1, :, 40:80, 30:90].any()
    assert drawn.grad[1, :, :30].any()


def test_fusion6_is_the_papers_mix():
    torch.manual_seed(0)
    a, b = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    expected = 0.7 * distortion("l1", a, b)[0] + 0.3 * distortion("ssim", a, b)[0]
    torch.testing.assert_close(distortion("fusion6", a, b)[0], expected)


@pytest.mark.parametrize("strip_values", [1, 5_000, 100_000])
@pytest.mark.parametrize(
    ("size", "weight"), [((2, 3, 24, 37), 0.2), ((1, 1, 11, 11), 1.0), ((1, 2, 45, 150), 0.5)]
)
def test_ssim_and_its_gradient_are_the_librarys(size, weight, strip_values, monkeypatch):
    monkeypatch.setattr(ssim, "_STRIP_VALUES", {"cpu": strip_values})
    torch.manual_seed(0)
    y = torch.rand(size, dtype=torch.float64)
    x = (y + weight * torch.randn_like(y)).clamp(0, 1).requires_grad_()
    window = ssim._window()[None, None, None].repeat(size[1], 1, 1, 1)
    expected = pytorch_msssim.ssim(x, y, data_range=1.0, win=window)
    found = ssim.ssim(x, y)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(3 * found, x)
    torch.testing.assert_close(gradient, 3 * torch.autograd.grad(expected, x)[0])
    assert ssim.ssim(y, y) == pytest.approx(1)


def test_small_frames_have_no_ms_ssim():
    with pytest.raises(UsageError, match="sides of at least 161"):
        check_loss("fusion10", 160, 400)
    check_loss("fusion10", 161, 161)
    with pytest.raises(UsageError, match="allowed are log-mse"):
        check_loss("psnr", 100, 100)


def mended_by_hand(x, limit, side):
    """What corrections leave of the error, block by block."""
    _, height, width = x.shape
    total = 0.0
    for top in range(0, height, side):
        for left in range(0, width, side):
            block = x[:, top : top + side, left : left + side]
            error = block.square().mean()
            counted = error if error < limit else limit * (1 + torch.log(error / limit))
            total = total + counted * block[0].numel()
    return total / (height * width)


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (5, 3)])
@pytest.mark.parametrize("name", ["log-mse", "l2"])
def test_mended_blocks_cost_the_logarithm_of_their_error(name, size):
    torch.manual_seed(0)
    drawn = torch.randn(2, 3, *size, dtype=torch.float64) * torch.linspace(0.1, 3, size[1])
    drawn.requires_grad_()
    target = torch.zeros(2, 3, *size, dtype=torch.float64)
    loss, mse = distortion(name, drawn, target, mended=Mended(1.2, 8))
    by_hand = torch.stack([mended_by_hand(x, 1.2, 8) for x in drawn])
    expected = (torch.log(by_hand + 1e-7) if name == "log-mse" else by_hand).mean()
    torch.testing.assert_close(loss, expected)
    slopes, by_hand_slopes = (torch.autograd.grad(x, drawn)[0] for x in (loss, expected))
    torch.testing.assert_close(slopes, by_hand_slopes)
    torch.testing.assert_close(mse, drawn.detach().square().mean((1, 2, 3)))
