//! What is reserved, allocated, mapped and pinned; and whether an access is allowed.

use std::collections::BTreeMap;

use crate::codes::{self, Outcome};
use crate::physical::{self, GRANULE_BYTES, POISON, Physical};

/// What pinned memory holds before anybody wrote to it.
const PINNED_POISON: u8 = 0xdb;

#[derive(Debug)]
struct Allocation {
    offset: u64,
    len_bytes: u64,
    mappings: u32,
    is_released: bool,
}

#[derive(Debug)]
struct Mapping {
    len_bytes: u64,
    handle: u64,
    is_accessible: bool,
}

/// All memory that the driver knows.
#[derive(Debug)]
pub(crate) struct Memory {
    physical: Physical,
    allocations: BTreeMap<u64, Allocation>,
    next_handle: u64,
    reservations: BTreeMap<u64, u64>,
    mappings: BTreeMap<u64, Mapping>,
    /// Of `cuMemAlloc`: address, length.
    plain: BTreeMap<u64, u64>,
    plain_bytes: u64,
    pinned: BTreeMap<u64, u64>,
    pinned_bytes: u64,
    pinned_limit_bytes: u64,
    /// The last ranges that were given back, to name what a stale pointer meant.
    gone: Vec<(u64, u64)>,
}

impl Memory {
    pub(crate) fn new(memory_bytes: u64, pinned_limit_bytes: u64) -> Result<Self, String> {
        Ok(Self {
            physical: Physical::new(memory_bytes)?,
            allocations: BTreeMap::new(),
            next_handle: 1,
            reservations: BTreeMap::new(),
            mappings: BTreeMap::new(),
            plain: BTreeMap::new(),
            plain_bytes: 0,
            pinned: BTreeMap::new(),
            pinned_bytes: 0,
            pinned_limit_bytes,
            gone: Vec::new(),
        })
    }

    pub(crate) const fn total_bytes(&self) -> u64 {
        self.physical.capacity_bytes()
    }

    pub(crate) fn free_bytes(&self) -> u64 {
        self.physical.free_bytes().saturating_sub(self.plain_bytes)
    }

    pub(crate) fn reserve(&mut self, len_bytes: u64, alignment: u64) -> Outcome<u64> {
        let alignment = alignment.max(GRANULE_BYTES);
        if len_bytes == 0
            || !len_bytes.is_multiple_of(GRANULE_BYTES)
            || !alignment.is_power_of_two()
        {
            return Err(codes::INVALID_VALUE);
        }
        let start = physical::reserve(len_bytes, alignment).ok_or(codes::OUT_OF_MEMORY)?;
        self.reservations.insert(start, len_bytes);
        Ok(start)
    }

    /// A reservation goes whole, and empty.
    pub(crate) fn free_reservation(&mut self, start: u64, len_bytes: u64) -> Outcome {
        if self.reservations.get(&start) != Some(&len_bytes)
            || self
                .mappings
                .range(start..start + len_bytes)
                .next()
                .is_some()
        {
            return Err(codes::INVALID_VALUE);
        }
        self.reservations.remove(&start);
        physical::drop_addresses(start, len_bytes);
        self.remember_gone(start, len_bytes);
        Ok(())
    }

    pub(crate) fn create(&mut self, len_bytes: u64) -> Outcome<u64> {
        if len_bytes == 0 || !len_bytes.is_multiple_of(GRANULE_BYTES) {
            return Err(codes::INVALID_VALUE);
        }
        if len_bytes > self.free_bytes() {
            return Err(codes::OUT_OF_MEMORY);
        }
        let offset = self.physical.take(len_bytes).ok_or(codes::OUT_OF_MEMORY)?;
        let handle = self.next_handle;
        self.next_handle += 1;
        self.allocations.insert(
            handle,
            Allocation {
                offset,
                len_bytes,
                mappings: 0,
                is_released: false,
            },
        );
        Ok(handle)
    }

