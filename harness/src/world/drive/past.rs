//! States of the past, by either way.

use mmsb_engine::{Digest, Lsn, PageId, Replayed};
use mmsb_ffi::host::adopt_replay;
use mmsb_ffi::replayed::{
    mmsb_replay_digest, mmsb_replay_lsn, mmsb_replay_pages, mmsb_replay_release, mmsb_replay_view,
};

use super::Info;
use super::across::{ids, too_many};
use super::refused::Refused;
use super::shown::{Bytes, Held};
use crate::scenario::ast::Via;

/// A state that was rebuilt from the log.
pub(crate) enum Past {
    Rust(Box<Replayed>),
    C(Handle),
}

/// A state behind a handle, which is released with this.
pub(crate) struct Handle(u64);

impl Drop for Handle {
    fn drop(&mut self) {
        mmsb_replay_release(self.0);
    }
}

impl Past {
    pub(crate) fn new(replayed: Replayed, via: Via) -> Result<Self, Refused> {
        Ok(match via {
            Via::Rust => Self::Rust(Box::new(replayed)),
            Via::C => Self::C(Handle(adopt_replay(replayed).ok_or_else(too_many)?)),
        })
    }

    pub(crate) fn lsn(&self) -> Lsn {
        match self {
            Self::Rust(replayed) => replayed.lsn(),
            Self::C(Handle(handle)) => {
                let mut lsn = 0;
                // SAFETY: the pointer is to a variable of its type. A call that fails leaves zero, which no scenario expects.
                unsafe { mmsb_replay_lsn(*handle, &mut lsn) };
                Lsn(lsn)
            }
        }
    }

    pub(crate) fn digest(&self) -> Result<Digest, Refused> {
        match self {
            Self::Rust(replayed) => Ok(replayed.digest()?),
            Self::C(Handle(handle)) => {
                let mut digest = [0; 32];
                // SAFETY: there are 32 bytes.
                Refused::check(unsafe { mmsb_replay_digest(*handle, digest.as_mut_ptr()) })?;
                Ok(Digest::from(digest))
            }
        }
    }

    pub(crate) fn pages(&self) -> Vec<PageId> {
        match self {
            Self::Rust(replayed) => replayed.pages(),
            Self::C(Handle(handle)) => ids(|room, capacity, needed| {
                // SAFETY: the buffer has that length.
                unsafe { mmsb_replay_pages(*handle, room, capacity, needed) }
            })
            .unwrap_or_default(),
        }
    }

    pub(crate) fn read(&self, page: PageId) -> Result<Bytes<'_>, Refused> {
        match self {
            Self::Rust(replayed) => Ok(Bytes::Guard(replayed.read(page)?)),
            Self::C(Handle(handle)) => {
                let (pages, mut view) = ([page.to_bits()], 0);
                // SAFETY: one id is there, and the pointer is to a variable of its type.
                Refused::check(unsafe { mmsb_replay_view(*handle, pages.as_ptr(), 1, &mut view) })?;
                Ok(Bytes::Held(Held::new(view, 1)?))
            }
        }
    }

    /// What is known of a page, where it is told.
    pub(crate) fn info(&self, page: PageId) -> Result<Option<Info>, Refused> {
        match self {
            Self::Rust(replayed) => Ok(Some(replayed.info(page)?.into())),
            Self::C(_) => Ok(None),
        }
    }
}
