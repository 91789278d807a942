//! Exactly once into SQLite: each payment counts once in the balances, whatever crashes and whenever it does.
//!
//! A consumer group hands records out at least once. To count each record once, the worker keeps its position together with its output:
//! it writes balances and position in one database transaction, and a new worker asks the database where to continue
//! (`positions_from`). The stream uses `Durability::Power`, so that no power loss removes payments that the database has counted.
//!
//! To show this, the example runs itself as a child process that crashes on purpose: once inside a transaction, and once directly after
//! one, before the group knows about it. Then it lets a third process finish, and compares the balances with the payments.
//!
//! ```text
//! cargo run -p exactly_once
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use streamlog::{Batch, Durability, IoFailure, PutRecord, SequenceNumber, ShardId, StreamOptions};

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

const PAYMENTS: u64 = 10_000;
const GROUP: &str = "balances";
const CRASH_IN_TRANSACTION: &str = "crash in a transaction";
const CRASH_AFTER_TRANSACTION: &str = "crash after a transaction";
const FINISH: &str = "finish";

const TABLES: &str = "
    CREATE TABLE balances (account TEXT PRIMARY KEY, cents INTEGER NOT NULL, payment_count INTEGER NOT NULL);
    CREATE TABLE positions (shard INTEGER PRIMARY KEY, last_handled INTEGER NOT NULL);";
const ADD_PAYMENT: &str = "
    INSERT INTO balances (account, cents, payment_count) VALUES (?1, ?2, 1)
    ON CONFLICT (account) DO UPDATE SET cents = cents + ?2, payment_count = payment_count + 1";
const SET_POSITION: &str = "
    INSERT INTO positions (shard, last_handled) VALUES (?1, ?2)
    ON CONFLICT (shard) DO UPDATE SET last_handled = ?2";

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1);
    match (args.next(), args.next()) {
        (Some(directory), Some(plan)) => work(Path::new(&directory), &plan.to_string_lossy()),
        _ => crash_twice_and_compare(),
    }
}

// ---- The child process: the worker ----

fn work(directory: &Path, plan: &str) -> Result<()> {
    let stream = open(directory)?;
    let mut database = Connection::open(database_path(directory))?;
    let mut worker = stream.group(GROUP).worker().positions_from(positions_of(directory)?).open()?;
    let mut batch_count = 0;
    // A real service would run forever; this one stops when all payments are counted.
    while let Some(batch) = worker.poll(Duration::from_millis(100))? {
        batch_count += 1;
        let is_crash_near = batch_count == 5;
        count(&mut database, &batch, || {
            if is_crash_near && plan == CRASH_IN_TRANSACTION {
                std::process::abort();
            }
        })?;
        if is_crash_near && plan == CRASH_AFTER_TRANSACTION {
            std::process::abort();
        }
        // The group's own checkpoint may lag behind: it only decides when a shard that was split or merged is finished.
        worker.commit(&batch)?;
    }
    worker.close();
    Ok(stream.close()?)
}

/// Adds a batch to the balances and stores the position after it, both or neither.
fn count(database: &mut Connection, batch: &Batch, before_commit: impl FnOnce()) -> Result<()> {
    let (Some(first), Some(last)) = (batch.first_sequence(), batch.last_sequence()) else { return Ok(()) };
    // An immediate transaction holds the write lock from the start: nobody can write between reading the position and moving it.
    let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let shard = batch.shard();
    // A worker that was silent for too long may still hold a batch that another worker has counted in the meantime. The sequence numbers of
    // a shard have no gaps, so the check is simple: this batch is no longer the next one.
    if last_handled(&transaction, shard)?.is_some_and(|handled| handled.plus(1) != first) {
        return Err(format!("{shard} has been taken over by another worker").into());
    }
    for payment in batch {
        let account = std::str::from_utf8(payment.partition_key())?;
        let cents: i64 = std::str::from_utf8(payment.data())?.parse()?;
        transaction.prepare_cached(ADD_PAYMENT)?.execute(params![account, cents])?;
    }
    transaction.execute(SET_POSITION, params![shard.get(), i64::try_from(last.get())?])?;
    before_commit();
    Ok(transaction.commit()?)
}

