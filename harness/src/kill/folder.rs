//! What stays on the disk between rounds: the bus, a copy of it from before the last open, and what must be found in it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::KillError;
use super::ledger::Bounds;

/// A directory that is larger is not copied before each open: it would take longer than the round.
const MAX_COPY_BYTES: u64 = 256 << 20;

/// The directory of a campaign.
#[derive(Debug)]
pub(super) struct Folder {
    directory: PathBuf,
    scenario: String,
}

/// What is written down between rounds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Notes {
    scenario: String,
    bounds: Bounds,
}

impl Folder {
    /// Goes on with the campaign in `directory`, or begins one.
    pub(super) fn open(directory: &Path, scenario: &str) -> Result<(Self, Bounds), KillError> {
        fs::create_dir_all(directory).map_err(KillError::io("create", directory))?;
        let folder = Self {
            directory: directory.to_owned(),
            scenario: scenario.to_owned(),
        };
        let path = folder.notes();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries =
                    fs::read_dir(directory).map_err(KillError::io("list", directory))?;
                if entries.next().is_some() {
                    return Err(KillError::NotEmpty {
                        directory: directory.to_owned(),
                    });
                }
                return Ok((folder, Bounds::default()));
            }
            Err(error) => return Err(KillError::io("read", path)(error)),
        };
        let notes: Notes = serde_json::from_str(&text).map_err(|error| KillError::Notes {
            path,
            why: error.to_string(),
        })?;
        if notes.scenario != scenario {
            return Err(KillError::OtherCampaign {
                directory: directory.to_owned(),
                found: notes.scenario,
                wanted: scenario.to_owned(),
            });
        }
        Ok((folder, notes.bounds))
    }

    /// The directory of the bus.
    pub(super) fn bus(&self) -> PathBuf {
        self.directory.join("bus")
    }

    fn copy(&self) -> PathBuf {
        self.directory.join("before")
    }

    fn notes(&self) -> PathBuf {
        self.directory.join("campaign.json")
    }

    /// Writes down what the next open must come to.
    pub(super) fn note(&self, bounds: Bounds) -> Result<(), KillError> {
        let notes = Notes {
            scenario: self.scenario.clone(),
            bounds,
        };
        let path = self.notes();
        let text = serde_json::to_string_pretty(&notes)
            .map_err(|error| KillError::io("write", &path)(error.into()))?;
        fs::write(&path, text + "\n").map_err(KillError::io("write", path))
    }

    /// Whether there is a bus.
    pub(super) fn has_bus(&self) -> bool {
        self.bus().exists()
    }

    /// Bytes of the files of the bus.
    pub(super) fn bus_bytes(&self) -> Result<u64, KillError> {
        let bus = self.bus();
        if !bus.exists() {
            return Ok(0);
        }
        let sum = || -> io::Result<u64> {
            fs::read_dir(&bus)?.try_fold(0, |sum, entry| Ok(sum + entry?.metadata()?.len()))
        };
        sum().map_err(KillError::io("list", bus.as_path()))
    }

    /// Copies the bus aside, as evidence in case that the next open, which may cut the log, finds something wrong.
    pub(super) fn keep_copy(&self) -> Result<(), KillError> {
        let (bus, copy) = (self.bus(), self.copy());
        remove(&copy)?;
        if !bus.exists() || self.bus_bytes()? > MAX_COPY_BYTES {
            return Ok(());
        }
        fs::create_dir_all(&copy).map_err(KillError::io("create", copy.as_path()))?;
        let copy_all = || -> io::Result<()> {
            for entry in fs::read_dir(&bus)? {
                let entry = entry?;
                fs::copy(entry.path(), copy.join(entry.file_name()))?;
            }
            Ok(())
        };
        copy_all().map_err(KillError::io("copy", bus.as_path()))
    }

    /// Puts the copy in the place of the bus, and keeps what became of it beside.
    pub(super) fn restore_copy(&self) -> Result<(), KillError> {
        let (bus, copy) = (self.bus(), self.copy());
        if !copy.exists() {
            return Ok(());
        }
        let after = self.directory.join("after");
        remove(&after)?;
        fs::rename(&bus, &after).map_err(KillError::io("rename", bus.as_path()))?;
        fs::rename(&copy, &bus).map_err(KillError::io("rename", copy.as_path()))
    }

    /// Removes the bus and its copy.
    pub(super) fn clear(&self) -> Result<(), KillError> {
        remove(&self.bus())?;
        remove(&self.copy())
    }
}

fn remove(directory: &Path) -> Result<(), KillError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KillError::io("remove", directory)(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_survive_and_other_directories_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (folder, bounds) = Folder::open(directory.path(), "a.yaml").unwrap();
        assert_eq!(bounds, Bounds::default());
        let noted = Bounds {
            at_least: 3,
            at_most: Some(5),
        };
        folder.note(noted).unwrap();
        assert_eq!(Folder::open(directory.path(), "a.yaml").unwrap().1, noted);
        let other = Folder::open(directory.path(), "b.yaml").unwrap_err();
        assert!(matches!(other, KillError::OtherCampaign { .. }));
        fs::write(folder.notes(), "no notes").unwrap();
        let broken = Folder::open(directory.path(), "a.yaml").unwrap_err();
        assert!(matches!(broken, KillError::Notes { .. }));
        fs::remove_file(folder.notes()).unwrap();
        fs::write(directory.path().join("letter.txt"), "mine").unwrap();
        let foreign = Folder::open(directory.path(), "a.yaml").unwrap_err();
        assert!(matches!(foreign, KillError::NotEmpty { .. }));
    }
}
