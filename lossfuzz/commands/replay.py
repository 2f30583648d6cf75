"""``lossfuzz replay``."""

from __future__ import annotations

import contextlib
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lossfuzz import trust
from lossfuzz.apart import Ended, Limits, replay_apart, run_apart
from lossfuzz.audit import AuditError
from lossfuzz.campaign.folders import look_where_begun, own_folders
from lossfuzz.campaign.store import Store
from lossfuzz.commands.console import tell_error
from lossfuzz.commands.files import STANDARD_OUTPUT, check_file, write_text
from lossfuzz.errors import AUDIT_FAILED, UsageError
from lossfuzz.harness.backend import BackendError, devices, start_tensorflow, versions
from lossfuzz.harness.numbers.decimals import proved, proved_text
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.records.printable import printable
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.harness.running.server import cpu_features
from lossfuzz.recorded import Allow, recorded
from lossfuzz.replay_batches import batches, cell_of
from lossfuzz.replaying import IMPOSSIBLE, STANDS, Replayed, replay
from lossfuzz.reports import assertion, tables
from lossfuzz.reports.components import telling_class
from lossfuzz.reports.issue import Seen, issue
from lossfuzz.reports.literals import SHOWN_CLASSES
from lossfuzz.reports.loss_source import loss_source
from lossfuzz.reports.script import STANDING, Shown, script

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.recorded import Recorded

_NO_LONGER = 1
_CANNOT = 2

_PACKAGES = ("tensorflow", "tf-nightly", "keras", "tf_keras")


def replay_command(options: argparse.Namespace) -> int:
    """``lossfuzz replay``: 0 where it stands, 1 where not, 2 where it cannot run, 3 by the audit.

    Raises:
        UsageError: there is no such finding, or a file cannot be written.
    """
    if options.script == "-" and options.issue == "-":
        raise UsageError("--script and --issue cannot both be written to standard output")
    for name in (options.script, options.issue):
        check_file(None if name is None else Path(name))
    given = recorded(options.finding, _allowing(options))
    finding = given.finding
    memory = None if options.memory_limit is None else options.memory_limit << 20
    limits = Limits(seconds=options.time_limit, memory=memory)
    try:
        if finding.kind in (kinds.CRASH, kinds.TIMEOUT):
            result = replay_apart(finding, limits, device=options.device)
        else:
            result = replay(finding, device=options.device)
    except BackendError as error:
        raise UsageError(str(error)) from None
    except AuditError as error:
        tell_error("audit", str(error))
        return AUDIT_FAILED
    quiet = "-" in (options.script, options.issue)
    told = sys.stderr if quiet else sys.stdout
    for line in _lines(given, result):
        print(printable(line), file=told)
    _write_texts(given, result, limits, options)
    if result.verdict == IMPOSSIBLE:
        return _CANNOT
    return 0 if result.verdict == STANDS else _NO_LONGER


def _allowing(options: argparse.Namespace) -> Allow:
    """What sees that a user's loss may run, and loads it."""

    def allow(path: str, campaign: Path | None) -> None:
        try:
            code = trust.code_of([path])
        except ValueError:
            return  # nobody's loss: what reads the record says so
        trust.require(code, f"running finding {options.finding} again", options)
        if not code:
            return
        if options.trust and campaign is not None:
            with contextlib.closing(Store.read(campaign)) as store:
                look_where_begun(store)
        try:
            trust.load([path])
        except ValueError as error:
            hint = "; --trust looks where its campaign was begun, too" if campaign else ""
            raise UsageError(f"{error}{'' if options.trust else hint}") from None

    return allow


def _lines(given: Recorded, result: Replayed) -> list[str]:
    """Then and now, and the verdict."""
    then, now = given.finding, result.now
    lines = [
        f"finding {then.id}: {tables.finding_title(then)}",
        f"  ({KINDS[then.kind]})",
    ]
    if then.logits:
        lines.append(f"  logits  {assertion.numbers(then.logits, then.label)}{_target(then)}")
        lines.append(
            f"  exact   loss {proved_text(then.exact_loss)}, gradient "
            f"{assertion.numbers([*map(proved, then.exact_gradient)], then.label)}"
        )
    lines.append(f"  then    {_observed(then)} · {_with(given.versions) or 'versions unknown'}")
    if now is not None:
        lines.append(f"  now     {_observed(now)} · {_with(versions())}")
        lines += [f"          in {_where(result)}"] if _where(result) else []
    elif result.verdict != IMPOSSIBLE:
        lines.append(f"  now     with {_with(versions())}")
    told = f"{result.told[0].upper()}{result.told[1:]}"
    return [*lines, told if told.endswith(".") else f"{told}."]


def _target(finding: Finding) -> str:
    target = assertion.target_text(finding)
    return target + (f", {finding.batch_rows} rows" if finding.batch_rows > 1 else "")


def _observed(finding: Finding) -> str:
    if finding.message:
        return finding.message
    gradient = finding.observed_gradient
    told = _gradient(finding) if gradient else "(not kept)"
    return f"loss {finding.observed_loss:.9g}, gradient {told}"


