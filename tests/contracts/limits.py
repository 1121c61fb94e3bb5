"""The exported contract of limits, with what its tests show of docs/security.md. The limits of each store subclass this."""

import pytest

from pickguard.domain.model.limits import Limit
from pickguard.ports.limits import RateLimiter
from pickguard.testing.contracts.rate_limiter import Limiters, RateLimiterContract


class LimitsContract(RateLimiterContract):
    @pytest.mark.requirement(12)
    async def test_a_known_source_gets_in_although_others_have_used_up_the_run(self, limiter: RateLimiter) -> None:
        await super().test_a_known_source_gets_in_although_others_have_used_up_the_run(limiter)

    @pytest.mark.requirement(13)
    async def test_a_right_password_ends_the_runs_of_all_sources(self, limiters: Limiters) -> None:
        await super().test_a_right_password_ends_the_runs_of_all_sources(limiters)

    @pytest.mark.requirement(11)
    @pytest.mark.would_have_caught("keycloak-cve-2024-4629")
    @pytest.mark.parametrize("known", [False, True])
    @pytest.mark.parametrize("limit", [Limit.GUESSES, Limit.SOURCE, Limit.RUN])
    async def test_of_64_guesses_at_once_no_more_pass_than_one_after_another(
        self,
        limiters: Limiters,
        limit: Limit,
        known: bool,  # noqa: FBT001 (a parameter of the test)
    ) -> None:
        await super().test_of_64_guesses_at_once_no_more_pass_than_one_after_another(limiters, limit, known)
