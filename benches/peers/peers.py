#!/usr/bin/env python3
"""Times other software on the workloads of `mlxc bench --suite`.

    peers.py run [--groups ABCDEF] [--peers torch,jax] [--threads 2]       rows as JSON, one a line
    peers.py compare [the same] [--mlxc target/release/mlxc] [--rounds 2]  a table beside mlxc, measured in turns
    peers.py table FILE...                                                 the table of rows that were kept

Each peer runs in a process of its own, with the same number of threads and a heap that stays warm. A peer that is not
installed, and a workload that it cannot compute, is named on standard error. `requirements.txt` lists the packages.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from libraries import LIBRARIES, Unsupported
from llama import LlamaCpp
from workloads import workloads

PEERS = LIBRARIES | {"llama.cpp": LlamaCpp}
SECONDS, LEAST, WARM = 1.0, 5, 2


def say(text):
    print(text, file=sys.stderr, flush=True)


def median_seconds(step):
    for _ in range(WARM):
        step()
    times, begin = [], time.perf_counter()
    while len(times) < LEAST or time.perf_counter() - begin < SECONDS:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def worker(a):
    """Measures one peer in this process."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: a.threads])
    peer = PEERS[a.peer](a.threads)

    def row(group, name, measure):
        try:
            print(json.dumps(dict(group=group, workload=name, peer=a.peer, seconds=measure())), flush=True)
        except Unsupported as e:
            say(f"{a.peer}: no {name}: {e}")
        except Exception as e:
            say(f"{a.peer}: {name} failed: {type(e).__name__}: {str(e).strip()[-300:]}")

    if "F" in a.groups and "F" in peer.groups:
        for name, measure in peer.model():
            row("F", name, measure)
    for w in workloads("".join(g for g in a.groups if g in peer.groups)):
        row(w.group, w.name, lambda w=w: median_seconds(peer.step(w)))


def quiet(most=30.0):
    """Waits until the machine has been idle for half a second; says so where it never was. Linux only."""
    if not Path("/proc/stat").exists():
        return

    def busy():
        user, nice, system, idle, waits, *rest = map(int, Path("/proc/stat").read_text().split("\n")[0].split()[1:])
        return user + nice + system + sum(rest[:3]), idle + waits

    begin = time.perf_counter()
    while time.perf_counter() - begin < most:
        before = busy()
        time.sleep(0.5)
        worked, idled = (b - a for a, b in zip(before, busy()))
        if worked <= 0.1 * (worked + idled):
            return
    say("the machine is not idle: times are too long")


def environment(threads):
    """Threads, and a heap whose memory is neither returned nor mapped anew: large results would pay page faults."""
    known = dict(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads)
    tunables = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.hugetlb=1"
    return os.environ | {k: str(v) for k, v in known.items()} | {"GLIBC_TUNABLES": tunables}


def rows(command, env=None):
    quiet()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env, check=False)
    if done.returncode:
        say(f"{' '.join(map(str, command[:4]))} ... ended with {done.returncode}")
    return done.stdout


def chosen(a):
    """Peers that are asked for and installed."""
    for name in a.peers.split(","):
        if missing := PEERS[name].missing():
            say(f"{name}: not measured, {', '.join(missing)} cannot be imported")
        else:
            yield name


def measure_peer(a, peer, groups):
    if not set(groups) & set(PEERS[peer].groups):
        return []
    command = [sys.executable, __file__, "worker", "--peer", peer, "--groups", groups, "--threads", str(a.threads)]
    return [json.loads(line) for line in rows(command, environment(a.threads)).splitlines()]


def measure_mlxc(a, groups):
    text = rows([a.mlxc, "bench", "--suite", groups, "--threads", str(a.threads), "--json"])
    return [r | {"peer": "mlxc"} for r in json.loads(text)["rows"]] if text else []


def run(a):
    for peer in chosen(a):
        for row in measure_peer(a, peer, a.groups):
            print(json.dumps(row), flush=True)


def compare(a):
    """Measures group by group, all sides in turns."""
    peers = list(chosen(a))
    measured = []
    for group in a.groups:
        for _ in range(a.rounds):
            measured += measure_mlxc(a, group) + [r for p in peers for r in measure_peer(a, p, group)]
    if a.json:
        for r in measured:
            print(json.dumps({k: r[k] for k in ("group", "workload", "peer", "seconds")}))
    else:
        print(table(measured))


def show(a):
    """Prints the table of rows that were kept."""
    print(table([json.loads(line) for path in a.files for line in path.read_text().splitlines()]))


def table(measured):
    """Milliseconds of each side's best run; the ratio is mlxc's time over that of the best peer."""
    best = {}
    for r in measured:
        times = best.setdefault((r["group"], r["workload"]), {})
        times[r["peer"]] = min(times.get(r["peer"], r["seconds"]), r["seconds"])
    peers = [p for p in PEERS if any(p in times for times in best.values())]
    lines = [f"| workload, ms | mlxc | {' | '.join(peers)} | best peer | ratio |"]
    lines.append("|---|" + "---:|" * (len(peers) + 1) + "---|---:|")
    for (group, workload), times in best.items():
        cells = [f"{times[p] * 1e3:.3g}" if p in times else "" for p in ["mlxc", *peers]]
        others = {p: t for p, t in times.items() if p != "mlxc"}
        first = min(others, key=others.get, default="")
        ratio = f"{times['mlxc'] / others[first]:.2f}" if first and "mlxc" in times else ""
        lines.append(f"| {group} {workload} | {' | '.join(cells)} | {first} | {ratio} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in dict(run=run, compare=compare, worker=worker).items():
        sub = commands.add_parser(name)
        sub.set_defaults(function=function)
        sub.add_argument("--groups", default="ABCDEF", help="letters of the suite's groups")
        sub.add_argument("--threads", type=int, default=2)
        if name == "worker":
            sub.add_argument("--peer", choices=PEERS, required=True)
            continue
        sub.add_argument("--peers", default=",".join(PEERS), help="names, with commas between them")
        if name == "compare":
            root = Path(__file__).resolve().parents[2]
            sub.add_argument("--mlxc", default=root / "target/release/mlxc", help="the binary of a release build")
            sub.add_argument("--rounds", type=int, default=2, help="how often each side is measured")
            sub.add_argument("--json", action="store_true", help="rows as JSON instead of a table")
    sub = commands.add_parser("table")
    sub.set_defaults(function=show)
    sub.add_argument("files", type=Path, nargs="+", help="what `run`, or `compare --json`, printed")
    a = parser.parse_args()
    a.function(a)


if __name__ == "__main__":
    main()
