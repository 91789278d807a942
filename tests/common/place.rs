//! An in-memory place for an archive, which can be made to fail.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use streamlog::Archive;

#[derive(Debug, Clone, Default)]
pub struct Place(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub struct State {
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Fails every call.
    pub is_away: bool,
    /// Fails every call that fetches an object.
    pub hands_nothing_out: bool,
    /// Fails after this many more calls that change something; some fail after the change was made.
    pub puts_left: Option<u32>,
    /// Only one of them fails.
    pub fails_once: bool,
    pub fetched: Vec<String>,
    pub list_count: u32,
}

impl Place {
    pub fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock())
    }

    pub fn set_away(&self, is_away: bool) {
        self.0.lock().is_away = is_away;
    }

    /// Returns the names of the archived segments.
    pub fn segments(&self) -> Vec<String> {
        self.0.lock().objects.keys().filter(|name| name.starts_with("shards/")).cloned().collect()
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        if self.is_away { Err(io::Error::other("the network is gone")) } else { Ok(()) }
    }
}

impl Archive for Place {
    fn locate(&self, name: &str) -> String {
        format!("memory://{name}")
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let mut state = self.0.lock();
        state.check()?;
        state.list_count += 1;
        Ok(state.objects.keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    fn get(&self, name: &str, into: &mut dyn Write) -> io::Result<()> {
        let bytes = {
            let mut state = self.0.lock();
            state.check()?;
            if state.hands_nothing_out {
                return Err(io::Error::other("the network is gone"));
            }
            state.fetched.push(name.to_owned());
            state.objects.get(name).cloned().ok_or(io::ErrorKind::NotFound)?
        };
        bytes.chunks(10_000).try_for_each(|chunk| into.write_all(chunk))
    }

    fn put(&self, name: &str, from: &mut dyn Read) -> io::Result<()> {
        let mut bytes = vec![];
        from.read_to_end(&mut bytes)?;
        let mut state = self.0.lock();
        state.check()?;
        if let Some(left) = &mut state.puts_left {
            let is_last = *left == 0;
            *left = left.saturating_sub(1);
            if is_last {
                state.puts_left = state.puts_left.filter(|_| !state.fails_once);
                if bytes.len() % 2 == 1 {
                    state.objects.insert(name.to_owned(), bytes);
                }
                return Err(io::Error::other("the connection is lost"));
            }
        }
        state.objects.insert(name.to_owned(), bytes);
        Ok(())
    }
}
