//! The device of a bus: pages where they lie on it, what went wrong, and filling it anew from the log.

use super::{Bus, ReadError};
use crate::device::{DeviceError, DeviceInfo};
use crate::digest::Digest;
use crate::log::discover::discover;
use crate::lsn::Lsn;
use crate::page::{Location, PageId};
use crate::recovery::{RecoveryError, Target, rebuild_to};
use crate::refill::{self, Source, Stop};
use crate::state::State;
use crate::state::content::SharedLock;
use crate::state::detached::ViewHeld;
use crate::state::device::{DeviceSpace, Operand};
use crate::state::memory::DEVICE_START;
use crate::state::stripes::{Held, Patience, StripeSet};
use crate::state::structure::Structure;
use crate::state::table::Slot;

/// A page where it lies on the device: nothing is copied. Commits to the page wait until it is dropped and it is not evicted, so the
/// address is that of the page for as long as this lives, and no longer.
#[derive(Debug)]
pub struct DevicePage<'a> {
    pub(super) address: u64,
    pub(super) len_bytes: u64,
    pub(super) lsn: Lsn,
    pub(super) _resident: Resident<'a>,
    _held: Held,
    pub(super) _lock: SharedLock<'a>,
}

/// Keeps the memory at a place on the device from being evicted.
#[derive(Debug)]
pub(super) struct Resident<'a> {
    space: &'a DeviceSpace,
    place: u64,
}

impl Drop for Resident<'_> {
    fn drop(&mut self) {
        self.space.unpin(self.place);
    }
}

impl DevicePage<'_> {
    /// The address that code on the device has for the first byte. Everything that was committed is there; it must not be written to.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.address
    }

    /// Length of the page in bytes.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// LSN of the last transaction that wrote to the page; zero for none.
    #[must_use]
    pub const fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// What restoring a device came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceRestored {
    /// Pages on the device, derived ones included, and those that are evicted since not all fit.
    pub pages: u64,
    /// Their bytes.
    pub page_bytes: u64,
    /// The LSN after which the log was applied, if a checkpoint was used.
    pub checkpoint: Option<Lsn>,
    /// Transactions read from the log.
    pub applied: u64,
    /// Why the log could not simply be copied to the device, and a whole recovery was needed; `None` if it could.
    pub detour: Option<String>,
}

/// Why a device was not restored. It stays as it was: pages on it cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreDeviceError {
    /// The device fails still.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The files cannot be read, or what is buffered cannot be handed to them.
    #[error("the device cannot be restored from the log: {0}")]
    Log(String),
    /// The log and the state disagree on what is on the device.
    #[error("the log has page {page} elsewhere on the device than the bus; open the bus again")]
    Diverged {
        /// The first page.
        page: PageId,
    },
    /// The thread holds a read guard, for which this would wait for ever.
    #[error("this thread holds {guards} read guards or views of the bus; drop them first")]
    GuardHeld {
        /// How many.
        guards: usize,
    },
    /// Detached views are held, for which nobody waits.
    #[error("{views} detached views of the bus are held; release them first")]
    ViewHeld {
        /// How many hold the first lock that was needed.
        views: usize,
    },
}

impl RestoreDeviceError {
    /// A stable name for the kind of error, for scenarios and scripts.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Device(error) => error.kind(),
            Self::Log(_) => "device.log",
            Self::Diverged { .. } => "device.diverged",
            Self::GuardHeld { .. } => "guard.held",
            Self::ViewHeld { .. } => "view.held",
        }
    }
}

impl From<ViewHeld> for RestoreDeviceError {
    fn from(held: ViewHeld) -> Self {
        Self::ViewHeld { views: held.views }
    }
}

impl From<RecoveryError> for RestoreDeviceError {
    fn from(error: RecoveryError) -> Self {
        match error {
            RecoveryError::Device(error) => Self::Device(error),
            other => Self::Log(other.to_string()),
        }
    }
}

/// A log that is longer than this many times the pages on the device is read faster behind a checkpoint.
const LONG_LOG_RATIO: u64 = 8;
/// But never where it is shorter than this.
const LONG_LOG_BYTES: u64 = 256 << 20;

impl Bus {
    /// The device that pages are on; `None` as long as there was none.
    #[must_use]
    pub fn device(&self) -> Option<DeviceInfo> {
        self.state().device.get().map(|space| space.info().clone())
    }

    /// The error since which pages on the device mean nothing, if there was one. [`Bus::restore_device`] is the way out.
    #[must_use]
    pub fn device_fault(&self) -> Option<DeviceError> {
        self.state().device.get().and_then(|space| space.fault())
    }

