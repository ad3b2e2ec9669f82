//! What must hold of any files, whatever is in them.

use std::sync::Arc;

use mmsb_engine::{
    Bus, Digest, Durability, Lsn, Options, RecoveryError, Replayed, SteppingClock, Storage,
    replay_from,
};
use mmsb_harness::world::SimulatedStorage;

/// Room for the pages of a small log, and so little that a lie about a length is found out.
const ARENA_BYTES: u64 = 16 << 20;

fn options(appliers: usize) -> Options {
    Options {
        arena_bytes: ARENA_BYTES,
        segment_bytes: 8192,
        appliers,
        ..Options::default()
    }
}

/// A directory with these files.
pub fn storage(files: &[(String, Vec<u8>)]) -> SimulatedStorage {
    let storage = SimulatedStorage::new();
    for (name, bytes) in files {
        let file = storage
            .create(name)
            .expect("simulated storage creates files");
        file.write_all_at(bytes, 0)
            .expect("simulated storage writes");
        file.sync().expect("simulated storage syncs");
    }
    storage.sync_names().expect("simulated storage syncs names");
    storage
}

/// What a rebuilt state amounts to: its LSN, its digest if all of it can be read, or the kind of the error.
type Verdict = Result<(Lsn, Option<Digest>), &'static str>;

fn replayed(result: Result<Replayed, RecoveryError>) -> Verdict {
    match result {
        Ok(state) => {
            let lsn = state.lsn();
            for page in state.pages() {
                let info = state.info(page).expect("a listed page is known");
                if let Ok(bytes) = state.read(page) {
                    assert_eq!(bytes.len() as u64, info.len_bytes);
                }
            }
            Ok((lsn, state.digest().ok()))
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            Err(error.kind())
        }
    }
}

/// Nothing panics, the number of appliers makes no difference, and what an open accepts can be worked with and opened again.
pub fn files(files: &[(String, Vec<u8>)]) {
    let _ = replayed_and_opened(files);
}

/// As [`files`], for a log without checkpoints: there is one way to read it, so an open comes to the same as a replay.
pub fn log(files: &[(String, Vec<u8>)]) {
    match replayed_and_opened(files) {
        // An open creates what is not there.
        (Err("log.none"), Ok((Lsn::ZERO, _))) => {}
        (replayed, opened) => {
            assert_eq!(replayed, opened, "replay and open come to different states")
        }
    }
}

fn replayed_and_opened(files: &[(String, Vec<u8>)]) -> (Verdict, Verdict) {
    let directory = storage(files);
    let one = replayed(replay_from(&directory, None, &options(1)));
    let two = replayed(replay_from(&directory, None, &options(2)));
    assert_eq!(one, two, "one applier and two come to different states");
    let before = storage(files).files();
    assert_eq!(directory.files(), before, "a replay changed files");
    (one, opened(&directory))
}

fn open(directory: &SimulatedStorage) -> Result<Bus, &'static str> {
    let clock = Arc::new(SteppingClock::new(0, 1));
    let bus = Bus::open_with(Arc::new(directory.clone()), clock, options(1));
    bus.map_err(|error| {
        assert!(!error.to_string().is_empty());
        error.kind()
    })
}

/// What the first open comes to, after trying what follows from it.
fn opened(directory: &SimulatedStorage) -> Verdict {
    let before = directory.files();
    let bus = match open(directory) {
        Ok(bus) => bus,
        Err(kind) => {
            assert_eq!(before, directory.files(), "a refused open changed files");
            return Err(kind);
        }
    };
    let first = (bus.last_lsn(), bus.digest().ok());
    drop(bus);
    let bus = open(directory).expect("what was opened opens again");
    assert_eq!(
        first,
        (bus.last_lsn(), bus.digest().ok()),
        "a second open differs"
    );
    // LSNs that no log will ever come to are not worth a carry.
    if first.0.0 > u64::MAX - 16 {
        return Ok(first);
    }
    let mut transaction = bus.begin();
    let committed = transaction
        .allocate(64)
        .and_then(|page| transaction.write(page, 0, b"after"))
        .and_then(|()| transaction.commit(Durability::Sync));
    let checkpoint = bus.checkpoint().is_ok();
    let (lsn, digest) = (bus.last_lsn(), bus.digest().ok());
    bus.close().expect("nothing is wrong with the storage");
    let bus = open(directory).expect("what was worked with opens again");
    assert_eq!(
        (lsn, digest),
        (bus.last_lsn(), bus.digest().ok()),
        "work after recovery is lost ({:?}, checkpoint {checkpoint})",
        committed.map(|commit| commit.lsn)
    );
    Ok(first)
}