    /// The handle is of no use afterwards; memory that is still mapped stays until it is not.
    pub(crate) fn release(&mut self, handle: u64) -> Outcome {
        let allocation = self
            .allocations
            .get_mut(&handle)
            .filter(|allocation| !allocation.is_released)
            .ok_or(codes::INVALID_VALUE)?;
        allocation.is_released = true;
        self.drop_unused(handle);
        Ok(())
    }

    fn drop_unused(&mut self, handle: u64) {
        if let Some(allocation) = self.allocations.get(&handle)
            && allocation.is_released
            && allocation.mappings == 0
        {
            self.physical
                .give_back(allocation.offset, allocation.len_bytes);
            self.allocations.remove(&handle);
        }
    }

    /// Gives the memory of a handle, all of it, to part of a reservation that has none.
    pub(crate) fn map(&mut self, start: u64, len_bytes: u64, handle: u64) -> Outcome {
        let end = start.checked_add(len_bytes).ok_or(codes::INVALID_VALUE)?;
        let (reserved, reserved_len) = self
            .reservations
            .range(..=start)
            .next_back()
            .ok_or(codes::INVALID_VALUE)?;
        let is_taken = self
            .mappings
            .range(..end)
            .next_back()
            .is_some_and(|(at, mapping)| at + mapping.len_bytes > start);
        if end > reserved + reserved_len || is_taken || !start.is_multiple_of(GRANULE_BYTES) {
            return Err(codes::INVALID_VALUE);
        }
        let allocation = self
            .allocations
            .get_mut(&handle)
            .filter(|allocation| !allocation.is_released && allocation.len_bytes == len_bytes)
            .ok_or(codes::INVALID_VALUE)?;
        self.physical
            .map(start, len_bytes, allocation.offset)
            .map_err(|_| codes::OUT_OF_MEMORY)?;
        allocation.mappings += 1;
        self.mappings.insert(
            start,
            Mapping {
                len_bytes,
                handle,
                is_accessible: false,
            },
        );
        Ok(())
    }

    /// Allows access to whole mappings.
    pub(crate) fn set_access(&mut self, start: u64, len_bytes: u64) -> Outcome {
        let starts = self.whole_mappings(start, len_bytes)?;
        physical::allow_access(start, len_bytes).map_err(|_| codes::UNKNOWN)?;
        for at in starts {
            if let Some(mapping) = self.mappings.get_mut(&at) {
                mapping.is_accessible = true;
            }
        }
        Ok(())
    }

    /// Takes whole mappings back.
    pub(crate) fn unmap(&mut self, start: u64, len_bytes: u64) -> Outcome {
        let starts = self.whole_mappings(start, len_bytes)?;
        physical::unmap(start, len_bytes).map_err(|_| codes::UNKNOWN)?;
        for at in starts {
            if let Some(mapping) = self.mappings.remove(&at) {
                if let Some(allocation) = self.allocations.get_mut(&mapping.handle) {
                    allocation.mappings -= 1;
                }
                self.drop_unused(mapping.handle);
            }
        }
        self.remember_gone(start, len_bytes);
        Ok(())
    }

    /// The starts of the mappings that make up a range, without a gap.
    fn whole_mappings(&self, start: u64, len_bytes: u64) -> Outcome<Vec<u64>> {
        let end = start.checked_add(len_bytes).ok_or(codes::INVALID_VALUE)?;
        let mut starts = Vec::new();
        let mut at = start;
        while at < end {
            let mapping = self.mappings.get(&at).ok_or(codes::INVALID_VALUE)?;
            starts.push(at);
            at += mapping.len_bytes;
        }
        if starts.is_empty() || at != end {
            return Err(codes::INVALID_VALUE);
        }
        Ok(starts)
    }

    pub(crate) fn allocate_plain(&mut self, len_bytes: u64) -> Outcome<u64> {
        if len_bytes == 0 {
            return Err(codes::INVALID_VALUE);
        }
        if len_bytes > self.free_bytes() {
            return Err(codes::OUT_OF_MEMORY);
        }
        let start = physical::allocate(len_bytes, POISON).ok_or(codes::OUT_OF_MEMORY)?;
        self.plain.insert(start, len_bytes);
        self.plain_bytes += len_bytes;
        Ok(start)
    }

