"""What ``gpu.sh`` asks for: the parts of a run, what they need, one of them, the summary.

Only the standard library is imported here until a part runs, so that a machine without the
package's dependencies can be told what it lacks.

    python benchmarks/throughput/gpu_parts.py list
    python benchmarks/throughput/gpu_parts.py run parity --folder gpu-results
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parents[2]
GPU_STACK: Final = re.compile(r"(torch|torchvision|torchaudio|triton|nvidia-.*|cuda-.*)$")
SUMMARY: Final = "summary.json"
CHECKED: Final = ("parity", "attention", "budget", "recovery")
OK, FAILED, OUT_OF_TIME, SKIPPED = "ok", "failed", "out of time", "skipped"
CHECKS_FAILED: Final = 4  # exit status of a part that ran, and found something that is not right
TOY: Final = ("--toy", "--device", "cpu", "--threads", "1", "--precision", "bfloat16")


class Part(NamedTuple):
    """A part of the run.

    Attributes:
        name: Its name.
        minutes: What it is expected to take with an 8B shape on an H200, and its share of time.
        measured: Parts of ``run.py`` that it is made of; its own name if empty.
        options: Further options of ``run.py``.
        needs: A module that it makes no sense without.
    """

    name: str
    minutes: int
    measured: str = ""
    options: tuple[str, ...] = ()
    needs: str | None = None


PARTS: Final = {
    part.name: part
    for part in (
        Part("parity", 3),
        Part("attention", 2),
        Part("budget", 2),
        Part("recovery", 1),
        Part("scoring", 4, "scoring,responses,roofline"),
        Part("training", 5, "training,roofline"),
        Part("memory", 4),
        Part("qlora", 4, "qlora,training,roofline", ("--row", "tree,qlora"), "bitsandbytes"),
    )
}


def unmet() -> list[str]:
    """List the package's requirements that are not met here; PyTorch is the machine's own."""
    import tomllib

    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    wanted: list[str] = tomllib.loads(text)["project"]["dependencies"]
    return [each for each in wanted if not each.startswith("torch") and not _met(each)]


def _met(requirement: str) -> bool:
    try:
        from packaging.requirements import Requirement

        wanted = Requirement(requirement)
        return wanted.specifier.contains(metadata.version(wanted.name), prereleases=True)
    except (ImportError, metadata.PackageNotFoundError):
        return False  # without packaging pip tells


def constraints() -> list[str]:
    """Pin what PyTorch on this machine consists of, so that no installation replaces it."""
    found = {each.metadata["Name"].lower(): each.version for each in metadata.distributions()}
    return [f"{name}=={found[name]}" for name in sorted(found) if GPU_STACK.match(name)]


def failures(found: dict[str, Any]) -> list[str]:
    """Name the checks in a part's results that were not passed; speed is no check."""
    return [
        f"{row['target']}: {row['found']}, wanted {row['wanted']}"
        for row in found["targets"]
        if not row["reached"] and row["target"].startswith((*CHECKED, "equality"))
    ]


def passed(found: dict[str, Any]) -> int:
    """Count the checks in a part's results that were passed."""
    rows = [row for kind in CHECKED for row in found[kind]]
    equal = [row for row in found["targets"] if row["target"].startswith("equality")]
    return sum(row["reached"] is True for row in (*rows, *equal))


def run(part: Part, folder: Path, toy: bool, weights: Path | None) -> int:
    """Run a part in this process; its file is there only once it has come to its end."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    from throughput import run as throughput

    argv = ["--part", part.measured or part.name, *part.options]
    argv += ["--output", str(folder / f"{part.name}.json")]
    argv += TOY if toy else []
    if weights:
        argv += ["--weights", str(weights)]
    elif toy:
        argv += ["--model", "tiny-llama"]
    return throughput.main(argv) or judge(part, folder)


def judge(part: Part, folder: Path) -> int:
    """Print the checks that a part's file says were not passed, and return the exit status."""
    failed = failures(_read(folder / f"{part.name}.json"))
    for line in failed:
        print(f"not within its tolerance: {line}")
    return CHECKS_FAILED if failed else 0


