"""Commands of nnU-Net and ours, one a line of stdin, in one process: its imports take seconds, and so do further processes.

Trainings are cut to one epoch of two iterations. What nnU-Net would start processes for, threads do.
"""

import functools
import importlib
import multiprocessing
import multiprocessing.dummy
import os
import shlex
import sys

ENTRIES = {
    "nnUNetv2_plan_and_preprocess": "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints:plan_and_preprocess_entry",
    "nnUNetv2_train": "nnunetv2.run.run_training:run_training_entry",
    "nnUNetv2_predict": "nnunetv2.inference.predict_from_raw_data:predict_entry_point",
    "allukan": "allukan.cli.main:main",
}


def shorten(trainer):
    """One epoch of two iterations for every training of nnU-Net's own trainer."""
    start = trainer.__init__

    @functools.wraps(start)  # nnU-Net asks for the names of the arguments
    def shortened(self, *given, **named):
        start(self, *given, **named)
        self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 1, 2, 1

    trainer.__init__ = shortened


def main():
    """Stops at the first command that fails."""
    contexts = multiprocessing.get_context
    multiprocessing.get_context = lambda kind=None: multiprocessing.dummy if kind == "spawn" else contexts(kind)
    shorten(importlib.import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer").nnUNetTrainer)
    for line in sys.stdin.read().splitlines():
        sys.argv = shlex.split(line)
        module, function = ENTRIES[sys.argv[0]].split(":")
        os.environ["nnUNet_n_proc_DA"] = str(int("plan" in function))  # no processes; the planner needs the number above 0
        print("$", line, flush=True)
        try:
            getattr(importlib.import_module(module), function)()
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    main()
