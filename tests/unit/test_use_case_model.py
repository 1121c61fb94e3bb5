"""The use cases against a simple model of users, tokens and mails, in any order that hypothesis finds."""

from hypothesis import settings

from pickguard.testing.machine import AccountServiceMachine
from tests.support.strategies import examples


class WithoutMail(AccountServiceMachine):
    has_mail = False


TestUseCases = AccountServiceMachine.TestCase
TestUseCases.settings = settings(examples(20), stateful_step_count=30)

TestUseCasesWithoutMail = WithoutMail.TestCase
TestUseCasesWithoutMail.settings = settings(examples(15), stateful_step_count=25)