    pub(crate) fn free_plain(&mut self, start: u64) -> Outcome {
        let len_bytes = self.plain.remove(&start).ok_or(codes::INVALID_VALUE)?;
        self.plain_bytes -= len_bytes;
        physical::drop_addresses(start, len_bytes);
        self.remember_gone(start, len_bytes);
        Ok(())
    }

    pub(crate) fn pin(&mut self, len_bytes: u64) -> Outcome<u64> {
        if len_bytes == 0 {
            return Err(codes::INVALID_VALUE);
        }
        if self.pinned_bytes.saturating_add(len_bytes) > self.pinned_limit_bytes {
            return Err(codes::OUT_OF_MEMORY);
        }
        let start = physical::allocate(len_bytes, PINNED_POISON).ok_or(codes::OUT_OF_MEMORY)?;
        self.pinned.insert(start, len_bytes);
        self.pinned_bytes += len_bytes;
        Ok(start)
    }

    pub(crate) fn unpin(&mut self, start: u64) -> Outcome {
        let len_bytes = self.pinned.remove(&start).ok_or(codes::INVALID_VALUE)?;
        self.pinned_bytes -= len_bytes;
        physical::drop_addresses(start, len_bytes);
        self.remember_gone(start, len_bytes);
        Ok(())
    }

    fn remember_gone(&mut self, start: u64, len_bytes: u64) {
        const REMEMBERED: usize = 256;
        if self.gone.len() == REMEMBERED {
            self.gone.remove(0);
        }
        self.gone.push((start, len_bytes));
    }

    /// Whether the bytes are pinned, all of them in one piece.
    pub(crate) fn is_pinned(&self, start: u64, len_bytes: u64) -> bool {
        contains(&self.pinned, start, len_bytes)
    }

    /// Whether code on the device may access these bytes; otherwise, why not.
    pub(crate) fn check(&self, start: u64, len_bytes: u64) -> Result<(), String> {
        if len_bytes == 0
            || contains(&self.plain, start, len_bytes)
            || contains(&self.pinned, start, len_bytes)
        {
            return Ok(());
        }
        let end = start
            .checked_add(len_bytes)
            .ok_or_else(|| format!("{len_bytes} bytes at {start:#x} wrap around"))?;
        let mut at = start;
        while at < end {
            let mapping = self
                .mappings
                .range(..=at)
                .next_back()
                .filter(|(begin, mapping)| *begin + mapping.len_bytes > at);
            match mapping {
                Some((begin, mapping)) if mapping.is_accessible => at = begin + mapping.len_bytes,
                Some(_) => {
                    return Err(format!(
                        "{at:#x} is mapped, but cuMemSetAccess was not called"
                    ));
                }
                None => return Err(self.blame(start, len_bytes, at)),
            }
        }
        Ok(())
    }

    fn blame(&self, start: u64, len_bytes: u64, at: u64) -> String {
        let is_gone = self
            .gone
            .iter()
            .any(|(begin, len)| (*begin..begin + len).contains(&at));
        let why = if is_gone {
            "was given back"
        } else {
            "is no memory of the device"
        };
        format!("an access to {len_bytes} bytes at {start:#x}: {at:#x} {why}")
    }

