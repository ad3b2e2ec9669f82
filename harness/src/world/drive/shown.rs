//! Bytes that a bus shows, and events that it tells.

use std::marker::PhantomData;
use std::ops::Deref;

use mmsb_engine::{PageId, ReadGuard, Subscription, View};
use mmsb_ffi::events::{mmsb_event, mmsb_events_close, mmsb_events_next};
use mmsb_ffi::status::{MMSB_BUFFER_TOO_SMALL, MMSB_NOTHING};
use mmsb_ffi::view::{mmsb_bytes, mmsb_view_page, mmsb_view_release};

use super::refused::Refused;

/// A view of the C ABI, which is released with this.
pub(crate) struct Held<'a> {
    handle: u64,
    pages: Vec<(PageId, mmsb_bytes)>,
    _of: PhantomData<&'a ()>,
}

impl Held<'_> {
    /// Asks a view where its `count` pages are.
    pub(super) fn new(handle: u64, count: usize) -> Result<Self, Refused> {
        let mut held = Self {
            handle,
            pages: Vec::with_capacity(count),
            _of: PhantomData,
        };
        for position in 0..count {
            let (mut page, mut bytes) = (0, nowhere());
            // SAFETY: both pointers are to variables of their types.
            let status = unsafe { mmsb_view_page(handle, position, &mut page, &mut bytes) };
            Refused::check(status)?;
            held.pages.push((PageId::from_bits(page), bytes));
        }
        Ok(held)
    }

    /// A view of one page, that told where it is when it was opened.
    pub(super) fn of_one(handle: u64, page: PageId, bytes: mmsb_bytes) -> Self {
        Self {
            handle,
            pages: vec![(page, bytes)],
            _of: PhantomData,
        }
    }

    fn bytes(&self, bytes: &mmsb_bytes) -> &[u8] {
        if bytes.len == 0 {
            return &[];
        }
        // SAFETY: the view promises so many bytes there that nobody writes to, until it is released, which this does.
        unsafe { std::slice::from_raw_parts(bytes.data, bytes.len as usize) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        mmsb_view_release(self.handle);
    }
}

pub(super) const fn nowhere() -> mmsb_bytes {
    mmsb_bytes {
        data: std::ptr::null(),
        len: 0,
    }
}

/// The bytes of a page.
pub(crate) enum Bytes<'a> {
    Guard(ReadGuard<'a>),
    Held(Held<'a>),
    Copied(Vec<u8>),
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Guard(guard) => guard,
            Self::Held(held) => held
                .pages
                .first()
                .map_or(&[], |(_, bytes)| held.bytes(bytes)),
            Self::Copied(bytes) => bytes,
        }
    }
}

/// Pages as of one moment.
pub(crate) enum Cut<'a> {
    Guard(View<'a>),
    Held(Held<'a>),
}

impl Cut<'_> {
    /// All pages, in the order in which they were asked for.
    pub(crate) fn pages(&self) -> Vec<(PageId, &[u8])> {
        match self {
            Self::Guard(view) => view.pages().collect(),
            Self::Held(held) => {
                let pages = held.pages.iter();
                pages
                    .map(|(page, bytes)| (*page, held.bytes(bytes)))
                    .collect()
            }
        }
    }

    /// The bytes of one of them.
    pub(crate) fn page(&self, page: PageId) -> Option<&[u8]> {
        let pages = self.pages().into_iter();
        pages
            .filter(|(id, _)| *id == page)
            .map(|(_, bytes)| bytes)
            .next()
    }
}

/// Events that wait to be taken.
#[derive(Debug)]
pub(crate) enum Queue {
    Rust(Subscription),
    C(Subscribed),
}

/// A subscription of the C ABI, which ends with this.
#[derive(Debug)]
pub(crate) struct Subscribed(pub(super) u64);

impl Drop for Subscribed {
    fn drop(&mut self) {
        mmsb_events_close(self.0);
    }
}

/// What waited: LSN and pages of each event, and how many were lost.
pub(crate) struct Taken {
    pub(crate) events: Vec<(u64, Vec<PageId>)>,
    pub(crate) lost: u64,
}

impl Queue {
    /// Takes all that waits.
    pub(crate) fn drain(&self) -> Result<Taken, Refused> {
        match self {
            Self::Rust(subscription) => {
                let drained = subscription.drain();
                let events = drained.events.iter();
                Ok(Taken {
                    events: events
                        .map(|event| (event.lsn.0, event.pages.to_vec()))
                        .collect(),
                    lost: drained.lost,
                })
            }
            Self::C(subscribed) => subscribed.drain(),
        }
    }
}

impl Subscribed {
    fn drain(&self) -> Result<Taken, Refused> {
        let mut taken = Taken {
            events: Vec::new(),
            lost: 0,
        };
        // Few, so that events which do not fit are met.
        let mut ids = vec![0; 2];
        loop {
            let mut event = mmsb_event {
                size: size_of::<mmsb_event>() as u64,
                ..mmsb_event::default()
            };
            let mut needed = 0;
            // SAFETY: the structure says its size, and the buffer has that length.
            let status = unsafe {
                mmsb_events_next(self.0, &mut event, ids.as_mut_ptr(), ids.len(), &mut needed)
            };
            match status {
                MMSB_NOTHING => return Ok(taken),
                MMSB_BUFFER_TOO_SMALL => ids.resize(needed, 0),
                status => {
                    Refused::check(status)?;
                    let pages = ids.iter().take(needed).copied();
                    taken.lost += event.lost;
                    taken
                        .events
                        .push((event.lsn, pages.map(PageId::from_bits).collect()));
                }
            }
        }
    }
}
