from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec import fields
from nvcodec.errors import CorruptError, TruncatedError
from nvcodec.fields import ByteReader, u8, u8_list, u16, u32, u64


@dataclass(frozen=True, kw_only=True)
class Sample:
    small: int = u8(1, 200, "a byte")
    medium: int = u16(0, 444, "two bytes", 7)
    large: int = u32(0, 2**32 - 1, "four bytes", 0)
    huge: int = u64(0, 2**64 - 1, "eight bytes", 0)
    several: tuple[int, ...] = u8_list(1, 9, "a list", 4, (1, 2))


samples = st.builds(
    Sample,
    small=st.integers(1, 200),
    medium=st.integers(0, 444),
    large=st.integers(0, 2**32 - 1),
    huge=st.integers(0, 2**64 - 1),
    several=st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple),
)


@settings(deadline=None)
@given(samples)
def test_round_trip(sample):
    data = fields.pack(sample)
    reader = ByteReader(data, "the sample")
    assert fields.unpack(Sample, reader) == sample
    assert reader.n_left == 0


def test_layout_is_little_endian_without_padding():
    data = fields.pack(Sample(small=5, medium=0x0102, large=3, huge=4, several=(9, 8, 7)))
    assert data == bytes([5, 2, 1, 3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3, 9, 8, 7])


@settings(deadline=None)
@given(samples)
def test_truncation_at_every_byte(sample):
    data = fields.pack(sample)
    for n_bytes in range(len(data)):
        with pytest.raises(TruncatedError, match="the sample ends at byte"):
            fields.unpack(Sample, ByteReader(data[:n_bytes], "the sample"))


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=64))
def test_hostile_bytes_are_valid_or_refused(data):
    try:
        sample = fields.unpack(Sample, ByteReader(data, "the sample"))
    except (CorruptError, TruncatedError):
        return
    fields.check(sample)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("small", 0),
        ("small", 201),
        ("small", 2.0),
        ("small", np.int64(300)),
        ("small", None),
        ("medium", -1),
        ("several", ()),
        ("several", (1, 2, 3, 4, 5)),
        ("several", (10,)),
    ],
)
def test_values_outside_the_range_cannot_be_packed(name, value):
    with pytest.raises(ValueError, match=f"Sample.{name} .*allowed"):
        fields.pack(Sample(**{"small": 1, name: value}))


def test_message_names_field_value_range_and_byte():
    data = bytearray(fields.pack(Sample(small=5, medium=7)))
    data[1:3] = (445).to_bytes(2, "little")
    with pytest.raises(CorruptError, match=r"Sample.medium is 445, allowed is 0 to 444 \(byte 1 "):
        fields.unpack(Sample, ByteReader(bytes(data), "the sample"))


@pytest.mark.parametrize("count", [0, 5, 255])
def test_list_with_a_hostile_count(count):
    data = fields.pack(Sample(small=5))[:15] + bytes([count]) + bytes([1] * 255)
    with pytest.raises(CorruptError, match=f"several has {count} entries"):
        fields.unpack(Sample, ByteReader(data, "the sample"))


def test_describe():
    assert fields.describe(Sample) == [
        ("small", "u8", "1..200", "a byte"),
        ("medium", "u16", "0..444", "two bytes"),
        ("large", "u32", "0..4294967295", "four bytes"),
        ("huge", "u64", "0..18446744073709551615", "eight bytes"),
        ("several", "u8[1..4]", "1..9", "a list"),
    ]
