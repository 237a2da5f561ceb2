-- What the applications of a run write into. Freed pages are given back at each commit, so that the file shrinks too.
PRAGMA auto_vacuum = FULL;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE account(id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE journal(
    seq INTEGER PRIMARY KEY,
    application TEXT NOT NULL,
    amount INTEGER NOT NULL,
    source INTEGER NOT NULL,
    target INTEGER NOT NULL,
    chain INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE TABLE ballast(id INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
INSERT INTO account VALUES
    (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000), (9, 1000), (10, 1000);
COMMIT;
