//! Files of the closed bus: damaged, removed and replaced from outside.

use mmsb_engine::Storage;

use super::failure::{Fault, Outcome};
use super::run::World;
use super::stage::Stage;
use crate::scenario::ast::{FileArg, OverwriteFile, TruncateFile, WriteFile};
use crate::scenario::data::{Data, MAX_LEN_BYTES};
use crate::scenario::value::{Artefact, FileRef, Which};

impl World<'_> {
    /// The storage, which no bus has open.
    fn closed_storage(&self) -> Outcome<std::sync::Arc<dyn Storage>> {
        if self.bus.is_some() {
            return Err(Fault::new("close the bus before its files are touched"));
        }
        self.meddled();
        self.disk.storage()
    }

    pub(crate) fn remove_file(&mut self, step: &FileArg) -> Outcome {
        let storage = self.closed_storage()?;
        storage.remove(&file_name(&*storage, &step.file)?)?;
        Ok(storage.sync_names()?)
    }

    pub(crate) fn overwrite_file(&mut self, step: &OverwriteFile) -> Outcome {
        let storage = self.closed_storage()?;
        let name = file_name(&*storage, &step.file)?;
        let at = step.at.eval(&self.stage.scope)?;
        let bytes = file_bytes(&self.stage, &step.data)?;
        let file = storage.open(&name, true)?;
        let len_bytes = file.len_bytes()?;
        if at
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > len_bytes)
        {
            let message = format!(
                "{} bytes at {at} are not inside of {name}, which has {len_bytes}",
                bytes.len()
            );
            return Err(Fault::new(message));
        }
        file.write_all_at(&bytes, at)?;
        Ok(file.sync()?)
    }

    pub(crate) fn truncate_file(&mut self, step: &TruncateFile) -> Outcome {
        let storage = self.closed_storage()?;
        let len_bytes = step.len.eval(&self.stage.scope)?;
        if len_bytes > MAX_LEN_BYTES {
            return Err(Fault::new(format!(
                "a file of {len_bytes} bytes is longer than any test needs"
            )));
        }
        let file = storage.open(&file_name(&*storage, &step.file)?, true)?;
        file.set_len(len_bytes)?;
        Ok(file.sync()?)
    }

    pub(crate) fn write_file(&mut self, step: &WriteFile) -> Outcome {
        let storage = self.closed_storage()?;
        let bytes = file_bytes(&self.stage, &step.data)?;
        let name = match &step.file {
            FileRef::Foreign(name) => name.clone(),
            own => file_name(&*storage, own)?,
        };
        let file = storage.create(&name)?;
        file.write_all_at(&bytes, 0)?;
        file.sync()?;
        Ok(storage.sync_names()?)
    }
}

/// The name on disk of a file that must exist.
fn file_name(storage: &dyn Storage, file: &FileRef) -> Outcome<String> {
    let (artefact, which) = match file {
        FileRef::Foreign(name) => return Ok(name.clone()),
        FileRef::Own { artefact, which } => (artefact, which),
    };
    let prefix = match artefact {
        Artefact::Log => "log-",
        Artefact::Manifest => "checkpoint-",
        Artefact::Images => "images-",
    };
    // Numbers in names have a fixed width, so their order is that of the names.
    let mut names = storage
        .list()?
        .into_iter()
        .filter(|name| name.starts_with(prefix));
    let found = match which {
        Which::First => names.next(),
        Which::Last => names.next_back(),
        Which::Nth(n) => usize::try_from(*n).ok().and_then(|n| names.nth(n)),
    };
    found.ok_or_else(|| Fault::new(format!("the bus has no file {file}")))
}

/// Bytes for a file: those of a page would need an open bus.
fn file_bytes(stage: &Stage, data: &Data) -> Outcome<Vec<u8>> {
    let bytes = data.to_bytes(&stage.scope, None)?;
    bytes
        .map(std::borrow::Cow::into_owned)
        .ok_or_else(|| Fault::new("the bus is closed, so there is no page to copy from"))
}