/// Returns the lookup that the worker uses when it takes over a shard: the shard's last payment in the database.
fn positions_of(
    directory: &Path,
) -> Result<impl Fn(ShardId) -> streamlog::Result<Option<SequenceNumber>> + Send + Sync + 'static> {
    let path = database_path(directory);
    let database = Mutex::new(Connection::open(&path)?);
    Ok(move |shard| {
        let database = database.lock().map_err(|_| rusqlite::Error::InvalidQuery);
        database
            .and_then(|database| last_handled(&database, shard))
            .map_err(|error| IoFailure::new("read positions in", &path, io::Error::other(error)).into())
    })
}

fn last_handled(database: &Connection, shard: ShardId) -> rusqlite::Result<Option<SequenceNumber>> {
    let mut query = database.prepare_cached("SELECT last_handled FROM positions WHERE shard = ?1")?;
    let last: Option<i64> = query.query_row([shard.get()], |row| row.get(0)).optional()?;
    Ok(last.map(|last| SequenceNumber::new(last.unsigned_abs())))
}

fn open(directory: &Path) -> streamlog::Result<streamlog::Stream> {
    StreamOptions::new().shards(4).durability(Durability::Power).open(directory.join("payments"))
}

fn database_path(directory: &Path) -> PathBuf {
    directory.join("balances.sqlite")
}

// ---- The parent process: pays, lets the child crash, and compares ----

fn crash_twice_and_compare() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let database = Connection::open(database_path(directory.path()))?;
    database.execute_batch(TABLES)?;
    let paid = pay(directory.path())?;
    for plan in [CRASH_IN_TRANSACTION, CRASH_AFTER_TRANSACTION, FINISH] {
        let mut child = Command::new(std::env::current_exe()?);
        let status = child.arg(directory.path()).arg(plan).status()?;
        assert_eq!(status.success(), plan == FINISH, "{plan}: {status}");
        let counted: i64 =
            database
                .query_row("SELECT COALESCE(SUM(payment_count), 0) FROM balances", [], |row| row.get(0))?;
        let stream = open(directory.path())?;
        let group_counted = PAYMENTS - stream.group(GROUP).describe()?.lag().record_count;
        println!(
            "{plan:<26} {counted:>6} payments in the database, {group_counted:>6} by the group's checkpoint"
        );
        stream.close()?;
    }
    let mut query = database.prepare("SELECT account, cents, payment_count FROM balances")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?;
    let counted: BTreeMap<String, (i64, i64)> = rows.collect::<rusqlite::Result<_>>()?;
    assert_eq!(counted, paid, "each payment counts once");
    println!("{} balances, each with all of its payments, once", counted.len());
    Ok(())
}

/// Puts payments. Returns the sum and the number of payments of each account.
fn pay(directory: &Path) -> Result<BTreeMap<String, (i64, i64)>> {
    let stream = open(directory)?;
    let mut paid: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    let mut payments = vec![];
    for number in 0..PAYMENTS {
        let (account, cents) = (format!("account-{}", number * 7 % 100), (number * 31 % 5_000) as i64);
        let sum = paid.entry(account.clone()).or_default();
        *sum = (sum.0 + cents, sum.1 + 1);
        payments.push((account, cents.to_string()));
    }
    // Many payments share one disk sync.
    for payments in payments.chunks(1_000) {
        let records: Vec<_> =
            payments.iter().map(|(account, cents)| PutRecord::new(account, cents)).collect();
        for outcome in stream.put_batch(&records)? {
            outcome?;
        }
    }
    stream.close()?;
    Ok(paid)
}
