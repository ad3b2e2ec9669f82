//! Evicted pages come back from the log of their bus.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Weak};

use crate::sync::RwLock;

use crate::device::DeviceError;
use crate::log::discover::discover;
use crate::log::writer::LogWriter;
use crate::lsn::Lsn;
use crate::options::Options;
use crate::page::PageIndex;
use crate::planted::planted;
use crate::recovery::{RecoveryError, Target, rebuild_to};
use crate::refill::{self, Source, Stop};
use crate::state::State;
use crate::state::device::{PageSource, Pipe, Sink};
use crate::storage::Storage;

/// So often the log is read again where it seemed not to be as it should: somebody may have been writing behind what is needed.
const TRIES: usize = 3;

/// The log, for pages of the state that it is the log of.
pub(crate) struct LogSource {
    pub(crate) state: Weak<State>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) log: Arc<LogWriter>,
    pub(crate) options: Options,
    /// Held shared while files are read, exclusively by who removes some.
    pub(crate) files: Arc<RwLock<()>>,
}

impl LogSource {
    /// Hands what is buffered to the operating system. What was committed up to the LSN that it gives can be read then.
    fn flushed(&self) -> Result<Lsn, String> {
        let last_lsn = self.log.last_lsn();
        let flushed = self.log.flush(last_lsn);
        flushed.map_err(|poison| poison.to_string())?;
        if planted!(RefillMissesLast) {
            return Ok(last_lsn.previous());
        }
        Ok(last_lsn)
    }

    fn read_once(
        &self,
        pages: &[Range<u64>],
        last_lsn: Lsn,
    ) -> Result<Vec<Vec<u8>>, RecoveryError> {
        let pages_bytes = self
            .state
            .upgrade()
            .and_then(|state| state.device_pages_bytes());
        let sink = Arc::new(Sink::new(pages_bytes.unwrap_or_default(), pages));
        let options = Options {
            device: None,
            progress: None,
            ..self.options.clone()
        };
        let target = Target::Sink(&sink);
        rebuild_to(target, &*self.storage, &options, Some(last_lsn), false)?;
        Ok(sink.take())
    }
}

impl PageSource for LogSource {
    fn fill(&self, pages: &[PageIndex], pipe: &Pipe<'_>) -> Result<bool, DeviceError> {
        let (Some(state), Ok(last_lsn)) = (self.state.upgrade(), self.flushed()) else {
            return Ok(false);
        };
        let _files = self.files.read();
        let births = pages.iter().filter_map(|page| state.table.slot(*page));
        let first = births.map(|slot| slot.born()).min().unwrap_or_default();
        let Ok(Some(map)) = discover(&*self.storage) else {
            return Ok(false);
        };
        if first == 0 {
            // One came with a checkpoint.
            return Ok(false);
        }
        let wanted: BTreeSet<PageIndex> = pages.iter().copied().collect();
        let source = Source {
            storage: &*self.storage,
            map: &map,
            state: &state,
            last_lsn,
            first_lsn: Lsn(first),
            workers: self.options.appliers,
            wanted: Some(&wanted),
        };
        match refill::fill(&source, pipe) {
            Ok(_) => Ok(true),
            Err(Stop::Device(error)) => Err(error),
            Err(Stop::Irregular(_)) => Ok(false),
        }
    }

    fn read(&self, pages: &[Range<u64>]) -> Result<Vec<Vec<u8>>, String> {
        let last_lsn = self.flushed()?;
        let _files = self.files.read();
        let mut tries = TRIES;
        loop {
            tries -= 1;
            match self.read_once(pages, last_lsn) {
                Ok(contents) => return Ok(contents),
                Err(RecoveryError::Log(_)) if tries > 0 => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn flush(&self) -> Result<(), String> {
        self.flushed().map(|_| ())
    }
}
