"""The pytest plugin and the exported suites as somebody else's project has them: in a run of pytest of its own."""

import inspect
from importlib.metadata import entry_points

import pytest

import pickguard_pytest

pytest_plugins = ("pytester",)

MODES = {
    "auto": ("auto", "", ""),
    "strict": ("strict", "@pytest.mark.asyncio", ""),
    "anyio": ("", "@pytest.mark.anyio", "asyncio aiohttp"),
}


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose warnings are errors and whose marks are all known."""
    ini(pytester, "strict")
    return pytester


def ini(project: pytest.Pytester, mode: str) -> None:
    # Without the scope, pytest-asyncio warns.
    asyncio = f"asyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n" if mode else ""
    project.makeini(f"[pytest]\nfilterwarnings = error\nstrict_markers = true\n{asyncio}")


def run(project: pytest.Pytester, *arguments: str, without: str = "") -> pytest.RunResult:
    """Run the project's tests, without plugins of these names."""
    left_out = [option for name in ("cacheprovider", "randomly", *without.split()) for option in ("-p", f"no:{name}")]
    return project.runpytest_subprocess(*left_out, *arguments, timeout=120)


@pytest.mark.parametrize("mode", MODES)
def test_the_fixtures_work_with_every_plugin_for_asynchronous_tests(project: pytest.Pytester, mode: str) -> None:
    asyncio_mode, mark, without = MODES[mode]
    ini(project, asyncio_mode)
    project.makepyfile(f"""
        from datetime import timedelta
        import pytest
        from pickguard import Client, InvalidToken
        from pickguard.domain.model.mail import ResetPassword

        @pytest.fixture(scope="module")
        def anyio_backend():
            return "asyncio"

        {mark}
        async def test_a_session_ends(pickguard_services, pickguard_clock, pickguard_user, pickguard_token):
            principal = await pickguard_services.authentication.authenticate(pickguard_token)
            assert principal.user == pickguard_user.user
            pickguard_clock.advance(timedelta(days=31))
            with pytest.raises(InvalidToken):
                await pickguard_services.authentication.authenticate(pickguard_token)

        {mark}
        async def test_a_password_is_reset(pickguard_accounts, pickguard_outbox, pickguard_events, pickguard_user):
            services = pickguard_accounts.services
            await services.recovery.request(email=pickguard_user.email)
            await pickguard_accounts.settle()
            assert pickguard_outbox.last(ResetPassword).to == pickguard_user.user.email
            await services.recovery.reset(pickguard_outbox.token_for("ADA@example.com"), password="another long phrase")
            assert pickguard_events.names() == ["ResetRequested", "PasswordReset", "SessionEnded"]
            await services.authentication.log_in(email="ada@example.com", password="another long phrase")

        {mark}
        async def test_a_client_by_http(pickguard_http, pickguard_user):
            import aiohttp
            async with aiohttp.ClientSession(pickguard_http.url, headers=pickguard_user.headers) as client:
                async with client.get("/v1/users/me") as response:
                    assert (await response.json())["email"] == "ada@example.com"
    """)
    run(project, without=without).assert_outcomes(passed=3)


def test_a_test_need_not_be_asynchronous(project: pytest.Pytester) -> None:
    ini(project, "")
    project.makepyfile("""
        import json
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen
        import pytest

        def ask(http, path, headers={}, body=None):
            data = None if body is None else json.dumps(body).encode()
            request = Request(http.url + path, data=data, headers={"Content-Type": "application/json", **headers})
            with urlopen(request) as response:
                return json.loads(response.read() or b"null")

        def test_users_come_while_it_serves(pickguard_http, pickguard_accounts, pickguard_outbox, pickguard_clock):
            grace = pickguard_accounts.user("grace@example.com", name="Grace Hopper")
            assert ask(pickguard_http, "/v1/users/me", grace.headers)["name"] == "Grace Hopper"
            eve = {"name": "Eve", "email": "eve@example.com", "password": "a long, long phrase"}
            ask(pickguard_http, "/v1/users", body=eve)
            token = pickguard_outbox.token_for("eve@example.com")
            ask(pickguard_http, "/v1/email-verifications/confirm", body={"token": token})
            with pytest.raises(HTTPError, match="401"):
                ask(pickguard_http, "/v1/users/me", {"Authorization": "Bearer nothing"})
    """)
    run(project, without="asyncio aiohttp anyio").assert_outcomes(passed=1)


def test_a_project_chooses_how_its_service_is_made(project: pytest.Pytester) -> None:
    project.makeconftest("""
        import pytest
        from pickguard import RegistrationMode

        @pytest.fixture
        def pickguard_options():
            return {"registration_mode": RegistrationMode.CLOSED, "mail": False}
    """)
    project.makepyfile("""
        def test_it(pickguard_services):
            assert pickguard_services.registration.mode.value == "closed"
            assert not pickguard_services.has_mail
    """)
    run(project).assert_outcomes(passed=1)