def record(folder: Path, part: Part, state: str, seconds: int, reason: str) -> None:
    """Write what became of a part into the summary, whatever is there of others."""
    entry: dict[str, Any] = {"state": state, "seconds": seconds, "reason": reason or None}
    summary = _read(folder / SUMMARY) or {"machine": None, "parts": {}}
    found = _read(folder / f"{part.name}.json")
    if found:
        summary["machine"] = found["machine"]
        entry["checks_passed"], entry["checks_failed"] = passed(found), failures(found)
        entry["left_out"] = found["skipped"] + [
            f"{row['part']}, {row['row']}: {row['skipped']}"
            for row in found["rows"]
            if row["skipped"]
        ]
        entry["rows"] = [_numbers(row) for row in found["rows"] if not row["skipped"]]
    elif state == FAILED:
        log = folder / f"{part.name}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        entry["last_lines"] = [line for line in text.splitlines() if line.strip()][-5:]
    summary["parts"][part.name] = entry
    order = [name for name in PARTS if name in summary["parts"]]
    summary["parts"] = {name: summary["parts"][name] for name in order}
    partial = folder / f"{SUMMARY}.partial"
    partial.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / SUMMARY)


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a row that one looks at first; the rest stands in the part's file."""
    names = ("part", "model", "row", "precision", "peak_bytes", "weights_bytes")
    medians = ("tokens_per_second", "groups_per_second", "utilisation", "mfu_of_peak")
    short = {name: row[name] for name in names if name in row}
    return short | {name: row[name]["median"] for name in medians if name in row}


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def finish(folder: Path) -> int:
    """Print what became of every part.

    Returns:
        1 if one of them failed, else 3 if one is out of time, else 0.
    """
    parts = (_read(folder / SUMMARY) or {"parts": {}})["parts"]
    for name, entry in parts.items():
        checks = ""
        if "checks_passed" in entry:
            done, failed = entry["checks_passed"], len(entry["checks_failed"])
            checks = f", {done} of {done + failed} checks passed" if done + failed else ""
        reason = f": {entry['reason']}" if entry["reason"] else ""
        print(f"{name:10} {entry['state']}{reason} ({entry['seconds']} s{checks})")
        for line in entry.get("last_lines", []):
            print(f"{'':11}{line}")
    states = {entry["state"] for entry in parts.values()}
    return 1 if FAILED in states else 3 if OUT_OF_TIME in states else 0


def main(argv: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    verbs = ("list", "unmet", "constraints", "lacks", "run", "judge", "record", "finish")
    made.add_argument("verb", choices=verbs)
    made.add_argument("part", nargs="?", choices=list(PARTS))
    made.add_argument("--folder", type=Path, default=Path())
    made.add_argument("--toy", action="store_true")
    made.add_argument("--weights", type=Path)
    made.add_argument("--state", choices=[OK, FAILED, OUT_OF_TIME, SKIPPED])
    made.add_argument("--since", type=int, default=0, help="seconds since 1970")
    made.add_argument("--reason", default="")
    options = made.parse_args(argv)
    if options.verb == "list":
        print("\n".join(f"{part.name} {part.minutes}" for part in PARTS.values()))
    elif options.verb in ("unmet", "constraints"):
        print("\n".join(unmet() if options.verb == "unmet" else constraints()))
    elif options.verb == "finish":
        return finish(options.folder)
    else:
        part: Part = PARTS[options.part]
        if options.verb == "run":
            return run(part, options.folder, options.toy, options.weights)
        if options.verb == "judge":
            return judge(part, options.folder)
        if options.verb == "record":
            taken = round(time.time()) - options.since if options.since else 0
            record(options.folder, part, options.state, taken, options.reason)
        elif part.needs and importlib.util.find_spec(part.needs) is None:
            print(f"{part.needs} is not installed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
