"""``lossfuzz run --workers``, ``lossfuzz resume`` and ``lossfuzz merge``."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lossfuzz import trust
from lossfuzz.audit import AuditError
from lossfuzz.campaign.coordinator import Coordinator
from lossfuzz.campaign.engine import LocalEngine
from lossfuzz.campaign.folders import FOLDERS, look_where_begun, own_folders, search_path
from lossfuzz.campaign.messages import Failed, Finished, Request
from lossfuzz.campaign.outcome import joined, merged, seconds_of
from lossfuzz.campaign.places import other_settings, other_versions
from lossfuzz.campaign.store import Store
from lossfuzz.campaign.store_file import holds_store
from lossfuzz.commands.console import tell_error, told_progress
from lossfuzz.commands.files import PAGE, RESULTS, TIMINGS, check_free, check_own, make_writable
from lossfuzz.commands.signals import ended_by_signals
from lossfuzz.errors import AUDIT_FAILED, UsageError
from lossfuzz.fitting import Fitted, RefusedLossError, fitted
from lossfuzz.harness.backend import device_named, devices, start_tensorflow
from lossfuzz.harness.records.fields import record_of, texts, texts_by_name
from lossfuzz.harness.running.process import SubjectError, program_path
from lossfuzz.harness.running.subject import START_TIMEOUT_S
from lossfuzz.harness.users.time_limit import limited
from lossfuzz.quantities import machine_memory
from lossfuzz.stored import one_line_of, plan_of, read_campaign
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from lossfuzz.harness.results.run import RunResult
    from lossfuzz.plan import Plan

_SPENT_SECONDS = 10.0
"""From one time to the next that a campaign writes how long it has run."""

_NO_TIME = 1e-3


def start(plan: Plan, options: argparse.Namespace) -> RunResult:
    """A new campaign in the folder ``options.out``.

    Raises:
        UsageError: the folder holds one already, an interpreter is missing, or TensorFlow cannot
            be started.
        AuditError: the exact reference was found wrong.
        RefusedLossError: an own loss of the plan cannot be measured.
    """
    try:  # workers run in another folder, and so may whoever goes on with the campaign
        programs = [program_path(str(python)) for python in options.python or ()]
    except SubjectError as error:
        raise UsageError(str(error)) from None
    fit = _fitted(plan, options)
    record = fit.plan.to_json()
    place = _described(record, programs, options.logical_cpus, options)
    store = Store.create(
        options.out,
        {**record, "devices": place["devices"]},
        notes=list(fit.notes),
        logical_cpus=options.logical_cpus,
        programs=programs,
        pythons=place["pythons"],
        environment=place["environment"],
        **{FOLDERS: own_folders()},
    )
    with contextlib.closing(store):
        return _go_on(store, options)


def _fitted(plan: Plan, options: argparse.Namespace) -> Fitted:
    """The plan on the shapes that its own losses take; workers learn these from it."""
    if not any(path.own for path in plan.paths):
        return Fitted(plan=plan)
    tf = start_tensorflow(logical_cpus=options.logical_cpus)
    device = device_named(tf, plan.devices[0]) if plan.devices else devices(tf)[0]
    fit = fitted(plan, chosen=plan.shapes != DEFAULT_SHAPES, device=device)
    if fit.refusal:
        raise RefusedLossError(fit.refusal)
    return fit


def resume_command(options: argparse.Namespace) -> int:
    """``lossfuzz resume``: as ``run``.

    Raises:
        UsageError: the folder holds no campaign, another process runs it, it was begun with other
            versions, or it would run code that the command line does not allow.
    """
    from lossfuzz.commands.run import show_and_write

    if not holds_store(options.out) and (options.out / RESULTS).exists():
        raise UsageError(
            f"{str(options.out)!r} holds no campaign, but the results of a run that was none and "
            "cannot be resumed: 'lossfuzz run --workers N' makes a campaign, which can"
        )
    with ended_by_signals() as ending:
        try:
            check_own(options.out, RESULTS, TIMINGS, PAGE)
            with (
                limited(options.time_limit),  # it may import losses, which may have no end
                contextlib.closing(Store.open(options.out)) as store,
            ):
                result = _resumed(store, options)
        except AuditError as error:
            tell_error("audit", str(error))
            return AUDIT_FAILED
        return show_and_write(result, options, ending.code)


def _resumed(store: Store, options: argparse.Namespace) -> RunResult:
    """What a campaign comes to once it is complete; a complete one is left as it is."""
    with one_line_of(options.out):
        so_far = merged(store, plan_of(store))  # a damaged one is told before anything is written
        if store.fact("complete"):
            return so_far
    _allow(store, options)
    programs = _programs(store)
    plan = store.fact("plan")
    here = [device for device in plan["devices"] if "/" not in device]
    place = _described({**plan, "devices": here}, programs, store.fact("logical_cpus"), options)
    _refuse_other_place(so_far.environment, place["environment"], options.out)
    return _go_on(store, options)


def _programs(store: Store) -> list[str]:
    return list(texts({"programs": store.fact("programs", ())}, "programs"))


def _allow(store: Store, options: argparse.Namespace) -> None:
    """See that what a campaign would run may run, and load it.

    Raises:
        UsageError: it may not, or cannot be loaded.
    """
    with one_line_of(options.out):
        paths = texts(record_of(store.fact("plan"), "plan"), "paths")
        programs = [*_programs(store), *_pythons(store).values()]
        code = trust.code_of(paths, programs)
        if options.trust:
            look_where_begun(store)
    trust.require(code, f"going on with {str(options.out)!r}", options)
    try:
        trust.load(paths)
    except ValueError as error:
        hint = "" if options.trust else "; --trust looks where the campaign was begun, too"
        raise UsageError(f"{error}{hint}") from None


def _pythons(store: Store) -> dict[str, str]:
    return texts_by_name({"pythons": store.fact("pythons", {})}, "pythons")


def _refuse_other_place(before: dict[str, Any], after: dict[str, Any], folder: Path) -> None:
    """See that a campaign goes on where it was begun, since all its figures are told as of there.

    Raises:
        UsageError: it would not.
    """
    told = [one for one in (other_versions(before, after), other_settings(before, after)) if one]
    if told:
        raise UsageError(
            f"the campaign in {str(folder)!r} was begun with other versions or settings than "
            f"those here, then and now: {', '.join(told)}; go on with it there, or start another "
            "one, which 'lossfuzz compare' tells apart from it"
        )


def merge_command(options: argparse.Namespace) -> int:
    """``lossfuzz merge``: as ``run``; the campaigns that are read stay as they are.

    Raises:
        UsageError: a folder holds no campaign, two hold the same one, or they cannot be one.
    """
    from lossfuzz.commands.run import show_and_write

    check_free(options.out)
    whole = joined([read_campaign(folder) for folder in options.folders])
    make_writable(options.out)
    return show_and_write(whole, options)


def _go_on(store: Store, options: argparse.Namespace) -> RunResult:
    with one_line_of(options.out):
        plan, spent = plan_of(store), seconds_of(store).get("total", 0.0)
    started = time.monotonic()
    budget = plan
    if plan.seconds is not None:  # of which an earlier process may have spent some
        budget = replace(plan, seconds=max(plan.seconds - spent, _NO_TIME))
    engine = _engine(store.fact("plan"), _pythons(store), store.fact("logical_cpus"), options)
    clock = _Clock(store, spent)
    try:
        with told_progress("starting TensorFlow", "task", quiet=options.quiet) as progress:

            def told(done: int, total: int, what: str) -> None:
                clock.tick()
                progress(done, total, what)

            Coordinator(store, budget, engine, told).run()
            store.keep("complete", value=True)
    except KeyboardInterrupt:
        again = (
            " --trust"
            if trust.code_of([path.name for path in plan.paths], _programs(store))
            else ""
        )
        print(  # noqa: T201
            f"lossfuzz: interrupted: go on with 'lossfuzz resume {options.out}{again}'",
            file=sys.stderr,
        )
    finally:
        engine.close()
    store.keep("seconds", {"total": spent + time.monotonic() - started})
    return merged(store, plan)


class _Clock:
    """Writes now and then how long a campaign has run, so that a killed one knows it, too."""

    def __init__(self, store: Store, spent: float) -> None:
        self._store, self._spent = store, spent
        self._started = self._written = time.monotonic()

    def tick(self) -> None:
        """Write it, if it is time to."""
        now = time.monotonic()
        if now - self._written > _SPENT_SECONDS:
            self._written = now
            self._store.keep("seconds", {"total": self._spent + now - self._started})


def _engine(
    plan: dict[str, Any], pythons: dict[str, str], logical_cpus: int, options: argparse.Namespace
) -> LocalEngine:
    body = {
        "plan": plan,
        "logical_cpus": logical_cpus,
        "pythons": pythons,
        "search_path": search_path(),
    }
    return LocalEngine(
        options.workers, body, seconds=options.time_limit, memory=_memory_limit(options)
    )


def _described(
    plan: dict[str, Any], programs: list[str], logical_cpus: int, options: argparse.Namespace
) -> dict[str, Any]:
    """What `places.describe` tells in a first worker, where TensorFlow runs.

    Raises:
        UsageError: TensorFlow or a device is missing.
    """
    engine = _engine(plan, {}, logical_cpus, options)
    body = {"devices": plan["devices"], "pythons": programs}
    patience = (
        1 + len(programs)
    ) * START_TIMEOUT_S  # one that does not answer is told by its name
    try:
        engine.submit(
            Request(kind="describe", key="describe", group=-1, body=body, seconds=patience)
        )
        event = engine.next_event()
    finally:
        engine.close()
    if isinstance(event, Failed):
        raise UsageError(event.message)
    if not isinstance(event, Finished):
        raise UsageError(f"TensorFlow cannot be started: {event.reason}")
    return dict(event.result)


def _memory_limit(options: argparse.Namespace) -> int:
    if options.memory_limit is not None:
        return int(options.memory_limit) << 20
    return machine_memory() * 4 // 5 // int(options.workers)