    /// A page where it lies on the device, or the mirror of a unified page, for code that runs there. Waits until everything that was
    /// committed has arrived; brings the page back if it was evicted, and a mirror up to date.
    ///
    /// # Errors
    /// See [`ReadError`]; [`ReadError::NotOnDevice`] for a page in host memory.
    pub fn device_page(&self, page: PageId) -> Result<DevicePage<'_>, ReadError> {
        let state = self.state();
        let (slot, lock, operand) = state.lock_operand(page)?;
        let space = state.device_space();
        let pinned = space.and_then(|space| Ok((space, space.pin(operand)?)));
        let (space, place) = pinned.map_err(|fault| ReadError::Device { page, fault })?;
        Ok(DevicePage {
            _resident: Resident { space, place },
            address: space.address(place),
            len_bytes: slot.len_bytes(),
            lsn: Lsn(slot.lsn()),
            _held: state.count_guard(),
            _lock: lock,
        })
    }

    /// The digest of a page that is on the device, or of the mirror of a unified page, computed there: what code that runs there finds. It
    /// is that of the bytes that [`Bus::read`] gives.
    ///
    /// # Errors
    /// As [`Bus::device_page`].
    pub fn device_digest(&self, page: PageId) -> Result<Digest, ReadError> {
        let state = self.state();
        let (_, _lock, operand) = state.lock_operand(page)?;
        let digest = state
            .device_space()
            .and_then(|space| space.digest_of(operand));
        digest.map_err(|fault| ReadError::Device { page, fault })
    }

    /// Gives all memory for pages back to the device, for somebody else to use. Pages on it cannot be read or written to from then on;
    /// nothing is copied anywhere, since the log has it all, and [`Bus::restore_device`] brings it back.
    ///
    /// # Errors
    /// See [`RestoreDeviceError`].
    pub fn release_device(&self) -> Result<(), RestoreDeviceError> {
        let state = self.state();
        let guards = crate::state::stripes::held(state.stripes.owner());
        if guards > 0 {
            return Err(RestoreDeviceError::GuardHeld { guards });
        }
        let mut patience = Patience::new(&state.stripes);
        loop {
            let structure = state.structure.write();
            match state.stripes.try_exclusive(StripeSet::ALL) {
                Ok(_locked) => {
                    if let Some(space) = state.device.get() {
                        space.restart()?;
                        space.fail(&DeviceError::Released);
                    }
                    return Ok(());
                }
                Err(busy) => {
                    drop(structure);
                    state.stripes.refuse_detached(busy)?;
                    patience.wait_for(busy);
                }
            }
        }
    }

    /// Empties the device and fills it anew from the newest checkpoint and the log, or from the log alone; derived pages on it are
    /// recomputed. Nothing that is on it now is used. Commits and reads wait meanwhile.
    ///
    /// This is the way out after [`Bus::device_fault`]; pages in host memory are not touched, but for derived ones that were stale
    /// because of the fault.
    ///
    /// # Errors
    /// See [`RestoreDeviceError`].
    pub fn restore_device(&self) -> Result<DeviceRestored, RestoreDeviceError> {
        let state = self.state();
        let guards = crate::state::stripes::held(state.stripes.owner());
        if guards > 0 {
            return Err(RestoreDeviceError::GuardHeld { guards });
        }
        // No checkpoint may remove segments meanwhile.
        let checkpoints = self.checkpoints.lock();
        let mut patience = Patience::new(&state.stripes);
        loop {
            let structure = state.structure.write();
            match state.stripes.try_exclusive(StripeSet::ALL) {
                Ok(mut locked) => {
                    let restored = self.refill(&structure)?;
                    if let Some(space) = state.device.get() {
                        space.bring_derived()?;
                    }
                    state.recompute_device(&structure, &mut locked);
                    drop(checkpoints);
                    // The device may have failed once more while derived pages were computed.
                    if let Some(fault) = self.device_fault() {
                        return Err(fault.into());
                    }
                    return Ok(restored);
                }
                Err(busy) => {
                    drop(structure);
                    state.stripes.refuse_detached(busy)?;
                    patience.wait_for(busy);
                }
            }
        }
    }

    /// Fills the device with its base pages. The caller holds all locks, so nothing is under way.
    fn refill(&self, structure: &Structure) -> Result<DeviceRestored, RestoreDeviceError> {
        let state = self.state();
        let Some(space) = state.device.get() else {
            return Ok(DeviceRestored::default());
        };
        let last_lsn = self.log().last_lsn();
        if let Err(poison) = self.log().flush(last_lsn) {
            return Err(RestoreDeviceError::Log(poison.to_string()));
        }
        let result = match self.refill_from_log(structure, space, last_lsn) {
            Ok(restored) => Ok(restored),
            // It is the slow way that says what is wrong, if anything is.
            Err(stop) => self
                .refill_space(structure, space)
                .map(|restored| DeviceRestored {
                    detour: Some(stop.to_string()),
                    ..restored
                }),
        };
        if let Err(error) = &result {
            // It is neither what it was nor what it should be.
            space.fail(&DeviceError::Lost {
                reason: error.to_string(),
            });
        }
        result
    }

    /// The fast way: the log alone, if it reaches back to the birth of every page and is not much longer than they are.
    fn refill_from_log(
        &self,
        structure: &Structure,
        space: &std::sync::Arc<DeviceSpace>,
        last_lsn: Lsn,
    ) -> Result<DeviceRestored, Stop> {
        let state = self.state();
        let mut restored = DeviceRestored::default();
        let mut first_lsn = last_lsn;
        for (_, slot) in state.device_slots(structure) {
            restored.pages += 1;
            restored.page_bytes += slot.len_bytes();
            if slot.born() == 0 {
                return Err(Stop::Irregular("a page came with a checkpoint"));
            }
            first_lsn = first_lsn.min(Lsn(slot.born()));
        }
        let map = discover(&**self.storage()).ok().flatten();
        let map = map.ok_or(Stop::Irregular("the log cannot be read"))?;
        let needed = map.segments.iter().rev();
        let log_bytes: u64 = needed
            .take_while(|segment| segment.header.first_lsn >= first_lsn)
            .map(|segment| segment.len_bytes)
            .sum();
        if log_bytes
            > restored
                .page_bytes
                .saturating_mul(LONG_LOG_RATIO)
                .saturating_add(LONG_LOG_BYTES)
        {
            return Err(Stop::Irregular("the log is long"));
        }
        let source = Source {
            storage: &**self.storage(),
            map: &map,
            state,
            last_lsn,
            first_lsn,
            workers: self.options().appliers,
            wanted: None,
        };
        restored.applied = space.refill(|pipe, wanted| {
            let wanted = wanted.map(|pages| pages.iter().copied().collect());
            let source = Source {
                wanted: wanted.as_ref(),
                ..source
            };
            refill::fill(&source, pipe)
        })?;
        Ok(restored)
    }

    fn refill_space(
        &self,
        structure: &Structure,
        space: &std::sync::Arc<DeviceSpace>,
    ) -> Result<DeviceRestored, RestoreDeviceError> {
        let state = self.state();
        let target = Target::Device(space);
        let rebuilt = rebuild_to(target, &**self.storage(), self.options(), None, false)?;
        let (shadow, checkpoint, applied) = match &rebuilt {
            Some(rebuilt) => (
                Some(&rebuilt.state),
                rebuilt.checkpoint.as_ref().map(|used| used.replay_after),
                rebuilt.applied,
            ),
            None => {
                space.restart()?;
                (None, None, 0)
            }
        };
        let mut restored = DeviceRestored {
            checkpoint,
            applied,
            ..DeviceRestored::default()
        };
        for (page, slot) in state.device_slots(structure) {
            let twin = shadow.and_then(|shadow| shadow.table.live(page));
            if twin.is_none_or(|twin| twin.offset() != slot.offset()) {
                return Err(RestoreDeviceError::Diverged { page });
            }
            restored.pages += 1;
            restored.page_bytes += slot.len_bytes();
        }
        Ok(restored)
    }
}

