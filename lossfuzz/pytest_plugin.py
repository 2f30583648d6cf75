"""The pytest plugin: options, the marker ``lossfuzz``, the fixture ``lossfuzz_check``, a summary.

Loads the standard library and pytest alone until a test checks a loss.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from lossfuzz.baseline import StoredCheck, read_stored, the_same, written
from lossfuzz.errors import UsageError
from lossfuzz.harness.records.printable import printable
from lossfuzz.observers import OBSERVERS
from lossfuzz.pytest_ledger import CheckRecord, Ledger, as_text
from lossfuzz.pytest_options import MARKER, Choices, add_options, marked

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.results.run import RunResult

_ON_REPORT = "lossfuzz_checks"
"""One more attribute of a test's report, as text: pytest-xdist sends it along."""

_CHECKS = pytest.StashKey["_Checks"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option group and the ini options."""
    add_options(parser)


@pytest.hookimpl(trylast=True)  # after Hypothesis has loaded its own profile
def pytest_configure(config: pytest.Config) -> None:
    """Check the options, and start to watch."""
    config.addinivalue_line("markers", MARKER)
    choices = Choices(config)
    if choices.profile:
        _load_profile(config, choices.profile)
    checks = _Checks(choices, _baseline(choices.baseline))
    config.stash[_CHECKS] = checks
    config.pluginmanager.register(checks, "lossfuzz-checks")
    OBSERVERS.append(checks.observe)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop watching."""
    checks = config.stash.get(_CHECKS, None)
    if checks is not None:
        OBSERVERS.remove(checks.observe)


@pytest.fixture
def lossfuzz_check(request: pytest.FixtureRequest) -> LossCheck:
    """`lossfuzz.check` under the options, the marker and the baseline of this test run."""
    try:
        marker = marked(request.node.iter_markers("lossfuzz"))
    except ValueError as error:
        raise _one_line(error) from None
    return LossCheck(request.config.stash[_CHECKS], marker)


class LossCheck:
    """What the fixture ``lossfuzz_check`` gives: called as `lossfuzz.check` is."""

    def __init__(self, checks: _Checks, marker: dict[str, Any]) -> None:
        self._checks, self._marker = checks, marker

    def __call__(
        self,
        loss: Callable[..., Any],
        against: str | LossSpec | Callable[..., Any],
        **arguments: Any,
    ) -> RunResult:
        """Check a loss; see `lossfuzz.check` for the arguments.

        The command line's options win over the arguments, these over the marker's and those of
        the ini file. With a baseline, or where results are saved, the whole budget is measured.

        Raises:
            LossDefect, LossRefusal: as `lossfuzz.check`, if there is no baseline of it.
            LossRegression: it is worse than the baseline.
        """
        __tracebackhide__ = True
        from lossfuzz.checking import LossDefect, LossRefusal, check
        from lossfuzz.harness.backend import BackendError

        chosen = self._checks.choices.arguments(arguments, self._marker)
        if self._checks.choices.save or self._checks.baseline is not None:
            chosen.setdefault("stop_early", False)
        failed: AssertionError | None = None
        try:
            result = check(loss, against, **chosen)
        except (LossDefect, LossRefusal) as error:
            result, failed = error.result, error
        except BackendError as error:
            raise _one_line(error) from None
        return self._checks.judged(result, failed)  # outside, so that no error has a context


class _Checks:
    """The checks of this process's tests, and on the controller those of all workers."""

    def __init__(self, choices: Choices, baseline: list[StoredCheck] | None) -> None:
        self.choices, self.baseline = choices, baseline
        self._ledger = Ledger()
        self._test = ""
        self._number = 0
        self._fresh: list[CheckRecord] = []
        self._saved = ""

    def observe(self, result: RunResult, seconds: float) -> None:
        """Note a check of the test that runs; called before it returns or raises."""
        whole = self.choices.save is not None
        self._fresh.append(CheckRecord.of(result, seconds, whole=whole))
        self._number += 1

    def judged(self, result: RunResult, error: AssertionError | None = None) -> RunResult:
        """The result, if it is sound or no worse than the baseline; else raises."""
        __tracebackhide__ = True
        stored = the_same(
            self.baseline or (),
            test=self._test,
            number=self._number - 1,
            cells={one.cell.name for one in result.cells},
        )
        if stored is None:
            if error is not None:
                raise error
            return result
        from lossfuzz import regression as module

        record = self._fresh[-1]
        try:
            before = module.stored_result(stored, result)
            found = module.regression(stored, before, result)
        except ValueError as bad:
            raise _one_line(f"{self.choices.baseline}: {bad}") from None
        record.compared = True
        record.worse, record.better = list(found.worse), list(found.better)
        record.known, record.noise = list(found.known), list(found.noise)
        if found.worse:
            told = module.message_of(found, before, result, str(self.choices.baseline))
            raise module.LossRegression(told, result)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self._test, self._number, self._fresh = item.nodeid, 0, []
        names = sys.modules.get("lossfuzz.harness.users.names")
        if names is not None:
            names.release()  # a lambda's name depends on its own test alone, as baselines need

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        made, self._fresh = self._fresh, []
        for record in made:
            item.user_properties.extend(record.properties())
        report = yield
        if made:
            setattr(report, _ON_REPORT, as_text(made))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            self._ledger.restart(report.nodeid)
        text = getattr(report, _ON_REPORT, None)
        if text is not None:
            self._ledger.add(report.nodeid, text)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        path = self.choices.save
        if path is None or hasattr(session.config, "workerinput"):
            return
        checks = self._ledger.stored()
        if not checks:
            self._saved = f"nothing was checked: {path} is not written"
        elif session.shouldstop or session.shouldfail:
            self._saved = f"not all tests ran: {path} is not written"
        else:
            self._saved = f"saved: {path}"
            from lossfuzz.commands.files import write_text  # which loads the store

            try:
                write_text(path, written(checks).removesuffix("\n"))
            except UsageError as error:
                self._saved = str(error)
                session.exitstatus = pytest.ExitCode.USAGE_ERROR

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        records = self._ledger.merged()
        if not records and not self._saved:
            return
        terminalreporter.section("lossfuzz")
        for record in records:
            sound = record.verdict == "sound"
            known = record.compared and not record.worse
            terminalreporter.write_line(
                printable(record.line),
                green=sound,
                yellow=known and not sound,
                red=not (sound or known),
            )
            for name in ("worse", "better", "noise"):
                for line in getattr(record, name):
                    terminalreporter.write_line(printable(f"  {name}: {line}"))
        if self._saved:
            terminalreporter.write_line(printable(self._saved))


def _one_line(told: object) -> BaseException:
    """What makes a test fail with a message and no traceback."""
    return pytest.fail.Exception(str(told), pytrace=False)


def _baseline(path: Path | None) -> list[StoredCheck] | None:
    try:
        return None if path is None else read_stored(path)
    except ValueError as error:
        raise pytest.UsageError(f"--lossfuzz-baseline: {error}") from None


def _load_profile(config: pytest.Config, name: str) -> None:
    from lossfuzz.profiles import load

    if config.getoption("--hypothesis-profile", None):
        raise pytest.UsageError("expected --lossfuzz-profile or --hypothesis-profile, not both")
    try:
        load(name)
    except ValueError as error:
        raise pytest.UsageError(f"--lossfuzz-profile: {error}") from None
