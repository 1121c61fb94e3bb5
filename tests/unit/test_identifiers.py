"""UUIDs of version 7: their layout and their order."""

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pickguard.domain.model.identifiers import UUID7_RANDOM_BYTES, uuid7
from tests.support.strategies import NOW, examples, moments

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
randomness = st.binary(min_size=UUID7_RANDOM_BYTES, max_size=UUID7_RANDOM_BYTES)


# A moment after 2038 whose timestamp, as a float of seconds, is a little less than its milliseconds.
@examples(40)
@given(moments, randomness)
@example(datetime(2038, 5, 15, 4, 36, 42, 582000, tzinfo=UTC), bytes(10))
def test_the_first_48_bits_are_the_milliseconds_since_1970(now: datetime, random: bytes) -> None:
    assert uuid7(now, random).int >> 80 == (now - EPOCH) // timedelta(milliseconds=1)


@examples(30)
@given(moments, randomness)
def test_the_rest_is_the_version_the_variant_and_74_random_bits(now: datetime, random: bytes) -> None:
    made = uuid7(now, random)
    assert (made.version, made.variant) == (7, RFC_4122)
    fixed = 0xF << 76 | 0x3 << 62
    rest = (1 << 80) - 1
    assert made.int & rest & ~fixed == int.from_bytes(random, "big") & ~fixed


def test_the_example_of_the_standard_is_met() -> None:
    # RFC 9562, appendix A.6
    now = datetime(2022, 2, 22, 19, 22, 22, tzinfo=UTC)
    assert str(uuid7(now, bytes.fromhex("0CC318C4DC0C0C07398F"))) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@examples(40)
@given(moments, moments, randomness, randomness)
def test_a_later_moment_has_a_greater_id(first: datetime, second: datetime, one: bytes, other: bytes) -> None:
    earlier, later = sorted((first, second))
    if earlier != later:
        assert uuid7(earlier, one) < uuid7(later, other)


@pytest.mark.parametrize("size", [0, UUID7_RANDOM_BYTES - 1, UUID7_RANDOM_BYTES + 1])
def test_too_few_or_too_many_random_bytes_are_refused(size: int) -> None:
    with pytest.raises(ValueError, match=str(UUID7_RANDOM_BYTES)):
        uuid7(NOW, bytes(size))