def _gradient(finding: Finding) -> str:
    gradient, telling = finding.observed_gradient, telling_class(finding)
    told = assertion.numbers(gradient, finding.label)
    if telling is None or len(gradient) <= SHOWN_CLASSES or telling == finding.label:
        return told
    return f"{told}, {gradient[telling]:.9g} at class {telling}"


def _where(result: Replayed) -> str:
    if result.whole:
        return "the batch that the row was found in; copies of the row alone do not show it"
    return f"a batch of {result.copies} copies of the row" if result.copies > 1 else ""


def _with(known: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {known[name]}" for name in _PACKAGES if name in known)


def _write_texts(
    given: Recorded, result: Replayed, limits: Limits, options: argparse.Namespace
) -> None:
    """Write the script and the issue that were asked for.

    Raises:
        UsageError: a file cannot be written, or there is nothing to file.
    """
    if options.script is None and options.issue is None:
        return
    finding = given.finding if options.device is None else _moved(given.finding, options.device)
    stands = result.verdict == STANDS
    finding = refreshed(finding, result)
    known = versions() if stands else given.versions
    try:
        code = script(finding, known, batch_shown(finding, result), seconds=limits.seconds)
        _check_script(finding, code)
    except ValueError as error:
        raise UsageError(f"no script can be made of finding {finding.id}: {error}") from None
    if options.script is not None:
        _write(options.script, code)
    if options.issue is None:
        return
    if not stands:
        raise UsageError("no issue was written: there is nothing to file where it does not stand")
    ended = _run(code, limits, finding)
    if not _proves(ended, finding):
        how = f" ({ended.death})" if ended.code or ended.overdue else ""
        raise UsageError(
            f"no issue was written: the script by itself does not show the finding here{how}; "
            "with --script you can look at it"
        )
    seen = Seen(
        script=code,
        output=_printed(ended),
        versions=known,
        cpu_features=cpu_features(),
        devices=devices(start_tensorflow()),
    )
    _write(options.issue, issue(finding, seen))


def _check_script(finding: Finding, code: str) -> None:
    """See that a script can be run at all.

    Raises:
        ValueError: it cannot; the message says why in one line.
    """
    path = path_named(finding.path)
    if path.own and not loss_source(path).complete:
        raise ValueError(f"{path.name} has no name and no source by which a script could call it")
    try:
        compile(code, "script", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ValueError(f"its text is no Python ({error.msg}, line {error.lineno})") from None


def refreshed(finding: Finding, result: Replayed) -> Finding:
    """The finding with what was observed now, where it stands."""
    now = result.now
    if result.verdict != STANDS or now is None:
        return finding
    return replace(
        finding,
        loss_dtype=now.loss_dtype,
        observed_loss=now.observed_loss,
        observed_gradient=now.observed_gradient,
    )


def _moved(finding: Finding, device: str) -> Finding:
    return replace(finding, device=device.upper() if ":" in device else f"{device.upper()}:0")


def batch_shown(finding: Finding, result: Replayed) -> Shown | None:
    """The batch for a script, where it is other than the finding tells."""
    if result.whole:
        cell = cell_of(finding)
        batch = next(one for one in batches(finding, cell) if one.whole)
        logits, targets = batch.logits, batch.targets
        if cell.path.trained:  # models take rows
            logits = logits.reshape(-1, logits.shape[-1])
            targets = targets.reshape(len(logits), *targets.shape[batch.logits.ndim - 1 :])
        return Shown(logits=logits, targets=targets, row=batch.row)
    return None if finding.batch_rows > 1 else Shown(copies=result.copies)


def _run(code: str, limits: Limits, finding: Finding) -> Ended:
    own = own_folders() if ":" in finding.path else {}
    return run_apart(["-c", code], limits, paths=[one for some in own.values() for one in some])


def _proves(ended: Ended, finding: Finding) -> bool:
    """Whether a script's run shows what its finding says.

    Only one that ended by itself and says that the finding stands does, unless the finding is that
    the process dies or does not end. A script that raised an error has shown nothing.
    """
    if finding.kind == kinds.TIMEOUT:
        return "silent" in ended.overdue or ended.code == -signal.SIGALRM
    if ended.overdue or "Traceback (most recent call last)" in ended.errors:
        return False
    if finding.kind == kinds.CRASH:
        return ended.code != 0
    return ended.code == STANDING and f"finding {finding.id} still stands" in ended.output


def _printed(ended: Ended) -> str:
    """What a script printed, and of one that died how."""
    died = ended.code < 0 or ended.overdue or "Traceback" in ended.errors
    return "\n".join(part for part in (ended.output.rstrip(), ended.death * bool(died)) if part)


def _write(name: str, text: str) -> None:
    write_text(Path(name), text.removesuffix("\n"))
    if Path(name) != STANDARD_OUTPUT:
        print(f"written: {printable(name)}", file=sys.stderr)  # noqa: T201
