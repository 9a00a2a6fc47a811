import pytest
import torch

from nvcodec.codec.losses import LOSSES, check_loss, distortion
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
    assert len(LOSSES) == 16


def test_fusion6_is_the_papers_mix():
    torch.manual_seed(0)
    a, b = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    expected = 0.7 * distortion("l1", a, b)[0] + 0.3 * distortion("ssim", a, b)[0]
    torch.testing.assert_close(distortion("fusion6", a, b)[0], expected)


def test_small_frames_have_no_ms_ssim():
    with pytest.raises(UsageError, match="sides of at least 161"):
        check_loss("fusion10", 160, 400)
    check_loss("fusion10", 161, 161)
    with pytest.raises(UsageError, match="allowed are log-mse"):
        check_loss("psnr", 100, 100)
