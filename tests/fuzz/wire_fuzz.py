"""Fuzz the gateway's parsers with coverage: `python tests/fuzz/wire_fuzz.py --seconds 60 [TARGET …]`.

Time is shared among the targets. The kept corpus is where each begins; what breaks a target is left in `findings/` below
`--folder`, and the exit status is 1. Inputs that are worth keeping are copied into tests/gateway/corpus/TARGET by hand.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE.parent / "gateway" / "corpus"
MAX_BYTES = 2048
SLOW_S = 30
"""For one input; one that is parsed without end is told from a machine that stood still."""
FIGURES = re.compile(r"stat::number_of_executed_units: (\d+)|cov: (\d+) ft: (\d+) corp: (\d+)")


def fuzz(target: str, arguments: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    import atheris

    sys.path[:0] = [str(HERE.parent / "gateway" / "wire"), str(HERE.parent / "gateway")]
    with atheris.instrument_imports(include=["penstock.gateway", "penstock.kit", "h11"]):
        import fuzz_targets

    def one(data: bytes) -> None:
        try:
            fuzz_targets.TARGETS[target](data)
        except BaseException:
            traceback.print_exc()
            raise

    atheris.Setup([sys.argv[0], *arguments], one)
    atheris.Fuzz()


def run(target: str, seconds: float, folder: Path) -> bool:
    """One target in a process of its own; whether all held."""
    found, grown = folder / "findings", folder / "corpus" / target
    found.mkdir(parents=True, exist_ok=True)
    grown.mkdir(parents=True, exist_ok=True)
    if target == "server":
        seed(grown)
    kept = CORPUS / target
    arguments = [
        str(grown),
        *([str(kept)] if kept.is_dir() else []),
        f"-max_total_time={max(1, round(seconds))}",
        f"-dict={HERE / 'http.dict'}",
        f"-artifact_prefix={found}/{target}-",
        f"-max_len={MAX_BYTES}",
        f"-timeout={SLOW_S}",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-close_fd_mask=1",
    ]
    done = subprocess.run(
        [sys.executable, __file__, "--inner", target, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    runs, coverage = "0", "none"
    for executed, lines, features, inputs in FIGURES.findall(done.stderr):
        if executed:
            runs = executed
        else:
            coverage = f"{lines} edges, {features} features, {inputs} inputs"
    print(
        f"{target}: {runs} executions, {coverage}: {'all held' if not done.returncode else 'BROKEN'}",
        flush=True,
    )
    if done.returncode:
        print(done.stderr[done.stderr.find("Traceback") :][:6000], flush=True)
    return not done.returncode


def seed(folder: Path) -> None:
    """The table of known vectors, as far as they are short."""
    sys.path.insert(0, str(CORPUS.parent / "wire"))
    import more_vectors
    import smuggling_vectors

    for module in (smuggling_vectors, more_vectors):
        for name, group in vars(module).items():
            for place, vector in enumerate(group if name.isupper() and isinstance(group, list) else ()):
                if len(vector.data) < MAX_BYTES:
                    (folder / f"{name}-{place}").write_bytes(vector.data)


def main() -> int:
    """For `make fuzz`."""
    if sys.argv[1:2] == ["--inner"]:
        fuzz(sys.argv[2], sys.argv[3:])
    names = ["server", "client", "scanner", "path"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument(
        "--folder", type=Path, help="where findings and new inputs go; a new one below /tmp if not said"
    )
    parser.add_argument("targets", nargs="*", default=names, metavar="TARGET", help=f"of {', '.join(names)}")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="penstock-fuzz-"))
    held = [run(name, given.seconds / len(given.targets), folder) for name in given.targets]
    print(f"findings and inputs: {folder}")
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
