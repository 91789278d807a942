//! A file that retention removes during a sync is no lost file: P10.

use std::sync::Arc;

use super::steps::scratch;
use crate::log::sys::fault::set_hook;
use crate::{Clock, Maintenance, ManualClock, Retention, SECOND, StreamOptions, Timestamp};

#[test]
fn p10_a_file_that_retention_removes_during_a_sync_is_no_reason_to_poison() {
    let scratch = scratch();
    let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1_700_000_000_000)));
    let options =
        StreamOptions::new().clock(clock.clone() as Arc<dyn Clock>).maintenance(Maintenance::Manual);
    let stream = options.open(scratch.path().join("stream")).unwrap();
    stream.put("key", "data").unwrap();
    clock.advance(10 * SECOND);
    let (other, mut removed) = (stream.clone(), None);
    set_hook(Some(Box::new(move |action, file| {
        if action == "sync"
            && file.extension().is_some_and(|extension| extension == "seg")
            && removed.is_none()
        {
            removed = Some(file.to_owned());
            let retention = std::thread::spawn({
                let other = other.clone();
                move || other.set_retention(Retention::age(SECOND))
            });
            retention.join().unwrap().unwrap();
            assert!(!file.exists(), "otherwise this proves nothing");
        }
        Ok(())
    })));
    let synced = stream.sync();
    set_hook(None);
    synced.expect("P10");
    stream.put("key", "data").expect("P10");
    stream.sync().unwrap();
}
