"""What is done with a complete study: its series by the rules, each workflow in a process of its own."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

from app.processes import bound
from imaging.atomic import new_folder

from .queue import Job, Queue
from .reception import LOG
from .sending import send
from .settings import NodeSettings, Rule
from .vault import Vault

_COMMAND = "from app.cli import main; main()"  # this installation, whatever the PATH leads to
_WORKFLOWS = {
    "synthetic-ct": ("mr2ct", "synthetic-ct"),
    "synthetic-ct-bulk": ("mr2ct", "synthetic-ct", "--bulk"),
    "contours": ("contour", "structures"),
}
_MOST_SERIES = 4
_NO = 2  # a command's exit status where what it got is not fit for it
_LOOK = 0.5  # seconds between looks for work


class UnfitStudyError(ValueError):
    """A study with which nothing can be done, however often it is tried."""


def work(node: NodeSettings, vault: Vault, queue: Queue, goes_on: Callable[[], bool]) -> None:
    """Does what is due for as long as it may; nothing that a study is ends it.

    Parameters
    ----------
    node
        Rules and destinations.
    vault, queue
        What came.
    goes_on
        Asked between studies.
    """
    while goes_on():
        job = queue.take()
        if job is None:
            time.sleep(_LOOK)
            continue
        try:
            one_study(node, vault, job)
        except UnfitStudyError as error:
            LOG.warning("study set aside", extra={"study": job.study})
            queue.failed(job.study, str(error), final=True)
        except Exception as error:  # noqa: BLE001 # a bad study ends no node
            LOG.warning("study failed", extra={"study": job.study, "attempt": job.attempts})
            queue.failed(job.study, _told(error))
        else:
            LOG.info("study done", extra={"study": job.study})
            queue.done(job.study)


def one_study(node: NodeSettings, vault: Vault, job: Job) -> None:
    """Results of a study by the rules, made where they are not there yet, and sent.

    Raises
    ------
    UnfitStudyError
        If two instances have one UID, a rule fits more series than a workflow takes, or the workflow says
        that they are not fit for it.
    UnsentError
        If a destination does not take a result.
    RuntimeError
        If a workflow fails otherwise.
    """
    rules = {rule.name: rule for rule in node.rules}
    for chosen, series in chosen_series(node.rules, vault.of(job.study)).items():
        rule = rules[chosen]
        # Of these instances and no others: a study to which something was added has other results.
        made = vault.folder.parent / "results" / job.study / f"{rule.name}-{job.instances}"
        if not made.is_dir():
            with new_folder(made) as folder:
                _run(rule, series, folder, node.seconds)
        results = sorted(made.rglob("*.dcm"))
        for name in rule.send_to:
            send(results, next(one for one in node.destinations if one.name == name), node.title)


def chosen_series(rules: Sequence[Rule], instances: Sequence[Path]) -> dict[str, list[list[Path]]]:
    """Series by the name of the first rule that fits each, ordered by their UIDs.

    Raises
    ------
    UnfitStudyError
        If two instances have one UID, or a rule fits more than four series.
    """
    series: dict[str, list[Path]] = {}
    headers: dict[str, Dataset] = {}
    seen: set[str] = set()
    for path in instances:
        header = dcmread(path, stop_before_pixels=True)
        if (uid := _raw(header, BaseTag(0x00080018))) in seen:
            raise UnfitStudyError(
                "two instances of one UID with different contents: ask where they come from"
            )
        seen.add(uid)
        key = _raw(header, BaseTag(0x0020000E))
        series.setdefault(key, []).append(path)
        headers.setdefault(key, header)
    chosen: dict[str, list[list[Path]]] = {}
    for key in sorted(series):
        rule = next((rule for rule in rules if fits(rule, headers[key])), None)
        if rule is not None:
            chosen.setdefault(rule.name, []).append(series[key])
    for name, found in chosen.items():
        if len(found) > _MOST_SERIES:
            raise UnfitStudyError(f"expected one to four series for the rule {name}, got {len(found)}")
    return chosen


def fits(rule: Rule, header: Dataset) -> bool:
    """Whether every pattern of a rule matches the whole of a header's value."""
    return all(
        word in header and pattern.fullmatch(str(header.get(word, "")))
        for word, pattern in rule.where.items()
    )


def _raw(header: Dataset, tag: BaseTag) -> str:
    value = header.get_item(tag).value  # the vault has seen to it
    return value.decode("ascii") if isinstance(value, bytes) else str(value)


def _run(rule: Rule, series: Sequence[Sequence[Path]], folder: Path, seconds: float) -> None:
    """A workflow's results in a folder."""
    command, out, *words = _WORKFLOWS[rule.workflow]
    given = []
    for n, paths in enumerate(series, 1):
        (folder / f".in-{n}").mkdir()
        given.append(folder / f".in-{n}")
        for path in paths:
            os.link(path, given[-1] / path.name)
    told = [sys.executable, "-c", _COMMAND, command, *map(str, given), "--out", str(folder / out), *words]
    try:
        done = subprocess.run(  # noqa: S603 # our own command
            bound(told), capture_output=True, text=True, check=False, timeout=seconds or None
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"expected the workflow within {seconds:.0f} s, got none") from None
    for path in given:
        shutil.rmtree(path)
    if done.returncode:
        # Whole words of its one sentence: no path of this machine, no name is in it.
        said = " ".join(done.stderr.replace(str(folder), "").split())[-300:]
        raise (UnfitStudyError if done.returncode == _NO else RuntimeError)(said or "it ended without a word")


def _told(error: Exception) -> str:
    """Why an attempt failed: our own words, and of others' errors the kind alone."""
    if isinstance(error, OSError) and error.errno:
        return f"errno {error.errno}"
    return str(error)[:300] if isinstance(error, RuntimeError) else type(error).__name__
