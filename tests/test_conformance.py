"""Conformance C1 and C2 as `nvcodec verify` reports them."""

from pathlib import Path

import pytest
import torch
from nrv_factory import join_nrv, make_nrv, make_tiny
from test_cli import fail, run, run_json

import nvcodec
from nvcodec.codec.inspect import compare_with_reference
from nvcodec.errors import VerificationError
from nvcodec.models import ARCHITECTURES

COMMON = sorted((Path(__file__).parent / "vectors" / "common").glob("*.nrv"))


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_architecture_draws_as_in_float64(arch, batch):
    data = make_tiny(arch, 5, 48, 32)
    with nvcodec.open(data, device="cpu", batch=batch) as video:
        drawn = compare_with_reference(video, data)
    assert drawn["samples"] == 5 * 48 * 32 * 3
    assert drawn["equal"] >= 0.999
    assert drawn["max_difference"] <= 1
    assert drawn["psnr_db"] >= 75


@pytest.mark.parametrize("path", COMMON, ids=lambda path: path.stem)
def test_common_files_are_drawn_as_in_float64(path):
    """Coefficients of blocks and corrections included, which the smallest files do not have."""
    with nvcodec.open(path, device="cpu") as video:
        drawn = compare_with_reference(video, path.read_bytes())
    assert drawn["equal"] >= 0.999
    assert drawn["max_difference"] <= 1


def test_verify_reports_the_clauses(tmp_path):
    path = tmp_path / "a.nrv"
    path.write_bytes(join_nrv(make_nrv(3, 64, 48, seed=1), make_nrv(2, 64, 48, seed=2)))
    assert run_json("verify", path)[-2]["conformance"] == "C1"
    values = run_json("verify", path, "--reference", "--device", "cpu")[-2]
    assert values["conformance"] == "C1, C2"
    assert values["reference"]["samples"] == 5 * 64 * 48 * 3
    text = run("verify", path, "--reference", "--device", "cpu").output
    assert "% of the samples are equal on cpu" in text
    assert "conformance C1" in run("verify", path).output


def test_a_coarse_decoder_does_not_conform(tmp_path, monkeypatch):
    """Weights as bfloat16 keeps them: said with what it costs in dB, and exit code 8."""
    data = make_nrv(3, 64, 48)
    load = nvcodec.codec.decoder.load_tensors

    def coarse(model, tensors):
        load(model, tensors)
        if coarsely:
            for parameter in model.parameters():
                parameter.data = parameter.data.to(torch.bfloat16).float()

    coarsely = True
    monkeypatch.setattr(nvcodec.codec.decoder, "load_tensors", coarse)
    with nvcodec.open(data, device="cpu", batch=2) as video:
        video.load(0)
        coarsely = False
        with pytest.raises(VerificationError, match=r"needed are 99.9%.* between both") as caught:
            compare_with_reference(video, data)
    assert caught.value.exit_code == 8


def test_damage_is_found_before_anything_is_drawn(tmp_path):
    path = tmp_path / "a.nrv"
    path.write_bytes(make_nrv(2, 32, 32)[:-20])
    assert "announces" in fail(4, "verify", path, "--reference")
