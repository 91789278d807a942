//! Rows that wait for the end of a window of their key.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;

use super::columns::{Bounds, Micros, Result, windowed_schema, with_windows};
use super::keys::{Keys, KeysOf};
use super::operator::Held;
use super::store::{Place, Store};

/// A row that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) time: Micros,
    pub(super) input: u32,
    place: Place,
}

/// The rows of all keys.
#[derive(Debug)]
pub(super) struct Keyed {
    keys: Keys,
    /// The rows of each input.
    stores: Vec<Store>,
    windowed: Vec<SchemaRef>,
    /// When to check which key: no later than its next window ends. Entries may be out of date.
    due: BinaryHeap<Reverse<(Micros, u32)>>,
}

/// A batch that was added: the data that is needed to iterate over its rows.
#[derive(Debug)]
pub(super) struct Added {
    pub(super) times: Vec<Micros>,
    keys: KeysOf,
    input: u32,
    batch: u32,
}

impl Keyed {
    pub(super) fn new(schemas: &[SchemaRef], keys: &[String]) -> Result<Self> {
        Ok(Self {
            keys: Keys::new(schemas, keys)?,
            stores: schemas.iter().cloned().map(Store::new).collect(),
            windowed: schemas.iter().map(|schema| windowed_schema(schema)).collect(),
            due: BinaryHeap::new(),
        })
    }

    pub(super) fn keys_of(&mut self, input: usize, rows: &RecordBatch) -> Result<KeysOf> {
        self.keys.of(input, rows)
    }

    pub(super) fn known(&self, keys: &KeysOf, row: usize) -> Option<u32> {
        self.keys.known(keys, row)
    }

    pub(super) fn add(&mut self, input: usize, rows: RecordBatch) -> Result<Added> {
        let times = super::columns::times(&rows)?.to_vec();
        let keys = self.keys.of(input, &rows)?;
        let batch = self.stores[input].add(rows);
        Ok(Added { times, keys, input: input as u32, batch })
    }

    /// Returns the number of a row's key, and the row.
    pub(super) fn row(&mut self, added: &Added, row: usize) -> (u32, Waiting) {
        let waiting =
            Waiting { time: added.times[row], input: added.input, place: (added.batch, row as u32) };
        (self.keys.number(&added.keys, row), waiting)
    }

    pub(super) fn forget(&mut self, key: u32) {
        self.keys.forget(key);
    }

    /// Schedules a check of a key for when the watermark gets there.
    pub(super) fn look_at(&mut self, key: u32, watermark: Micros) {
        self.due.push(Reverse((watermark, key)));
    }

    /// Returns when to check which key next.
    pub(super) fn next_look(&self) -> Option<(Micros, u32)> {
        self.due.peek().map(|Reverse(look)| *look)
    }

    pub(super) fn take_look(&mut self) {
        self.due.pop();
    }

    /// Removes rows, with the windows that they were in. Returns those of each input.
    pub(super) fn release(&mut self, windows: &[(Bounds, Vec<Waiting>)]) -> Result<Vec<Vec<RecordBatch>>> {
        let mut tables = vec![];
        for (input, (store, schema)) in self.stores.iter_mut().zip(&self.windowed).enumerate() {
            let (mut places, mut starts, mut ends) = (vec![], vec![], vec![]);
            for ((start, end), rows) in windows {
                for row in rows.iter().filter(|row| row.input == input as u32) {
                    places.push(row.place);
                    starts.push(*start);
                    ends.push(*end);
                }
            }
            if places.is_empty() {
                tables.push(vec![]);
                continue;
            }
            tables.push(vec![with_windows(&store.gather(&places)?, schema, starts, ends)?]);
            store.drop_rows(&places);
        }
        Ok(tables)
    }

    /// Compacts the rows if that frees memory. `all` returns all waiting rows.
    pub(super) fn tidy<'a>(&mut self, all: impl IntoIterator<Item = &'a mut Waiting>) -> Result<()> {
        if !self.stores.iter().any(Store::is_scattered) {
            return Ok(());
        }
        let mut places: Vec<Vec<&mut Place>> = self.stores.iter().map(|_| vec![]).collect();
        for row in all {
            places[row.input as usize].push(&mut row.place);
        }
        for (store, places) in self.stores.iter_mut().zip(&mut places) {
            if store.is_scattered() {
                store.put_together(places)?;
            }
        }
        Ok(())
    }

    /// Returns these rows in batches, each with its input.
    pub(super) fn snapshot<'a>(
        &self,
        all: impl IntoIterator<Item = &'a Waiting>,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let mut places: Vec<Vec<Place>> = self.stores.iter().map(|_| vec![]).collect();
        for row in all {
            places[row.input as usize].push(row.place);
        }
        let mut batches = vec![];
        for (input, (store, places)) in self.stores.iter().zip(&places).enumerate() {
            for places in places.chunks(SNAPSHOT_ROWS) {
                batches.push((input, store.gather(places)?));
            }
        }
        Ok(batches)
    }

    pub(super) fn held(&self) -> Held {
        let of_keys = Held { rows: 0, bytes: self.keys.bytes() + self.due.len() * 16 };
        let with_places = |held: Held| Held { bytes: held.bytes + held.rows * size_of::<Waiting>(), ..held };
        self.stores.iter().map(|store| with_places(store.held())).fold(of_keys, Held::plus)
    }
}

const SNAPSHOT_ROWS: usize = 8_192;
