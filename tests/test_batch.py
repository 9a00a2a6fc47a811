"""Clips of a batch on threads of their own give what the batch gives at once."""

from dataclasses import replace

import pytest
import torch

from nvcodec.codec.batch import BatchLoss
from nvcodec.codec.drawing import Drawing
from nvcodec.codec.fit import Fit
from nvcodec.codec.losses import distortion
from nvcodec.codec.quantize import Quantizer
from nvcodec.codec.settings import FitSettings
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.models.nerv import NeRV, NeRVConfig
from nvcodec.workers import Workers

SETTINGS = FitSettings(n_steps=10, target_bits=1e4, batch=3)


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def gradients(settings: FitSettings, at_once: bool) -> tuple[float, list[torch.Tensor]]:
    torch.manual_seed(0)
    model = HNeRV(HNeRVConfig(embed_dim=2, fc_dim=8, strides=(4, 2), lower_width=8), 5, 16, 24)
    frames = torch.randint(0, 256, (5, 3, 16, 24), dtype=torch.uint8)
    analysis = model.analysis("convnext", width=8) if settings.analysis != "none" else None
    batch = BatchLoss(Drawing(model, None), frames, None, settings)
    if at_once:
        batch.workers, batch.drawings = None, batch.drawings[:1]
    values = {f"model.{k}": p for k, p in model.named_parameters()}
    loss, mse = batch.backward(torch.tensor([3, 0, 4]), values, None, analysis, None)
    assert mse.shape == (3,)
    trained = [*model.parameters(), *(analysis.parameters() if analysis else ())]
    return loss, [p.grad for p in trained if p.grad is not None]


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("loss", ["log-mse", "log-l1", "fusion6"])
@pytest.mark.parametrize("analysis", ["none", "convnext"])
def test_gradients_are_those_of_the_whole_batch(loss: str, analysis: str) -> None:
    settings = replace(SETTINGS, loss=loss, analysis=analysis)
    split_loss, split = gradients(settings, at_once=False)
    whole_loss, whole = gradients(settings, at_once=True)
    assert split_loss == pytest.approx(whole_loss, rel=1e-5)
    assert len(split) == len(whole) > 4
    for a, b in zip(split, whole, strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("three_threads")
def test_the_batch_is_split_only_where_clips_are_independent() -> None:
    frames = torch.zeros(5, 3, 16, 24, dtype=torch.uint8)
    for norm, split in ((0, True), (1, False)):
        config = NeRVConfig(
            pe_levels=4, stem_dim=8, fc_dim=4, strides=(4, 2), lower_width=4, norm=norm
        )
        drawing = Drawing(NeRV(config, 5, 16, 24), None)
        assert (BatchLoss(drawing, frames, None, SETTINGS).workers is not None) == split


@pytest.mark.usefixtures("three_threads")
def test_workers_keep_the_order_and_the_number_of_threads() -> None:
    workers = Workers(3)
    assert workers.map(lambda i: (i, torch.get_num_threads()), range(5)) == [
        (i, 1) for i in range(5)
    ]
    assert torch.get_num_threads() == 3
    with pytest.raises(ZeroDivisionError):
        workers.map(lambda i: 1 // i, [0])
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("name", ["log-mse", "l1", "fusion6"])
def test_heads_at_lower_resolutions_learn_with_the_loss_of_the_run(name: str) -> None:
    torch.manual_seed(0)
    config = NeRVConfig(pe_levels=4, stem_dim=8, fc_dim=4, lower_width=4, strides=(2, 2, 2))
    model = NeRV(config, 2, 24, 48)
    drawing = Drawing(model, model.side_heads())
    frames = torch.randint(0, 256, (2, 3, 24, 48), dtype=torch.uint8)
    clips = torch.tensor([1, 0])
    values = {k: p.detach() for k, p in drawing.named_parameters()}
    settings = replace(SETTINGS, loss=name, side_weight=0.5)
    loss, _ = BatchLoss(drawing, frames, None, settings).backward(
        clips, values | {"model.head.bias": model.head.bias}, None, None, None
    )
    target = frames[clips].float() / 255
    with torch.no_grad():
        drawn, small, middle = drawing(clips, None)
    expected = distortion(name, drawn, target)[0]
    # 6 and 12 pixels high: the windows of SSIM need 11.
    for picture, its in ((small, "l2" if name == "fusion6" else name), (middle, name)):
        truth = torch.nn.functional.avg_pool2d(target, 24 // picture.shape[2])
        expected += 0.5 * distortion(its, picture, truth)[0]
    assert loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize(("batch", "n_threads"), [(3, 1), (1, 3)])
def test_what_a_step_does_for_all_clips_takes_one_thread(batch, n_threads, monkeypatch) -> None:
    config = HNeRVConfig(embed_dim=2, fc_dim=8, strides=(4, 2), lower_width=8)
    frames = torch.randint(0, 256, (5, 3, 16, 24), dtype=torch.uint8)
    settings = replace(SETTINGS, batch=batch, float_share=0.0)
    fit = Fit(HNeRV(config, 5, 16, 24), frames, settings, lambda tensors: 1e4)
    seen = []

    def watch(owner: type, name: str) -> None:
        call = getattr(owner, name)

        def watched(*args, **more):
            seen.append(torch.get_num_threads())
            return call(*args, **more)

        monkeypatch.setattr(owner, name, watched)

    watch(Quantizer, "bits")
    watch(torch.optim.Adam, "step")
    fit.advance()
    fit.has_large_matrices = True
    fit.advance()
    assert seen[-4:] == [n_threads, n_threads, n_threads, 3]
    assert torch.get_num_threads() == 3
