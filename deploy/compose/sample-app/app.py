"""An application that keeps accounts: it moves money between them, ten times a second, until it is stopped."""

import random
import signal
import sqlite3
import sys
import threading

ACCOUNTS = 1000
OPENING_BALANCE = 100

stopping = threading.Event()


def open_database(path):
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.execute("BEGIN IMMEDIATE")
    database.execute("CREATE TABLE IF NOT EXISTS account (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL)")
    database.execute(
        "CREATE TABLE IF NOT EXISTS transfer"
        " (id INTEGER PRIMARY KEY, payer INTEGER NOT NULL, payee INTEGER NOT NULL, amount INTEGER NOT NULL)"
    )
    if database.execute("SELECT count(*) FROM account").fetchone() == (0,):
        accounts = ((number, OPENING_BALANCE) for number in range(1, ACCOUNTS + 1))
        database.executemany("INSERT INTO account VALUES (?, ?)", accounts)
    database.execute("COMMIT")
    return database


def transfer(database):
    payer, payee = random.sample(range(1, ACCOUNTS + 1), 2)
    amount = random.randint(1, 10)
    database.execute("BEGIN IMMEDIATE")
    database.execute("UPDATE account SET balance = balance - ? WHERE id = ?", (amount, payer))
    database.execute("UPDATE account SET balance = balance + ? WHERE id = ?", (amount, payee))
    database.execute("INSERT INTO transfer (payer, payee, amount) VALUES (?, ?, ?)", (payer, payee, amount))
    database.execute("COMMIT")


def main():
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    database = open_database(sys.argv[1])
    print("open", sys.argv[1])
    while not stopping.wait(0.1):
        transfer(database)
    database.close()
    print("closed")


if __name__ == "__main__":
    main()
