"""What a mailed token is bound to, by itself: accounts drop most tokens that are void, and this holds where they do not."""

from datetime import timedelta

import pytest

from pickguard.domain.model.challenges import ChallengeKind, ChallengeRules, MailedToken
from pickguard.domain.model.users import EmailAddress
from tests.support.strategies import USER_ID

TOKEN = MailedToken(user_id=USER_ID, secret=bytes(range(32)))
ADA, EVE = EmailAddress.parse("ada@example.com"), EmailAddress.parse("eve@example.com")


def test_a_token_is_bound_to_its_purpose_and_its_address() -> None:
    digests = {TOKEN.digest(kind, address, 1) for kind in ChallengeKind for address in (ADA, EVE)}
    assert len(digests) == 2 * len(ChallengeKind)


@pytest.mark.parametrize("kind", ChallengeKind)
def test_a_new_password_voids_whatever_verifies_more_than_an_address(kind: ChallengeKind) -> None:
    same = TOKEN.digest(kind, ADA, 1) == TOKEN.digest(kind, ADA, 2)
    assert same is (kind is ChallengeKind.VERIFY_ADDRESS)


def test_tokens_live_as_long_as_nist_and_owasp_allow() -> None:
    lifetimes = [ChallengeRules().lifetime(kind) for kind in ChallengeKind]
    assert lifetimes == [timedelta(hours=24), timedelta(hours=24), timedelta(minutes=10)]
