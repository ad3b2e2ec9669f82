//! Work, as calls of the driver.

use std::ops::Range;

use super::api::{Address, Handle};
use super::device::Parts;
use super::stream::{State, Stream};
use crate::device::kernels::{Apply, Launch};
use crate::device::layout::{Changed, Tile, TileRun};
use crate::device::{Combine, DeviceError, PinnedSlice, Queue, Work};
use crate::graph::Form;

const SUM_BYTES: u64 = 8;

/// A queue while one piece of work is added to it: its lock is held, and the context is current.
pub(super) struct Submission<'a> {
    pub(super) parts: &'a Parts,
    pub(super) stream: &'a Stream,
    pub(super) state: &'a mut State,
}

impl Parts {
    /// Adds work to a queue.
    pub(super) fn submit(&self, queue: Queue, work: &Work<'_>) -> Result<(), DeviceError> {
        self.context.check_health()?;
        let _current = self.context.enter()?;
        let stream = self.stream(queue);
        // Requests are checked under the lock: whoever unmaps memory takes it afterwards.
        let mut state = stream.lock();
        let submitted = Submission {
            parts: self,
            stream,
            state: &mut state,
        }
        .submit(work);
        // As with other devices, a request that is refused is the end of it until `reset`: what follows may count on it.
        submitted.map_err(|error| self.context.fail(error, false))
    }
}

