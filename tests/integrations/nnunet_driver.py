"""Commands of nnU-Net and ours, one a line of stdin, in one process: its imports take seconds, and so do further processes.

Trainings are cut to one epoch of two iterations, without curves. What nnU-Net would start processes for, threads do.
"""

import functools
import importlib
import json
import multiprocessing
import multiprocessing.dummy
import os
import shlex
import sys
import time
from pathlib import Path

ENTRIES = {
    "nnUNetv2_plan_and_preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "nnUNetv2_train": "nnunetv2.run.run_training:run_training_entry",
    "nnUNetv2_predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
    "allukan": "allukan.cli.main:main",
    "narrow": "__main__:narrow",
    "find_trainer": "__main__:find_trainer",
}


def shorten(trainer):
    """One epoch of two iterations for every training of nnU-Net's own trainer."""
    start = trainer.__init__

    @functools.wraps(start)  # nnU-Net asks for the names of the arguments
    def shortened(self, *given, **named):
        start(self, *given, **named)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1

    trainer.__init__ = shortened


def narrow():
    """``narrow PLANS``: an eighth of the features, a fifth of the time."""
    path = Path(sys.argv[1])
    plans = json.loads(path.read_text(encoding="utf-8"))
    for configuration in plans["configurations"].values():
        given = configuration["architecture"]["arch_kwargs"]
        given["features_per_stage"] = [features // 8 for features in given["features_per_stage"]]
    path.write_text(json.dumps(plans), encoding="utf-8")


def find_trainer():
    """As nnU-Net finds the trainer of ``find_trainer FOLDER NAME``, but in that folder alone: its own trainers need timm."""
    search = importlib.import_module("nnunetv2.utilities.find_class_by_name").recursive_find_python_class
    folder, name = sys.argv[1:]
    found = search(folder, name, None, base_folder=folder, cleanup_imports_from_base_folder=True)
    importlib.import_module("nnunetv2.run.run_training").recursive_find_trainer_class_by_name = {name: found}.__getitem__


def main():
    """Stops at the first command that fails."""
    contexts = multiprocessing.get_context
    multiprocessing.get_context = lambda kind=None: multiprocessing.dummy if kind == "spawn" else contexts(kind)
    importlib.import_module("nnunetv2.training.logging.nnunet_logger").MetaLogger.plot_progress_png = lambda *given: None
    shorten(importlib.import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer)
    for line in sys.stdin.read().splitlines():
        sys.argv = shlex.split(line)
        module, function = ENTRIES[sys.argv[0]].split(":")
        # without processes; the planner fails on 0
        os.environ["nnUNet_n_proc_DA"] = str(int("plan" in function))  # noqa: SIM112
        print("$", line, f"# after {time.process_time():.0f} s", flush=True)
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main()
