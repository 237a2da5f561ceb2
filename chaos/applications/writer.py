#!/usr/bin/env python3
"""An application of the chaos harness, by Python's sqlite3: small transactions, now and then a large one.

CHAOS_DATABASE, CHAOS_APPLICATION and CHAOS_RATE (transactions a second, 0: as fast as it can) say what to do. It prints
`resumed SEQ CHAIN` for what it finds, then `committed SEQ CHAIN` for each transaction that SQLite has confirmed. SIGTERM
ends it between two transactions.
"""

import os
import random
import signal
import sqlite3
import sys
import time
from contextlib import closing
from urllib.parse import quote

DATABASE = os.environ["CHAOS_DATABASE"]
APPLICATION = os.environ["CHAOS_APPLICATION"]
RATE = int(os.environ["CHAOS_RATE"])
PAUSE_AFTER_ERROR = 0.5

LAST = "SELECT seq, chain FROM journal UNION ALL SELECT 0, 1 ORDER BY seq DESC LIMIT 1"
JOURNAL = f"""
    INSERT INTO journal(seq, application, amount, source, target, chain, payload)
    SELECT seq + 1, :application, :amount, :source, :target,
           (chain * 48271 + (seq + 1) * 69621 + :amount * 16807 + :source * 31 + :target) % 2147483647,
           randomblob(:size)
    FROM ({LAST})
    RETURNING seq, chain
"""


def is_told_to_stop():
    """Whether SIGTERM has come. It stays blocked: nothing is ever interrupted by it."""
    return signal.SIGTERM in signal.sigpending()


def say(word, row):
    # In one piece, however Python buffers: who is killed has said all of it or nothing.
    os.write(1, f"{word} {row[0]} {row[1]}\n".encode())


def change_ballast(db):
    """Mostly nothing; a few KiB of every twentieth transaction, about 2 MB of every two hundredth."""
    draw = random.randrange(200)
    if draw == 0:
        for row in range(100, 164):
            db.execute("REPLACE INTO ballast VALUES (?, randomblob(?))", (row, random.randint(16_000, 48_000)))
    elif draw == 1:
        db.execute("DELETE FROM ballast WHERE id BETWEEN 100 AND 163")
    elif draw < 12:
        size = random.randint(2_000, 60_000)
        db.execute("REPLACE INTO ballast VALUES (?, randomblob(?))", (random.randint(1, 8), size))
    elif draw < 16:
        db.execute("DELETE FROM ballast WHERE id = ?", (random.randint(1, 8),))


def transact(db):
    """One transaction: the row of the journal that it made, once it is committed."""
    source, target = random.sample(range(1, 11), 2)
    amount = random.randint(1, 100)
    db.execute("BEGIN IMMEDIATE")
    db.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, source))
    db.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, target))
    values = {"application": APPLICATION, "amount": amount, "source": source, "target": target}
    (row,) = db.execute(JOURNAL, values | {"size": random.randint(100, 400)}).fetchall()
    change_ballast(db)
    db.execute("COMMIT")
    return row


def write():
    """Commits until it is told to stop. An error ends the connection, and with it what was not committed."""
    # mode=rw: a database that is gone is an error, not a new database.
    uri = f"file:{quote(DATABASE)}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=5.0, isolation_level=None)) as db:
        say("resumed", db.execute(LAST).fetchone())
        due = time.monotonic()
        while not is_told_to_stop():
            time.sleep(max(due - time.monotonic(), 0.0))
            say("committed", transact(db))
            if RATE > 0:
                # What a pause has made it miss is not made up for.
                due = max(due, time.monotonic() - 1.0) + 1.0 / RATE


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
while not is_told_to_stop():
    try:
        write()
    except sqlite3.Error as error:
        print(f"{APPLICATION}: {type(error).__name__}: {error}; trying again", file=sys.stderr, flush=True)
        time.sleep(PAUSE_AFTER_ERROR)
