#!/usr/bin/env bash
# An application of the chaos harness, by the shell `sqlite3` as a coprocess: its own checkpoints, sometimes no others.
#
# CHAOS_DATABASE, CHAOS_APPLICATION and CHAOS_RATE (transactions a second, 0: as fast as it can) say what to do. It prints
# `resumed SEQ CHAIN` for what it finds, then `committed SEQ CHAIN` for each transaction that SQLite has confirmed. SIGTERM
# ends it between two transactions.
set -u
export LC_ALL=C

stopping=
trap 'stopping=yes' TERM
# A broken pipe is an error of the command that writes.
trap ':' PIPE
# Nothing is ever written to it: reading from it with a time-out is a pause without a process.
exec {nothing}<> <(:)

name=${CHAOS_APPLICATION//\'/\'\'}
path=${CHAOS_DATABASE//%/%25} path=${path//\?/%3f} path=${path//\#/%23}
last='SELECT seq, chain FROM journal UNION ALL SELECT 0, 1 ORDER BY seq DESC LIMIT 1'

# Waits so many microseconds.
pause() {
  (($1 > 0)) || return 0
  local seconds
  printf -v seconds '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000))
  read -rt "$seconds" -u "$nothing"
}

order() { printf '%s\n' "$@" >&"$orders"; } 2>/dev/null

# Reads answers up to `confirmed`, which is printed only if everything before it succeeded; leaves what they said in $row.
await_confirmation() {
  local line status
  row=
  while :; do
    read -r -u "$answers" line
    status=$?
    # A signal came in between.
    ((status > 128)) && continue
    ((status == 0)) || return 1
    case $line in
      'row|'*) row=${line#row|} row=${row/|/ } ;;
      confirmed) return 0 ;;
    esac
  done
} 2>/dev/null

# Starts the coprocess. With -bail an error ends it, and with it what was not committed. SIGTERM goes to the whole group: it has
# to outlive that to finish its transaction, and ends with its input. mode=rw: a database that is gone is no new database.
connect() {
  coproc sqlite { trap '' TERM; exec stdbuf -oL sqlite3 -batch -bail "file:$path?mode=rw"; }
  pid=$! answers=${sqlite[0]:-} orders=${sqlite[1]:-}
  order '.timeout 5000'
  ((RANDOM % 2)) && order 'PRAGMA wal_autocheckpoint = 0;'
  order "SELECT 'row', seq, chain FROM ($last);" '.print confirmed'
  await_confirmation && echo "resumed $row"
}

disconnect() {
  { exec {orders}>&-; } 2>/dev/null
  # A signal ends the waiting, too.
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; done
  { exec {answers}<&-; } 2>/dev/null
}

transact() {
  local amount=$((1 + RANDOM % 100)) source=$((1 + RANDOM % 10)) target ballast=''
  target=$((1 + (source + RANDOM % 9) % 10))
  case $((RANDOM % 100)) in
    [0-4]) ballast="REPLACE INTO ballast VALUES ($((200 + RANDOM % 8)), randomblob($((4000 + RANDOM * 6))));" ;;
    [5-6]) ballast="DELETE FROM ballast WHERE id = $((200 + RANDOM % 8));" ;;
  esac
  order 'BEGIN IMMEDIATE;' \
    "UPDATE account SET balance = balance - $amount WHERE id = $source;" \
    "UPDATE account SET balance = balance + $amount WHERE id = $target;" \
    "INSERT INTO journal(seq, application, amount, source, target, chain, payload)
     SELECT seq + 1, '$name', $amount, $source, $target,
            (chain * 48271 + (seq + 1) * 69621 + $amount * 16807 + $source * 31 + $target) % 2147483647,
            randomblob($((100 + RANDOM % 301)))
     FROM ($last)
     RETURNING 'row', seq, chain;" \
    "$ballast" 'COMMIT;' '.print confirmed'
  await_confirmation && echo "committed $row"
}

# Commits until it is told to stop, or something fails.
write() {
  local due=${EPOCHREALTIME/./} now interval=0
  ((CHAOS_RATE > 0)) && interval=$((1000000 / CHAOS_RATE))
  while now=${EPOCHREALTIME/./} && pause $((due - now)); [ -z "$stopping" ]; do
    transact || return 1
    ((RANDOM % 60)) || order 'PRAGMA wal_checkpoint(PASSIVE);'
    # What a pause has made it miss is not made up for, and a clock that is set back is not waited for.
    now=${EPOCHREALTIME/./}
    ((due < now - 1000000 || due > now + 1000000)) && due=$now
    due=$((due + interval))
  done
}

while [ -z "$stopping" ]; do
  if connect && write; then :; else
    [ -n "$stopping" ] || { echo "$CHAOS_APPLICATION: the sqlite3 shell ended; trying again" >&2; pause 500000; }
  fi
  disconnect
done
exit 0
