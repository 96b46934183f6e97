"""Train and evaluate models on real images, one JSON of scores a set.

python benchmarks/segmentation.py DATA --models allukan-tiny --seeds 0 1 2 --size 64 --epochs 25 --out RESULT.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean

from allukan.bench import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--models", nargs="+", default=["allukan-tiny"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", default="64")
    parser.add_argument("--epochs", default="25")
    parser.add_argument("--protocol", default="clean")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the run folders go")
    parser.add_argument("--out", type=Path, required=True)
    arguments, further = parser.parse_known_args()
    result = {**environment(), "data": arguments.data.name, "runs": []}
    for model in arguments.models:
        for seed in arguments.seeds:
            result["runs"].append(one(arguments, model, seed, further))
            result["mean"] = {m: means([r for r in result["runs"] if r["model"] == m]) for m in arguments.models}
            arguments.out.write_text(json.dumps(result, indent=1) + "\n")
            print(json.dumps(result["runs"][-1]), flush=True)
    print(json.dumps(result["mean"], indent=1))


def one(arguments: argparse.Namespace, model: str, seed: int, further: list[str]) -> dict:
    run = arguments.runs / f"{arguments.data.name}-{model}-{arguments.size}-{arguments.protocol}-{seed}"
    options = ["--size", arguments.size, "--model", model, "--epochs", arguments.epochs, "--protocol", arguments.protocol]
    train = ["train", str(arguments.data), "--out", str(run), *options, "--seed", str(seed), *further]
    start = time.perf_counter()
    if not (run / "model").exists():
        subprocess.run([sys.executable, "-m", "allukan", *train], check=True)
    minutes = (time.perf_counter() - start) / 60
    subprocess.run([sys.executable, "-m", "allukan", "evaluate", str(run)], check=True)
    summary = json.loads((run / "evaluation" / "summary.json").read_text())
    scores = {name: summary["overall"][name] for name in ("iou", "dice", "hd95", "surface_dice")}
    protocol = {"ukan": summary["ukan"]} if "ukan" in summary else {}
    return {
        "model": model,
        "seed": seed,
        "train_minutes": round(minutes, 2),
        "cases": summary["overall"]["cases"],
        **scores,
        **protocol,
    }


def means(runs: list[dict]) -> dict:
    return {name: round(mean(r[name]["mean"] for r in runs), 4) for name in ("iou", "dice", "hd95", "surface_dice") if runs}


if __name__ == "__main__":
    main()