impl Submission<'_> {
    fn submit(&mut self, work: &Work<'_>) -> Result<(), DeviceError> {
        match work {
            Work::Upload { from, to } => self.upload(from, *to)?,
            Work::Download { from, to } => self.download(*from, to)?,
            Work::Copy { from, to } => self.copy(from, *to)?,
            Work::Fill { range, byte } => self.fill(range, *byte)?,
            Work::Apply {
                tiles,
                tile_count,
                runs,
                run_count,
                payload,
            } => return self.apply(*tiles, *tile_count, *runs, *run_count, payload),
            Work::Combine {
                combine,
                inputs,
                output,
                range,
                changed,
            } => self.combine(*combine, inputs, *output, range, changed)?,
            Work::Move { from, to, changed } => self.copy_changed(from, *to, changed)?,
            Work::Digest { ranges, to } => self.digest(ranges, to)?,
            Work::Sum { range, to } => self.sum(range, to)?,
        }
        self.state.count();
        Ok(())
    }

    pub(super) const fn handle(&self) -> Handle {
        self.stream.handle()
    }

    pub(super) const fn address(&self, offset: u64) -> Address {
        self.parts.memory.address(offset)
    }

    /// Refuses a slice that is not of this device, or not as long as it must be.
    pub(super) fn check_slice(
        &self,
        slice: &PinnedSlice,
        len_bytes: usize,
    ) -> Result<(), DeviceError> {
        self.parts.pinning.check(slice)?;
        if slice.len_bytes() == len_bytes {
            return Ok(());
        }
        Err(DeviceError::Invalid {
            reason: format!(
                "{} pinned bytes for a result of {len_bytes}",
                slice.len_bytes()
            ),
        })
    }

    /// The range of `len_bytes` from `start`, all of it mapped.
    fn check_from(&self, start: u64, len_bytes: u64) -> Result<Range<u64>, DeviceError> {
        let range = start..start.saturating_add(len_bytes);
        self.parts.memory.check(&range)?;
        Ok(range)
    }

    fn check_apart(&self, from: &Range<u64>, to: &Range<u64>) -> Result<(), DeviceError> {
        if from.start < to.end && to.start < from.end {
            return Err(DeviceError::Invalid {
                reason: format!(
                    "bytes {} to {} of device memory are copied over themselves, to {}",
                    from.start, from.end, to.start
                ),
            });
        }
        Ok(())
    }

    fn upload(&self, from: &PinnedSlice, to: u64) -> Result<(), DeviceError> {
        self.parts.pinning.check(from)?;
        self.check_from(to, from.len_bytes() as u64)?;
        if from.len_bytes() == 0 {
            return Ok(());
        }
        let context = &self.parts.context;
        // SAFETY: the target is mapped, and stays so until work was waited for; the source is pinned, and not freed before that.
        let code = unsafe {
            (context.api.copy_to_device)(
                self.address(to),
                from.address().as_ptr().cast(),
                from.len_bytes(),
                self.handle(),
            )
        };
        context.check("upload", code)
    }

    fn download(&self, from: u64, to: &PinnedSlice) -> Result<(), DeviceError> {
        self.parts.pinning.check(to)?;
        self.check_from(from, to.len_bytes() as u64)?;
        if to.len_bytes() == 0 {
            return Ok(());
        }
        self.send_back(self.address(from), to, "download")
    }

    /// Copies a result to where it was asked for.
    pub(super) fn send_back(
        &self,
        from: Address,
        to: &PinnedSlice,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        self.send_part_back(from, to, 0..to.len_bytes(), work)
    }

    /// Copies a result to a part of where it was asked for.
    pub(super) fn send_part_back(
        &self,
        from: Address,
        to: &PinnedSlice,
        part: Range<usize>,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        if part.start > part.end || part.end > to.len_bytes() {
            return Err(DeviceError::Invalid {
                reason: format!("results for {} bytes, to {part:?}", to.len_bytes()),
            });
        }
        let context = &self.parts.context;
        // SAFETY: the part is inside of the slice. The source is scratch memory, or mapped, and as long as the target, which is pinned;
        // neither is freed before the work was waited for, and until then nobody touches the target, as whoever submits work promises.
        let code = unsafe {
            (context.api.copy_to_host)(
                to.address().as_ptr().add(part.start).cast(),
                from,
                part.len(),
                self.handle(),
            )
        };
        context.check(work, code)
    }

    fn copy(&self, from: &Range<u64>, to: u64) -> Result<(), DeviceError> {
        self.parts.memory.check(from)?;
        let len_bytes = from.end - from.start;
        let target = self.check_from(to, len_bytes)?;
        self.check_apart(from, &target)?;
        if len_bytes == 0 {
            return Ok(());
        }
        let launch = Launch::copy(
            self.address(from.start),
            self.address(to),
            len_bytes,
            self.multiprocessors(),
        );
        // SAFETY: both ranges are mapped, and stay so until work was waited for.
        unsafe { self.launch(&launch, "copy") }
    }

    fn fill(&self, range: &Range<u64>, byte: u8) -> Result<(), DeviceError> {
        self.parts.memory.check(range)?;
        let len_bytes = range.end - range.start;
        if len_bytes == 0 {
            return Ok(());
        }
        let launch = Launch::fill(
            self.address(range.start),
            len_bytes,
            byte,
            self.multiprocessors(),
        );
        // SAFETY: the range is mapped, and stays so until work was waited for.
        unsafe { self.launch(&launch, "fill") }
    }

    pub(super) fn multiprocessors(&self) -> u32 {
        self.parts.context.multiprocessors
    }

    /// # Safety
    /// As of [`super::launch::Kernels::launch`].
    pub(super) unsafe fn launch(
        &self,
        launch: &Launch,
        work: &'static str,
    ) -> Result<(), DeviceError> {
        let kernels = &self.parts.kernels;
        // SAFETY: as the caller says.
        unsafe { kernels.launch(self.handle(), launch, work) }
    }

    fn apply(
        &mut self,
        tiles: u64,
        tile_count: u32,
        runs: u64,
        run_count: u32,
        payload: &Range<u64>,
    ) -> Result<(), DeviceError> {
        if !tiles.is_multiple_of(Tile::LEN_BYTES as u64)
            || !runs.is_multiple_of(TileRun::LEN_BYTES as u64)
        {
            return Err(DeviceError::Invalid {
                reason: format!("tables of runs at {tiles} and {runs}, which are not aligned"),
            });
        }
        self.check_from(tiles, u64::from(tile_count) * Tile::LEN_BYTES as u64)?;
        self.check_from(runs, u64::from(run_count) * TileRun::LEN_BYTES as u64)?;
        self.parts.memory.check(payload)?;
        if tile_count == 0 {
            self.state.count();
            return Ok(());
        }
        let apply = Apply {
            memory: self.address(0),
            memory_len_bytes: self.parts.memory.end_bytes(),
            tiles: self.address(tiles),
            tile_count,
            runs: self.address(runs),
            run_count,
            payload: self.address(payload.start),
            payload_len_bytes: payload.end - payload.start,
            fault: self.state.scratch.fault(),
        };
        let launch = Launch::apply(&apply, self.multiprocessors());
        // SAFETY: tables and payload are mapped, and stay so until work was waited for. The kernel leaves out what tables say that leads
        // beyond the lengths it is given; a tile that lies between mapped ranges ends the context, not the process.
        unsafe { self.launch(&launch, "apply") }?;
        self.state.count_apply();
        Ok(())
    }

    fn combine(
        &mut self,
        combine: Combine,
        inputs: &[u64],
        output: u64,
        range: &Range<u64>,
        changed: &PinnedSlice,
    ) -> Result<(), DeviceError> {
        self.check_slice(changed, Changed::LEN_BYTES)?;
        let lane = u64::from(combine.lane.len_bytes());
        let is_whole = range.start <= range.end
            && range.start.is_multiple_of(lane)
            && range.end.is_multiple_of(lane);
        let is_possible = is_whole
            && !inputs.is_empty()
            && (combine.form == Form::Sum || inputs.len().is_multiple_of(2));
        let has_bits = !combine.semiring.is_bitwise() || !combine.lane.is_float();
        if !is_possible || !has_bits {
            return Err(DeviceError::Invalid {
                reason: format!(
                    "{combine:?} of {} parents for bytes {} to {}",
                    inputs.len(),
                    range.start,
                    range.end
                ),
            });
        }
        let len_bytes = range.end - range.start;
        for page in inputs.iter().chain([&output]) {
            self.check_from(page.saturating_add(range.start), len_bytes)?;
        }
        self.send_combine_table(inputs)?;
        if len_bytes > 0 {
            let table = self.state.scratch.table();
            let launch = Launch::combine(
                &combine,
                table + Changed::LEN_BYTES as u64,
                inputs.len() as u32,
                self.address(output),
                (range.start, len_bytes),
                table,
                self.multiprocessors(),
            );
            // SAFETY: the tables are in scratch memory, and all pages are mapped where they are read and written, until work was waited
            // for.
            unsafe { self.launch(&launch, "combine") }?;
        }
        self.send_back(self.state.scratch.table(), changed, "combine")
    }

    /// Sends what a kernel that reports changes starts from, and after it the addresses of parents.
    fn send_combine_table(&mut self, inputs: &[u64]) -> Result<(), DeviceError> {
        let len_bytes = Changed::LEN_BYTES + size_of_val(inputs);
        let table = self.stream.take_table(self.state, len_bytes)?;
        // SAFETY: the table was taken just now, under the lock that is still held; work that reads it follows below.
        let bytes = unsafe { table.bytes() };
        let nothing = Changed::NOTHING.to_bytes();
        if let Some((changed, addresses)) = bytes.split_at_mut_checked(nothing.len()) {
            changed.copy_from_slice(&nothing);
            for (to, input) in addresses.as_chunks_mut::<8>().0.iter_mut().zip(inputs) {
                *to = self.parts.memory.address(*input).to_le_bytes();
            }
        }
        let to = self.state.scratch.table();
        self.stream.send_table(table, to, len_bytes, "combine")
    }

    fn copy_changed(
        &mut self,
        from: &Range<u64>,
        to: u64,
        changed: &PinnedSlice,
    ) -> Result<(), DeviceError> {
        self.check_slice(changed, Changed::LEN_BYTES)?;
        self.parts.memory.check(from)?;
        let len_bytes = from.end - from.start;
        let target = self.check_from(to, len_bytes)?;
        self.check_apart(from, &target)?;
        self.send_combine_table(&[])?;
        let report = self.state.scratch.table();
        if len_bytes > 0 {
            let launch = Launch::move_bytes(
                self.address(from.start),
                self.address(to),
                len_bytes,
                report,
                self.multiprocessors(),
            );
            // SAFETY: the report is in scratch memory, and both ranges are mapped until work was waited for.
            unsafe { self.launch(&launch, "move") }?;
        }
        self.send_back(report, changed, "move")
    }

    fn sum(&mut self, range: &Range<u64>, to: &PinnedSlice) -> Result<(), DeviceError> {
        self.check_slice(to, SUM_BYTES as usize)?;
        self.parts.memory.check(range)?;
        let context = &self.parts.context;
        let sum = self.state.scratch.sum();
        // SAFETY: the sum is scratch memory, this long.
        let code = unsafe { (context.api.set_bytes)(sum, 0, SUM_BYTES as usize, self.handle()) };
        context.check("sum", code)?;
        let len_bytes = range.end - range.start;
        if len_bytes > 0 {
            let launch = Launch::sum(
                self.address(range.start),
                len_bytes,
                sum,
                self.multiprocessors(),
            );
            // SAFETY: the sum is in scratch memory, and the range is mapped until work was waited for.
            unsafe { self.launch(&launch, "sum") }?;
        }
        self.send_back(sum, to, "sum")
    }
}
