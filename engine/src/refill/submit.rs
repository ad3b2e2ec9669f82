//! Giving slots to the device in the order of the log, and taking them back when it is done with them.

use std::collections::VecDeque;

use super::prepare::{Part, Prepared};
use super::{Slot, Stop};
use crate::checksum::crc32c_combine;
use crate::state::device::{Pipe, Sent};

/// A slot that the device has.
struct UnderWay<'a> {
    slot: Slot<'a>,
    sent: Sent,
}

pub(super) struct Submitter<'p, 'a> {
    pipe: &'p Pipe<'a>,
    under_way: VecDeque<UnderWay<'a>>,
    /// The checksum of the long record so far.
    crc: u32,
    slots: usize,
}

impl<'p, 'a> Submitter<'p, 'a> {
    pub(super) fn new(pipe: &'p Pipe<'a>, slots: usize) -> Self {
        Self {
            pipe,
            under_way: VecDeque::new(),
            crc: 0,
            slots,
        }
    }

    /// Gives a slot to the device, or back if it holds nothing for it.
    pub(super) fn submit(
        &mut self,
        slot: Slot<'a>,
        prepared: Prepared,
    ) -> Result<Option<Slot<'a>>, Stop> {
        if let Some(part) = prepared.part {
            self.check(&part)?;
        }
        let Some((tables, sum)) = prepared.batch else {
            return Ok(Some(slot));
        };
        let sent = self.pipe.send(slot.range(), tables, sum)?;
        self.under_way.push_back(UnderWay { slot, sent });
        Ok(None)
    }

    /// Follows the checksum of a long record. What was applied of one that is not intact is undone by the caller, who starts over.
    fn check(&mut self, part: &Part) -> Result<(), Stop> {
        self.crc = if part.is_first {
            part.crc
        } else {
            crc32c_combine(self.crc, part.crc, part.len_bytes)
        };
        match part.body_crc {
            Some(crc) if crc != self.crc => Err(Stop::Irregular("a long record is not intact")),
            _ => Ok(()),
        }
    }

    /// Whether the device has so many slots that others may have to wait for one.
    pub(super) fn holds_most(&self) -> bool {
        self.under_way.len() * 2 > self.slots
    }

    /// The slot that was given to the device first, if it is done with it; `waits` until it is.
    pub(super) fn take_back(&mut self, waits: bool) -> Result<Option<Slot<'a>>, Stop> {
        let Some(first) = self.under_way.front() else {
            return Ok(None);
        };
        if !waits && !self.pipe.is_done(&first.sent)? {
            return Ok(None);
        }
        let Some(first) = self.under_way.pop_front() else {
            return Ok(None);
        };
        self.pipe.finish(&first.sent)?;
        Ok(Some(first.slot))
    }

    /// Waits for everything.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        while self.take_back(true)?.is_some() {}
        Ok(())
    }
}
