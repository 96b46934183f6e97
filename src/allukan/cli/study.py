"""``allukan study``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from allukan.cli.console import TRUST, complain, say, show_log

Option = typer.Option


def study(
    plan: Annotated[Path, typer.Argument(metavar="STUDY.yaml", help="What to compare; see docs/study.md.", show_default=False)],
    out: Annotated[Path, Option(help="Folder of the study; others may work in it at the same time.", show_default=False)],
    jobs: Annotated[int, Option(help="Runs side by side on this machine; on a GPU they share it.")] = 1,
    retry_failed: Annotated[bool, Option("--retry-failed", help="Also try again what failed before.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Check everything, list the runs and their state, start none.")] = False,
    trust: Annotated[bool, Option("--trust", help=TRUST)] = False,
) -> None:
    """Train and evaluate models × data sets × protocols × seeds. Stop it any time; the same command goes on.

    Exit code 1 when a run failed; the others are done all the same.
    """
    from allukan import study as studies
    from allukan.models import check_trust, is_foreign

    loaded = studies.load_study(plan)
    for options in loaded.models.values():
        check_trust(options["model"], f"{plan} names", trust)
    if dry_run:
        studies.check_study(loaded, out)
        trials = loaded.trials(out)
        for trial in trials:
            print(f"{trial.state:8} {trial.name}")
        say(f"{sum(trial.state == 'done' for trial in trials)} of {len(trials)} runs are done.")
        return
    show_log()
    undone = studies.run_study(loaded, out, jobs, retry_failed)
    for trial in undone:
        what = trial.failure if trial.state == "failed" else "not started, because a run of its tuning failed"
        complain(f"allukan: {trial.name}: {what}")
    if undone:
        complain(f"allukan: {len(undone)} runs are not done: mend it, then --retry-failed.")
        raise typer.Exit(1)
    open_them = " --trust" if any(is_foreign(options["model"]) for options in loaded.models.values()) else ""
    say(f"All runs are done. Next: allukan compare {out}{open_them}")
