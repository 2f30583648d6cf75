"""``lossfuzz run --workers``, ``lossfuzz resume`` and ``lossfuzz merge``."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

from lossfuzz.audit import AuditError
from lossfuzz.campaign.coordinator import Coordinator
from lossfuzz.campaign.engine import LocalEngine
from lossfuzz.campaign.folders import FOLDERS, own_folders, plan_of, search_path
from lossfuzz.campaign.messages import Failed, Finished, Request
from lossfuzz.campaign.outcome import joined, merged
from lossfuzz.campaign.store import FILE, Store
from lossfuzz.commands.choices import make_writable
from lossfuzz.commands.console import told_progress
from lossfuzz.commands.signals import ended_by_signals
from lossfuzz.errors import UsageError
from lossfuzz.fitting import Fitted, RefusedLossError, fitted
from lossfuzz.harness.backend import device_named, devices, start_tensorflow
from lossfuzz.harness.subjects.process import SubjectError, program_path
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

if TYPE_CHECKING:
    import argparse

    from lossfuzz.harness.results import RunResult
    from lossfuzz.plan import Plan


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
    store = Store.create(options.out, fit.plan.to_json())
    store.keep("notes", list(fit.notes))
    store.keep("logical_cpus", options.logical_cpus)
    store.keep("programs", programs)
    store.keep(FOLDERS, own_folders())
    try:
        _describe(store, options)
    except UsageError:
        store.discard()  # it holds nothing, and would stand in the way of the mended command
        raise
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
        UsageError: the folder holds no campaign, or another process runs it.
    """
    from lossfuzz.commands.run import AUDIT_FAILED, show_and_write

    if options.workers < 1:
        raise UsageError(f"--workers expects 1 or more, got {options.workers}")
    if not (options.out / FILE).exists() and (options.out / "results.json").exists():
        raise UsageError(
            f"{str(options.out)!r} holds no campaign, but the results of a run that was none and "
            "cannot be resumed: 'lossfuzz run --workers N' makes a campaign, which can"
        )
    with ended_by_signals() as ending:
        try:
            result = _go_on(Store.open(options.out), options)
        except AuditError as error:
            print(f"lossfuzz: audit: {error}", file=sys.stderr)  # noqa: T201
            return AUDIT_FAILED
        return show_and_write(result, options, ending.code)


def merge_command(options: argparse.Namespace) -> int:
    """``lossfuzz merge``: as ``run``.

    Raises:
        UsageError: a folder holds no campaign, or two hold the same one.
    """
    from lossfuzz.commands.run import show_and_write

    make_writable(options.out)
    results = []
    for folder in options.folders:
        store = Store.open(folder)
        results.append(merged(store, _plan(store)))
        store.close()
    return show_and_write(joined(results), options)


def _go_on(store: Store, options: argparse.Namespace) -> RunResult:
    started = time.monotonic()
    spent = (store.fact("seconds") or {}).get("total", 0.0)
    if store.fact("environment") is None:
        _plan(store)  # so that its own losses are found
        _describe(store, options)
    plan = _plan(store)
    engine = _engine(store, options)
    try:
        with told_progress("starting TensorFlow", "task", quiet=options.quiet) as progress:
            Coordinator(store, plan, engine, progress).run()
            store.keep("complete", value=True)
    except KeyboardInterrupt:
        print(  # noqa: T201
            f"lossfuzz: interrupted: go on with 'lossfuzz resume {options.out}'", file=sys.stderr
        )
    finally:
        engine.close()
    store.keep("seconds", {"total": spent + time.monotonic() - started})
    result = merged(store, plan)
    store.close()
    return result


def _engine(store: Store, options: argparse.Namespace) -> LocalEngine:
    body = {
        "plan": store.fact("plan"),
        "logical_cpus": store.fact("logical_cpus") or 1,
        "pythons": store.fact("pythons") or {},
        "search_path": search_path(),
    }
    return LocalEngine(
        options.workers, body, seconds=options.time_limit, memory=_memory_limit(options)
    )


def _describe(store: Store, options: argparse.Namespace) -> None:
    """Learn from a first worker which places and versions there are."""
    plan = store.fact("plan")
    body = {"devices": plan["devices"], "pythons": store.fact("programs") or []}
    engine = _engine(store, options)
    try:
        engine.submit(Request(kind="describe", key="describe", group=-1, body=body))
        event = engine.next_event()
    finally:
        engine.close()
    if isinstance(event, Failed):
        raise UsageError(event.message)
    if not isinstance(event, Finished):
        raise UsageError(f"TensorFlow cannot be started: {event.reason}")
    store.keep("plan", {**plan, "devices": event.result["devices"]})
    store.keep("pythons", event.result["pythons"])
    store.keep("environment", event.result["environment"])


def _plan(store: Store) -> Plan:
    try:
        return plan_of(store)
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"the campaign's plan cannot be read here: {error}; it may come from another version"
        ) from None


def _memory_limit(options: argparse.Namespace) -> int:
    if options.memory_limit is not None:
        if options.memory_limit < 1:
            raise UsageError(f"--memory-limit expects 1 MiB or more, got {options.memory_limit}")
        return int(options.memory_limit) << 20
    machine = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine * 4 // 5 // int(options.workers)
