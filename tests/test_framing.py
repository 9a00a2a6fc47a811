"""--crop, --resize and --every change the truth, and say so; what was compared can be dumped."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import moving_frames
from test_cli import fail, listing, run, run_json

from nvcodec.errors import UsageError
from nvcodec.metrics import psnr_db
from nvcodec.video.framing import AS_IS, Framing, cubic_weights, resize
from nvcodec.video.reader import open_video

QUICK = ("--bpp", "2", "--passes", "2", "--device", "cpu")


def read(path, **given):
    with open_video(path, **given) as reader:
        return reader.info, list(reader)


def test_nothing_changes_by_default(small_mkv):
    info, frames = read(small_mkv)
    again, same = read(small_mkv, framing=AS_IS)
    assert info == again
    np.testing.assert_array_equal(frames, same)


def test_crop_keeps_the_centre(small_mkv):
    _, frames = read(small_mkv)
    info, cropped = read(small_mkv, framing=Framing(crop=(20, 31)))
    assert (info.width, info.height) == (20, 31)
    np.testing.assert_array_equal(cropped, np.stack(frames)[:, 8:39, 22:42])
    assert all(frame.flags.c_contiguous for frame in cropped)


def test_every_leaves_frames_out(small_mkv):
    info, frames = read(small_mkv)
    gapped, some = read(small_mkv, start=1, count=3, framing=Framing(every=4))
    np.testing.assert_array_equal(some, [frames[1], frames[5], frames[9]])
    assert gapped.frame_rate == info.frame_rate / 4 == Fraction(6000, 1001)
    assert len(read(small_mkv, framing=Framing(every=5))[1]) == 3
    assert len(read(small_mkv, framing=Framing(every=99))[1]) == 1


@pytest.mark.parametrize("size", [(64, 48), (32, 24), (17, 40), (100, 13), (150, 131), (1, 1)])
def test_resize_is_bicubic(size):
    frame = moving_frames(1)[0]
    done = resize(frame, *size)
    assert done.shape == (size[1], size[0], 3)
    planes = torch.from_numpy(frame).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(planes, size[::-1], mode="bicubic", antialias=True)
    expected = expected[0].permute(1, 2, 0).round().clamp(0, 255).numpy()
    assert np.abs(done - expected).max() <= 1
    assert (done == expected).mean() > 0.98


def test_weights_sum_to_one_and_keep_what_fits():
    for n_in, n_out in ((7, 3), (3, 7), (5, 5), (1, 4), (4, 1)):
        weights = cubic_weights(n_in, n_out)
        assert weights.shape == (n_out, n_in)
        np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(cubic_weights(5, 5), np.eye(5))


def test_crop_comes_before_resize(small_mkv):
    _, frames = read(small_mkv)
    info, both = read(small_mkv, framing=Framing(crop=(32, 32), resize=(16, 8)))
    assert (info.width, info.height) == (16, 8)
    np.testing.assert_array_equal(both[0], resize(frames[0][8:40, 16:48], 16, 8))


def test_crop_may_come_after_resize(small_mkv):
    _, frames = read(small_mkv)
    framing = Framing(crop=(16, 24), resize=24, crop_last=True)
    info, both = read(small_mkv, framing=framing)
    assert (info.width, info.height) == (16, 24)
    np.testing.assert_array_equal(both[0], resize(frames[0], 32, 24)[:, 8:24])


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((64, 48), 24, (32, 24)),
        ((48, 64), 24, (24, 32)),
        ((50, 50), 7, (7, 7)),
        ((99, 10), 3, (29, 3)),
    ],
)
def test_one_side_keeps_the_aspect(size, side, expected):
    assert Framing(resize=side).size(*size) == expected


def test_some_frames_of_every_few_stay_with_their_times(small_mkv):
    info, frames = read(small_mkv)
    framing = Framing(every=4, kept=2)
    with open_video(small_mkv, start=1, framing=framing) as reader:
        some = list(reader)
        reader.resolve_timing()
        assert [framing.index(i) for i in range(5)] == [0, 1, 4, 5, 8]
        np.testing.assert_array_equal(
            some, [frames[1 + framing.index(i)] for i in range(len(some))]
        )
        seconds = [reader.info.timing.seconds(i) for i in range(4)]
    steps = [float((b - a) * info.frame_rate) for a, b in pairwise(seconds)]
    assert steps == pytest.approx([1, 3, 1], abs=0.05)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": (65, 48)}, "crop is 65x48, but the frames are 64x48"),
        ({"crop": (0, 48)}, "crop is 0x48, allowed are sides of 1 to 32768"),
        ({"resize": (16, 40_000)}, "resize is 16x40000, allowed are sides of 1 to 32768"),
        ({"every": 0}, "every is 0, allowed is 1 to"),
        ({"every": 3, "kept": 4}, "every is 4/3, allowed is 1 to all of them"),
        ({"resize": 0}, "resize is 0, allowed are sides of 1"),
        ({"crop": (64, 48), "resize": 24, "crop_last": True}, "but the frames are 32x24"),
    ],
)
def test_impossible_changes(small_mkv, changes, message):
    with pytest.raises(UsageError, match=message):
        read(small_mkv, framing=Framing(**changes))


def test_encode_and_verify_compare_with_the_same_truth(tmp_path, small_mkv):
    nrv = tmp_path / "a.nrv"
    changes = ("--crop", "48x48", "--resize", "32x24", "--every", "3")
    summary = run("encode", small_mkv, "-o", nrv, *QUICK, *changes).stderr
    assert "truth" in summary
    assert "the source changed: 1 frame of 3, cropped to 48x48, resized to 32x24" in summary
    header = run_json("info", nrv)[-2]["header"]
    assert (header["width"], header["height"], header["n_frames"]) == (32, 24, 4)
    assert (header["rate_num"], header["rate_den"]) == (8000, 1001)
    said = run_json("encode", small_mkv, "-o", nrv, *QUICK, *changes, "-y")[-2]
    assert said["framing"] == {"crop": [48, 48], "resize": [32, 24], "every": 3} | {
        "crop_last": False,
        "kept": 1,
    }
    verified = run_json("verify", nrv, "--source", small_mkv, *changes)[-2]
    assert verified["psnr_per_frame_db"] == said["psnr_per_frame_db"]
    assert "frames of 64x48, the file has 32x24" in fail(8, "verify", nrv, "--source", small_mkv)
    split = ("--resize", "24", "--crop", "20x20", "--crop-last", "--every", "2/3", "--dry-run")
    plan = run_json("encode", small_mkv, *QUICK, *split)[-2]
    assert (plan["frames"], plan["width"], plan["height"]) == (8, 20, 20)
    text = run("encode", small_mkv, *QUICK, *split).stdout
    assert "2 frames of 3, resized to a shorter side of 24, cropped to 20x20" in text
    assert "'2/' is not a distance" in run("encode", small_mkv, "--every", "2/", code=2).stderr
    plan = run_json("encode", small_mkv, *QUICK, *changes, "--dry-run")[-2]
    assert (plan["frames"], plan["width"]) == (4, 32)
    assert plan["framing"]["every"] == 3
    assert "crop is 65x9" in fail(
        2, "encode", small_mkv, "-o", tmp_path / "b.nrv", "--crop", "65x9"
    )
    assert "--crop" in run("encode", small_mkv, "--crop", "65", code=2).stderr


def test_unchanged_sources_are_not_mentioned(tmp_path, small_mkv):
    assert "truth" not in run("encode", small_mkv, "-o", tmp_path / "a.nrv", *QUICK).stderr


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, small_mkv):
    nrv = tmp_path_factory.mktemp("encoded") / "a.nrv"
    run("encode", small_mkv, "-o", nrv, *QUICK, "--frames", 3)
    return nrv


def test_dumps_hold_source_and_decoded_frames(tmp_path, small_mkv, encoded):
    folder, video = tmp_path / "pairs", tmp_path / "pairs.mkv"
    dumps = ("--dump", folder, "--dump-video", video)
    values = run_json("verify", encoded, "--source", small_mkv, *dumps)[-2]
    assert (values["dump"], values["dump_video"]) == (str(folder), str(video))
    names = [
        f"{number:06d}_{psnr:.2f}dB.png"
        for number, psnr in enumerate(values["psnr_per_frame_db"], 1)
    ]
    assert listing(folder) == names
    source = read(small_mkv, count=3)[1]
    for dumped in (read(folder)[1], read(video)[1]):
        assert np.stack(dumped).shape == (3, 48, 128, 3)
        for i, picture in enumerate(dumped):
            np.testing.assert_array_equal(picture[:, :64], source[i])
            measured = psnr_db(picture[:, 64:], source[i])
            assert measured == pytest.approx(values["psnr_per_frame_db"][i])


def test_dumps_replace_nothing_unasked(tmp_path, small_mkv, encoded):
    folder, video = tmp_path / "pairs", tmp_path / "pairs.mkv"
    compare = ("verify", encoded, "--source", small_mkv)
    run(*compare, "--dump", folder, "--dump-video", video)
    (folder / "notes.png").write_bytes(b"mine")
    (folder / "000009_1.00dB.png").write_bytes(b"old")
    before = listing(tmp_path)
    assert "has 4 files like" in fail(2, *compare, "--dump", folder)
    message = fail(2, *compare, "--dump", tmp_path / "new", "--dump-video", video)
    assert "use -y to overwrite" in message
    assert listing(tmp_path) == before
    run(*compare, "--dump", folder, "--dump-video", video, "-y")
    assert listing(folder) == [*(n for n in before_names(before) if "000009" not in n)]
    assert (folder / "notes.png").read_bytes() == b"mine"


def before_names(paths):
    return [path.removeprefix("pairs/") for path in paths if path.startswith("pairs/")]


def test_failed_comparisons_leave_no_dump(tmp_path, tagged_mp4, small_mkv, encoded):
    dumps = ("--dump", tmp_path / "pairs", "--dump-video", tmp_path / "pairs.mkv")
    fail(8, "verify", encoded, "--source", small_mkv, "--start", 10, "-q", *dumps)
    assert listing(tmp_path) == []
    for args, words in (
        ((), "give --source"),
        (("--source", small_mkv, "--dump-video", tmp_path / "a.mp4"), "another suffix than .mkv"),
        (("--source", small_mkv, "--dump", encoded), "is not a folder"),
        (("--source", small_mkv, "--dump", tmp_path / "a" / "b"), "does not exist"),
    ):
        given = args or ("--dump", tmp_path / "pairs")
        assert words in fail(2, "verify", encoded, *given)
    assert listing(tmp_path) == []
