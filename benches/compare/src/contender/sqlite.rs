//! SQLite through rusqlite, with a write-ahead log.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{Class, Contender, Facts, Held, Lanes, Log, Mode, Random, Result, Setup, Tail, Tally, Writer};

pub fn contender() -> Contender {
    let facts = Facts {
        name: "SQLite (rusqlite)",
        package: Some("rusqlite"),
        process: Some(Mode {
            config: "`journal_mode = WAL`, `synchronous = OFF`, a prepared statement, one transaction each put; a table for each shard \
                     with the number as primary key",
            survives: "process death",
        }),
        power: Some(Mode { config: "the same, with `synchronous = FULL`", survives: "power loss" }),
        checksums: "of the write-ahead log only",
        live_readers: "any number, each with a connection",
        writers: "one; several need a mutex",
    };
    Contender { facts, open: |setup| Ok(Box::new(Sqlite::open(setup)?)) }
}

struct Sqlite {
    path: PathBuf,
    /// One connection: the same lock serves all lanes.
    connection: Lanes<Connection>,
}

fn connect(path: &Path, class: Class) -> Result<Connection> {
    let connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if class == Class::Power { "FULL" } else { "OFF" })?;
    Ok(connection)
}

impl Sqlite {
    fn open(setup: &Setup) -> Result<Self> {
        let path = setup.directory.join("records.sqlite");
        let connection = connect(&path, setup.class)?;
        for lane in 0..setup.lanes {
            let create =
                format!("CREATE TABLE IF NOT EXISTS lane_{lane} (number INTEGER PRIMARY KEY, record BLOB)");
            connection.execute(&create, [])?;
        }
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self { path, connection: Lanes::new(vec![connection]) })
    }

    fn reader(&self) -> Result<Reader> {
        Ok(Reader { connection: connect(&self.path, Class::Process)?, next: 0 })
    }
}

impl Log for Sqlite {
    fn writer(&self, alone: bool) -> Result<Box<dyn Writer + '_>> {
        Ok(Box::new(Inserter(self.connection.hold(alone))))
    }

    fn read_all(&self, lane: usize, tally: &mut Tally) -> Result<()> {
        self.reader()?.read(lane, |record| tally.take(record)).map(drop)
    }

    fn random(&self) -> Result<Box<dyn Random + '_>> {
        Ok(Box::new(self.reader()?))
    }

    fn tail(&self, park: bool) -> Result<Box<dyn Tail + '_>> {
        if park {
            return super::no_call("it has no call that waits");
        }
        Ok(Box::new(self.reader()?))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.connection
            .into_logs()
            .try_for_each(|connection| connection.close().map_err(|(_, error)| error.into()))
    }
}

struct Inserter<'a>(Held<'a, Connection>);

impl Writer for Inserter<'_> {
    fn put(&mut self, lane: usize, record: &[u8]) -> Result<()> {
        self.0.with(0, |connection| {
            connection
                .prepare_cached(&format!("INSERT INTO lane_{lane} (record) VALUES (?1)"))?
                .execute(params![record])?;
            Ok(())
        })
    }

    fn put_batch(&mut self, lane: usize, records: &[&[u8]]) -> Result<()> {
        self.0.with(0, |connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert =
                    transaction.prepare_cached(&format!("INSERT INTO lane_{lane} (record) VALUES (?1)"))?;
                for record in records {
                    insert.execute(params![record])?;
                }
            }
            Ok(transaction.commit()?)
        })
    }
}

struct Reader {
    connection: Connection,
    /// The number of the last record read.
    next: i64,
}

impl Reader {
    fn read(&mut self, lane: usize, mut take: impl FnMut(&[u8])) -> Result<usize> {
        let select = format!("SELECT number, record FROM lane_{lane} WHERE number > ?1 ORDER BY number");
        let mut select = self.connection.prepare_cached(&select)?;
        let mut rows = select.query(params![self.next])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            self.next = row.get(0)?;
            take(row.get_ref(1)?.as_blob()?);
            count += 1;
        }
        Ok(count)
    }
}

impl Random for Reader {
    fn get(&mut self, number: u64, tally: &mut Tally) -> Result<()> {
        let mut select = self.connection.prepare_cached("SELECT record FROM lane_0 WHERE number = ?1")?;
        let mut rows = select.query(params![number as i64 + 1])?;
        tally.take(rows.next()?.ok_or("no record there")?.get_ref(0)?.as_blob()?);
        Ok(())
    }
}

impl Tail for Reader {
    fn next(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<usize> {
        self.read(0, take)
    }
}
