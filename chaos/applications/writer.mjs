// An application of the chaos harness, by Node's better-sqlite3: prepared statements, immediate transactions, now and then a
// blob of 2 MB.
//
// CHAOS_DATABASE, CHAOS_APPLICATION and CHAOS_RATE (transactions a second, 0: as fast as it can) say what to do,
// CHAOS_NODE_MODULES where the package is. It prints `resumed SEQ CHAIN` for what it finds, then `committed SEQ CHAIN` for each
// transaction that SQLite has confirmed. SIGTERM ends it between two transactions.

import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setImmediate, setTimeout } from 'node:timers/promises';

const { CHAOS_DATABASE, CHAOS_APPLICATION, CHAOS_RATE, CHAOS_NODE_MODULES } = process.env;
const Database = createRequire(import.meta.url)(`${CHAOS_NODE_MODULES}/better-sqlite3`);
const PAUSE_AFTER_ERROR_MS = 500;
const LAST = 'SELECT seq, chain FROM journal UNION ALL SELECT 0, 1 ORDER BY seq DESC LIMIT 1';

let stopping = false;
process.on('SIGTERM', () => { stopping = true; });

// Synchronously: what was committed is said before anything else happens.
const say = (word, { seq, chain }) => writeSync(1, `${word} ${seq} ${chain}\n`);

const below = (n) => Math.floor(Math.random() * n);

function prepare(db) {
  const take = db.prepare('UPDATE account SET balance = balance - ? WHERE id = ?');
  const give = db.prepare('UPDATE account SET balance = balance + ? WHERE id = ?');
  const journal = db.prepare(`
    INSERT INTO journal(seq, application, amount, source, target, chain, payload)
    SELECT seq + 1, :application, :amount, :source, :target,
           (chain * 48271 + (seq + 1) * 69621 + :amount * 16807 + :source * 31 + :target) % 2147483647,
           randomblob(:size)
    FROM (${LAST})
    RETURNING seq, chain`);
  const replace = db.prepare('REPLACE INTO ballast VALUES (?, randomblob(?))');
  const remove = db.prepare('DELETE FROM ballast WHERE id = ?');

  const changeBallast = () => {
    const draw = below(300);
    if (draw === 0) replace.run(1000, 2_000_000);
    else if (draw < 3) remove.run(1000);
    else if (draw < 15) replace.run(300 + below(8), 4_000 + below(30_000));
    else if (draw < 20) remove.run(300 + below(8));
  };

  // Numbers of better-sqlite3 are floats, unless they are BigInt: those are SQLite's integers, whose division is the chain's.
  return db.transaction(() => {
    const source = 1 + below(10);
    const target = 1 + ((source + below(9)) % 10);
    const amount = 1 + below(100);
    take.run(amount, source);
    give.run(amount, target);
    const values = { amount: BigInt(amount), source: BigInt(source), target: BigInt(target) };
    const row = journal.get({ application: CHAOS_APPLICATION, size: 100 + below(301), ...values });
    changeBallast();
    return row;
  });
}

// Commits until it is told to stop. An error ends the connection, and with it what was not committed.
async function write() {
  const db = new Database(CHAOS_DATABASE, { fileMustExist: true, timeout: 5000 });
  try {
    say('resumed', db.prepare(LAST).get());
    const transact = prepare(db);
    const interval = Number(CHAOS_RATE) > 0 ? 1000 / Number(CHAOS_RATE) : 0;
    let due = performance.now();
    for (;;) {
      // Signals are heard only while it waits.
      const wait = due - performance.now();
      await (wait > 0 ? setTimeout(wait) : setImmediate());
      if (stopping) return;
      say('committed', transact.immediate());
      // What a pause has made it miss is not made up for.
      due = Math.max(due, performance.now() - 1000) + interval;
    }
  } finally {
    db.close();
  }
}

while (!stopping) {
  try {
    await write();
  } catch (error) {
    if (!(error instanceof Database.SqliteError)) throw error;
    process.stderr.write(`${CHAOS_APPLICATION}: ${error.code}: ${error.message}; trying again\n`);
    await setTimeout(PAUSE_AFTER_ERROR_MS);
  }
}
