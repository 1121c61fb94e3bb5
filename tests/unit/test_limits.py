"""Rates, sources and windows as values."""

from datetime import timedelta

import pytest

from pickguard.domain.model.limits import LimitRules, Rate, source_of
from pickguard.domain.model.tries import Window
from tests.support.accounts import NOW

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("ip", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3:4:5:6:7", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("whatever", "whatever"),
        (None, None),
    ],
)
def test_a_source_is_an_address_or_a_network_of_ipv6(ip: str | None, source: str | None) -> None:
    assert source_of(ip) == source


@pytest.mark.parametrize(("most", "others"), [(1, 1), (2, 1), (5, 4)])
def test_where_there_is_one_mail_only_it_is_not_for_resets_alone(most: int, others: int) -> None:
    assert LimitRules(mails=Rate(most, HOUR)).other_mails == Rate(others, HOUR)


def test_a_rate_that_was_lowered_waits_until_as_few_are_left_as_it_allows() -> None:
    counted = Window(tuple(NOW + number * SECOND for number in range(5)))
    assert counted.wait(Rate(2, HOUR), NOW + 4 * SECOND) == HOUR - SECOND
    assert counted.wait(Rate(2, HOUR), NOW + HOUR + 3 * SECOND) is None


def test_what_does_not_count_any_more_is_dropped_with_the_next() -> None:
    rate = Rate(5, HOUR)
    assert Window((NOW, NOW + SECOND)).add(rate, NOW + HOUR) == Window((NOW + SECOND, NOW + HOUR))
