"""When the client sends a request again: the policy, as properties."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickguard.client import RetryRules
from pickguard.client.retries import Failure, pause_before_next, read_retry_after
from tests.support.strategies import examples

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
spans = st.timedeltas(timedelta(0), timedelta(minutes=5))
rules = st.builds(
    RetryRules,
    tries=st.integers(1, 100),
    budget=st.timedeltas(timedelta(milliseconds=1), timedelta(minutes=5)),
    first_pause=spans,
    longest_pause=spans,
)
failures = st.sampled_from(Failure)
chances = st.floats(0, 1, exclude_max=True)
waits = st.none() | spans
tried = st.integers(1, 200)


@examples(200)
@given(rules, failures, st.booleans(), tried, spans, chances, waits)
def test_a_pause_keeps_within_the_budget_and_is_never_shorter_than_asked_for(  # noqa: PLR0917 (as hypothesis gives them)
    rules: RetryRules,
    failure: Failure,
    repeatable: bool,  # noqa: FBT001
    tries: int,
    spent: timedelta,
    chance: float,
    retry_after: timedelta | None,
) -> None:
    pause = pause_before_next(
        rules, failure, repeatable=repeatable, tries=tries, spent=spent, chance=chance, retry_after=retry_after
    )
    if pause is None:
        return
    assert tries < rules.tries
    assert timedelta(0) <= pause
    assert spent + pause < rules.budget
    assert repeatable or failure is not Failure.UNKNOWN
    if retry_after is None:
        assert pause <= rules.longest_pause
    else:
        assert retry_after <= pause <= retry_after + rules.longest_pause


short = st.timedeltas(timedelta(0), timedelta(seconds=10))
ample = st.builds(
    RetryRules,
    tries=st.integers(10, 100),
    budget=st.timedeltas(timedelta(seconds=21), timedelta(minutes=5)),
    first_pause=short,
    longest_pause=short,
)


@examples(100)
@given(ample, st.booleans(), st.integers(1, 9), chances, st.none() | short)
def test_what_was_not_carried_out_is_sent_again_whatever_it_is(
    rules: RetryRules,
    repeatable: bool,  # noqa: FBT001
    tries: int,
    chance: float,
    retry_after: timedelta | None,
) -> None:
    for failure in (Failure.NOT_SENT, Failure.NOTHING_DONE):
        pause = pause_before_next(
            rules,
            failure,
            repeatable=repeatable,
            tries=tries,
            spent=timedelta(0),
            chance=chance,
            retry_after=retry_after,
        )
        assert pause is not None


def test_pauses_double_up_to_the_longest_and_are_spread_over_their_second_half() -> None:
    rules = RetryRules(tries=10)

    def pause(tries: int, chance: float) -> float:
        found = pause_before_next(rules, Failure.NOT_SENT, repeatable=False, tries=tries, spent=timedelta(0), chance=chance)
        assert found is not None
        return found.total_seconds()

    assert [pause(tries, 1) for tries in range(1, 8)] == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert [pause(tries, 0) for tries in range(1, 8)] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@pytest.mark.parametrize("repeatable", [True, False])
def test_what_may_have_been_done_is_sent_again_only_if_it_does_the_same_twice(*, repeatable: bool) -> None:
    pause = pause_before_next(RetryRules(), Failure.UNKNOWN, repeatable=repeatable, tries=1, spent=timedelta(0), chance=0)
    assert (pause is not None) is repeatable


def test_clients_that_were_told_one_time_come_back_at_different_ones() -> None:
    pauses = [
        pause_before_next(
            RetryRules(),
            Failure.NOTHING_DONE,
            repeatable=False,
            tries=2,
            spent=timedelta(0),
            chance=chance,
            retry_after=timedelta(seconds=3),
        )
        for chance in (0, 0.5, 1)
    ]
    assert pauses == [timedelta(seconds=3), timedelta(seconds=3.1), timedelta(seconds=3.2)]


@pytest.mark.parametrize(
    "wrong", [{"tries": 0}, {"budget": timedelta(0)}, {"first_pause": timedelta(-1)}, {"longest_pause": timedelta(-1)}]
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least one try"):
        RetryRules(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        ("999999999", 999_999_999),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("Fri, 02 Jan 2026 03:04:15", 10),
        *(
            (text, None)
            for text in (
                None,
                "",
                "-1",
                "1.5",
                "soon",
                "9" * 10,
                "Fri, 31 Dec 99999999999 23:59:59 GMT",
                "\N{ARABIC-INDIC DIGIT ONE}",
                "Fri, 99 Jan 2026 3",
            )
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str | None, seconds: int | None) -> None:
    assert read_retry_after(text, NOW) == (None if seconds is None else timedelta(seconds=seconds))


@examples(100)
@given(st.text(max_size=30))
def test_any_retry_after_can_be_read(text: str) -> None:
    found = read_retry_after(text, NOW)
    assert found is None or found >= timedelta(0)
