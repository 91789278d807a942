//! Preparing blocks, pages and the next segment ahead of a busy writer, so that its puts meet neither page faults nor the file system.
//!
//! 1. What is to be prepared is looked up under the append lock.
//! 2. It is prepared without the lock. A crash leaves blocks that nobody uses, or a file that the next opening removes.
//! 3. The writer takes it over, unless it went on without it meanwhile.

use super::Shard;
use super::appender::WorkAhead;
use crate::log::segment::spare::Spare;
use crate::log::types::error::Result;

impl Shard {
    /// Prepares the next thing that pays for itself now; tells whether there was one.
    ///
    /// # Errors
    /// `StorageFull` and others, which do no harm: a put that needs blocks asks for them itself.
    pub(crate) fn prepare_ahead(&self) -> Result<bool> {
        let work = self.appender.lock().work_ahead();
        match work {
            None => return Ok(false),
            Some(WorkAhead::Growth(growth)) => {
                if !growth.carry_out()? {
                    return Ok(false);
                }
                self.appender.lock().take_over(&growth);
            }
            Some(WorkAhead::Spare) => {
                let spare = Spare::prepare(&self.dir, self.writing)?;
                self.appender.lock().keep_spares([spare]);
            }
            Some(WorkAhead::SparePages(pages)) => {
                pages.carry_out();
                self.appender.lock().note_prepared(&pages);
            }
        }
        Ok(true)
    }

    /// Lets go of prepared segments that puts come too slowly for.
    pub(crate) fn drop_idle_spares(&self) {
        let idle = self.appender.lock().take_idle_spares(self.clock.now());
        drop(idle);
    }

    /// Lets go of the prepared segments.
    pub(crate) fn drop_spares(&self) {
        self.appender.lock().drop_spares();
    }
}