    /// What was never given back, in words; empty if nothing.
    pub(crate) fn leaks(&self) -> Vec<String> {
        [
            (self.reservations.len(), "address reservations"),
            (self.allocations.len(), "allocations (cuMemCreate)"),
            (self.mappings.len(), "mappings"),
            (self.plain.len(), "allocations (cuMemAlloc)"),
            (self.pinned.len(), "pinned buffers"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect()
    }
}

fn contains(ranges: &BTreeMap<u64, u64>, start: u64, len_bytes: u64) -> bool {
    ranges
        .range(..=start)
        .next_back()
        .is_some_and(|(begin, len)| {
            start
                .checked_add(len_bytes)
                .is_some_and(|end| end <= begin + len)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: u64 = GRANULE_BYTES;

    fn memory() -> Memory {
        Memory::new(8 * G, 1 << 20).unwrap()
    }

    #[test]
    fn memory_is_accessible_where_it_is_mapped_and_nowhere_else() {
        let mut memory = memory();
        let start = memory.reserve(4 * G, 0).unwrap();
        assert!(memory.check(start, 1).is_err());
        let handle = memory.create(G).unwrap();
        memory.map(start + G, G, handle).unwrap();
        assert!(
            memory
                .check(start + G, 1)
                .unwrap_err()
                .contains("cuMemSetAccess")
        );
        memory.set_access(start + G, G).unwrap();
        memory.check(start + G, G).unwrap();
        assert!(memory.check(start + G, G + 1).is_err());
        assert!(memory.check(start + G - 1, 1).is_err());
        memory.unmap(start + G, G).unwrap();
        assert!(
            memory
                .check(start + G, 1)
                .unwrap_err()
                .contains("given back")
        );
    }

    #[test]
    fn memory_is_poisoned_and_survives_being_mapped_elsewhere() {
        let mut memory = memory();
        let start = memory.reserve(4 * G, 0).unwrap();
        let handle = memory.create(G).unwrap();
        memory.map(start, G, handle).unwrap();
        memory.set_access(start, G).unwrap();
        // SAFETY: mapped and accessible.
        unsafe {
            assert_eq!(*(start as *const u8), POISON);
            *(start as *mut u8) = 7;
        }
        memory.unmap(start, G).unwrap();
        memory.map(start + 2 * G, G, handle).unwrap();
        memory.set_access(start + 2 * G, G).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { *((start + 2 * G) as *const u8) }, 7);
        memory.unmap(start + 2 * G, G).unwrap();
        memory.release(handle).unwrap();
        let handle = memory.create(G).unwrap();
        memory.map(start, G, handle).unwrap();
        memory.set_access(start, G).unwrap();
        // SAFETY: as above.
        assert_eq!(unsafe { *(start as *const u8) }, POISON);
    }

    #[test]
    fn giving_back_twice_and_taking_too_much_are_errors() {
        let mut memory = memory();
        let handle = memory.create(G).unwrap();
        memory.release(handle).unwrap();
        assert_eq!(memory.release(handle), Err(codes::INVALID_VALUE));
        assert_eq!(memory.create(9 * G), Err(codes::OUT_OF_MEMORY));
        assert_eq!(memory.create(1), Err(codes::INVALID_VALUE));
        let plain = memory.allocate_plain(100).unwrap();
        memory.check(plain, 100).unwrap();
        assert!(memory.check(plain, 101).is_err());
        memory.free_plain(plain).unwrap();
        assert_eq!(memory.free_plain(plain), Err(codes::INVALID_VALUE));
        assert_eq!(memory.pin((1 << 20) + 1), Err(codes::OUT_OF_MEMORY));
        let pinned = memory.pin(10).unwrap();
        assert!(memory.is_pinned(pinned + 3, 7) && !memory.is_pinned(pinned + 3, 8));
        assert_eq!(memory.leaks(), ["1 pinned buffers"]);
        memory.unpin(pinned).unwrap();
        assert_eq!(memory.unpin(pinned), Err(codes::INVALID_VALUE));
        assert!(memory.leaks().is_empty());
    }

    #[test]
    fn mappings_do_not_overlap_and_go_whole() {
        let mut memory = memory();
        let start = memory.reserve(4 * G, 0).unwrap();
        let two = memory.create(2 * G).unwrap();
        memory.map(start, 2 * G, two).unwrap();
        let one = memory.create(G).unwrap();
        assert_eq!(memory.map(start + G, G, one), Err(codes::INVALID_VALUE));
        assert_eq!(memory.map(start + 4 * G, G, one), Err(codes::INVALID_VALUE));
        assert_eq!(memory.unmap(start, G), Err(codes::INVALID_VALUE));
        assert_eq!(
            memory.free_reservation(start, 4 * G),
            Err(codes::INVALID_VALUE)
        );
        memory.unmap(start, 2 * G).unwrap();
        memory.free_reservation(start, 4 * G).unwrap();
    }
}