def test_nothing_of_the_package_is_imported_before_a_test_asks_for_it(project: pytest.Pytester) -> None:
    ini(project, "")
    project.makepyfile("""
        import sys

        def test_1():
            assert "pickguard_pytest" in sys.modules
            assert not [name for name in sys.modules if name.partition(".")[0] in {"pickguard", "argon2", "attr"}]

        def test_2(pickguard_user):
            assert "pickguard" in sys.modules
            assert "aiohttp.web" not in sys.modules and "hypothesis.stateful" not in sys.modules
    """)
    arguments = [
        option for name in ("asyncio", "aiohttp", "anyio", "valkey", "hypothesispytest") for option in ("-p", f"no:{name}")
    ]
    run(project, *arguments).assert_outcomes(passed=2)


def test_it_can_be_left_out(project: pytest.Pytester) -> None:
    project.makepyfile("""
        import sys

        def test_it():
            assert "pickguard_pytest" not in sys.modules

        def test_another(pickguard_clock):
            pass
    """)
    found = run(project, without="pickguard")
    found.assert_outcomes(passed=1, errors=1)
    found.stdout.fnmatch_lines("*fixture 'pickguard_clock' not found*")


def test_its_names_are_nobody_elses() -> None:
    names = [
        name for name, value in inspect.getmembers(pickguard_pytest) if type(value).__name__ == "FixtureFunctionDefinition"
    ]
    assert names
    assert all(name.startswith("pickguard_") for name in names)
    plugins = [(each.name, each.value) for each in entry_points(group="pytest11")]
    assert [name for name, _ in plugins].count("pickguard") == 1
    assert ("pickguard", "pickguard_pytest") in plugins
    hooks = [name for name in vars(pickguard_pytest) if name.startswith("pytest_")]
    assert hooks == []


def test_what_the_http_api_lacks_is_said(project: pytest.Pytester) -> None:
    project.makeconftest("import sys\nsys.modules['aiohttp'] = None")
    project.makepyfile("def test_it(pickguard_http): pass")
    found = run(project, without="aiohttp")
    found.assert_outcomes(errors=1)
    found.stdout.fnmatch_lines("*pickguard_http needs the package aiohttp: pip install 'pickguard[[]server[]]'*")


CONTRACTS = """
    from contextlib import asynccontextmanager
    import pytest
    from hypothesis import settings
    from pickguard import MemoryAccounts
    from pickguard.adapters.memory import MemoryReceipts
    from pickguard.adapters.memory_limits import MemoryRateLimiter
    from pickguard.domain.model.errors import Conflict
    from pickguard.testing.contracts import AccountRepositoryContract, RateLimiterContract, ReceiptsContract
    from pickguard.testing.machine import AccountServiceMachine

    class Broken(MemoryAccounts):
        async def save(self, before, after, *, operation):
            present = self._snapshots.get(before.account.user.id)
            await super().save(present or before, after, operation=operation)  # whatever was written meanwhile
"""


@pytest.mark.parametrize("mode", ["auto", "strict"])
def test_whoever_has_an_adapter_subclasses_the_contracts(project: pytest.Pytester, mode: str) -> None:
    ini(project, mode)
    project.makepyfile(
        CONTRACTS
        + """
    class TestAccounts(AccountRepositoryContract):
        @pytest.fixture
        def accounts(self):
            return MemoryAccounts()

    class TestReceipts(ReceiptsContract):
        @pytest.fixture
        def receipts(self):
            return MemoryReceipts()

    class TestLimits(RateLimiterContract):
        @pytest.fixture
        def limiters(self):
            made = {}
            return lambda rules: made.setdefault(rules, MemoryRateLimiter(rules))

    TestMachine = AccountServiceMachine.TestCase
    TestMachine.settings = settings(max_examples=3, stateful_step_count=10, deadline=None)
    """
    )
    outcomes = run(project).parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 100


def test_an_adapter_that_is_wrong_fails_and_what_was_compared_is_shown(project: pytest.Pytester) -> None:
    project.makepyfile(
        CONTRACTS
        + """
    class TestAccounts(AccountRepositoryContract):
        @pytest.fixture
        def accounts(self):
            return Broken()

    class TestUnfinished(AccountRepositoryContract):
        pass

    class Machine(AccountServiceMachine):
        @asynccontextmanager
        async def open_accounts(self):
            class Forgetful(MemoryAccounts):
                async def save(self, before, after, *, operation):
                    pass
            yield Forgetful()

    TestMachine = Machine.TestCase
    TestMachine.settings = settings(max_examples=3, stateful_step_count=2, deadline=None)
    """
    )
    found = run(project, "-k", "(TestAccounts and one_of_many_saves) or (TestUnfinished and writable) or runTest")
    found.assert_outcomes(failed=2, errors=1)
    text = found.stdout.str()
    assert "AssertionError: assert [] == [<class " in text
    assert "Right contains 15 more items" in text
    assert "TestUnfinished has to override the fixture `accounts`" in text
    assert "state = Machine()" in text
    assert "tokens_0 = state.begin()" in text


def test_the_report_of_a_failure_shows_no_password_and_no_token(project: pytest.Pytester) -> None:
    project.makepyfile("""
        def test_it(pickguard_user, pickguard_accounts):
            assert (pickguard_user, pickguard_accounts) == None
    """)
    found = run(project, "-vv", "--showlocals")
    found.assert_outcomes(failed=1)
    text = found.stdout.str()
    assert "ada@example.com" in text
    assert "pg_" not in text
    assert "correct horse" not in text
