"""Writes `sluice.profdata`: what the compiler is told of how the program runs.

Which way a branch goes, what is worth inlining and what is hardly ever run it can only guess otherwise. Told, it puts
what a request needs close together and what it does not need elsewhere: less to run, and far less to fetch
into the processor's cache after a pause.

    python3 tools/layout/watch.py                          builds a program that counts, asks it, writes sluice.profdata
    python3 tools/layout/watch.py --check target/release/sluice   tells how much of it still fits

Needs llvm-profdata of LLVM 19 or later (Debian's llvm-19; PROFDATA names another one). A function that has changed since
it was watched is compiled as if nothing were known of it, and so is every one with another compiler. After this
the order of the functions is to be made anew, too: order.py.
"""
import glob, os, re, subprocess, sys, tempfile

from workload import Gateway

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
OUT = os.path.join(HERE, "sluice.profdata")
PROFDATA = os.environ.get("PROFDATA", "llvm-profdata-19")
# Rounds of questions: enough that what a start does once weighs little.
TIMES = 1000
# Some functions are part of others in the end and have no name there any more: four of five have when all of it fits.
FITS = 0.5


def watch():
    """Has a program count what it runs while it is asked."""
    target = os.path.join(ROOT, "target", "watched")
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--bin", "sluice", "--target-dir", target], cwd=ROOT,
        env=os.environ | {"SLUICE_PROFILE": "record"}, check=True)
    with tempfile.TemporaryDirectory() as folder:
        counted = {"LLVM_PROFILE_FILE": os.path.join(folder, "%p.profraw")}
        gateway = Gateway([os.path.join(target, "release", "sluice")], folder, counted)
        gateway.ask(TIMES, clients=8)
        gateway.stop()
        subprocess.run(
            [PROFDATA, "merge", "--sparse", "-o", OUT, *glob.glob(os.path.join(folder, "*.profraw"))], check=True)


def check(binary):
    """How many of the functions that were watched are in a program."""
    shown = subprocess.run([PROFDATA, "show", "--all-functions", OUT], capture_output=True, text=True, check=True).stdout
    watched = {name.rpartition(";")[2] for name in re.findall(r"^  (\S+):$", shown, re.M)}
    listed = subprocess.run(["nm", binary], capture_output=True, text=True, check=True).stdout
    there = len(watched & {line.split()[-1] for line in listed.splitlines() if line})
    print(f"{there} of {len(watched)} functions are in {binary}")
    return there >= FITS * len(watched)


def main():
    if sys.argv[1:2] == ["--check"]:
        sys.exit(0 if check(sys.argv[2]) else "make it anew: see the top of this file")
    watch()
    print(f"{os.path.getsize(OUT) // 1024} KiB in {OUT}")


if __name__ == "__main__":
    main()