impl State {
    /// A page that is on the device, or has a mirror there, up to date, with its lock.
    fn lock_operand(
        &self,
        page: PageId,
    ) -> Result<(&Slot, SharedLock<'_>, Operand<'_>), ReadError> {
        loop {
            let Some((slot, lock)) = self.lock_shared(page) else {
                self.confirm_missing(page)?;
                continue;
            };
            if slot.location() == Location::Host {
                return Err(ReadError::NotOnDevice { page });
            }
            if slot.is_derived() {
                if !lock.pending.is_empty() {
                    drop(lock);
                    self.catch_up(page)?;
                    continue;
                }
                self.check_fresh(page, &lock)?;
            }
            // SAFETY: the lock of the stripe goes with the operand.
            let operand = unsafe { self.operand(page.index(), slot) };
            let operand = operand.ok_or(ReadError::NotOnDevice { page })?;
            return Ok((slot, lock, operand));
        }
    }

    /// The live pages on the device, in id order.
    pub(crate) fn device_slots<'a>(
        &'a self,
        structure: &Structure,
    ) -> impl Iterator<Item = (PageId, &'a Slot)> + use<'a> {
        (0..structure.used).filter_map(|index| {
            let slot = self.table.slot(index)?;
            let is_one = slot.is_live() && slot.offset() >= DEVICE_START;
            is_one.then(|| (PageId::new(index, slot.generation()), slot))
        })
    }
}
