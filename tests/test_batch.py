"""Clips of a batch on threads of their own give what the batch gives at once."""

from dataclasses import replace

import pytest
import torch

from nvcodec.codec.batch import BatchLoss
from nvcodec.codec.drawing import Drawing
from nvcodec.codec.settings import FitSettings
from nvcodec.codec.workers import Workers
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.models.nerv import NeRV, NeRVConfig

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
