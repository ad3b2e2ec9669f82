//! A trace on a GPU of so many bytes.

use std::ops::Range;

use mmsb_engine::device::pool::{Mapping, MappingStatistics, Pool, PoolStatistics};

use super::replay::Failure;
use super::trace::{Event, Trace};

/// Addresses cost nothing: as many times the memory are reserved, so that no page fails for want of them.
const RESERVED_PER_MEMORY: u64 = 4;

/// A GPU that has memory and no processor: the pool, and which granules have memory behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simulation {
    /// Memory in bytes; rounded down to granules.
    pub memory_bytes: u64,
    /// The unit in which memory is mapped, in bytes.
    pub granule_bytes: u64,
    /// Memory that may stay mapped though no page needs it, in bytes; it goes when it is short.
    pub reserve_bytes: u64,
}

/// What became of a trace.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Simulated {
    /// Figures when the most was allocated.
    pub at_peak: PoolStatistics,
    /// Figures at the end.
    pub at_end: PoolStatistics,
    /// The worst external fragmentation that there was at any event while at least half of the peak was allocated.
    pub worst_fragmentation: f64,
    /// What was mapped.
    pub mapping: MappingStatistics,
    /// Allocations that did not fit. Their frees are left out.
    pub failures: u64,
    /// The first of them.
    pub first_failure: Option<Failure>,
    /// The allocator as it is at the end.
    pub pool: Pool,
    /// What has memory at the end.
    pub mapped: Vec<Range<u64>>,
}

/// Something that happened, for whoever wants to write it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Memory was mapped.
    Mapped(Range<u64>),
    /// Memory was taken back.
    Unmapped(Range<u64>),
    /// A page was allocated: offset and length.
    Allocated(u64, u64),
    /// A page was freed: offset and length.
    Freed(u64, u64),
    /// A page of a length was refused.
    Refused(u64),
}

impl Simulation {
    /// Runs a trace; `watch` is told the number of the event with each thing that happens.
    #[must_use]
    pub fn run(&self, trace: &Trace, watch: &mut dyn FnMut(usize, Happened)) -> Simulated {
        let reserved_bytes = self.memory_bytes.saturating_mul(RESERVED_PER_MEMORY);
        let mut gpu = Gpu {
            pool: Pool::with_granule(reserved_bytes, self.granule_bytes),
            mapping: Mapping::new(self.granule_bytes),
            simulation: *self,
        };
        let mut offsets = vec![None; trace.allocations() as usize];
        let (mut failures, mut first_failure) = (0, None);
        let mut at_peak = gpu.pool.figures();
        let mut worst_fragmentation = 0.0_f64;
        // The peak is known only afterwards, so fragmentation is judged against that of the trace.
        let half_bytes = trace.peak_bytes().min(self.memory_bytes) / 2;
        for (event, what) in trace.events().iter().enumerate() {
            let mut watch = |happened| watch(event, happened);
            match *what {
                Event::Allocate { number, len_bytes } => {
                    let placed = gpu.allocate(len_bytes, &mut watch);
                    if let Err(reason) = &placed {
                        failures += 1;
                        watch(Happened::Refused(len_bytes));
                        first_failure.get_or_insert(Failure {
                            event,
                            len_bytes,
                            reason: reason.clone(),
                        });
                    }
                    if let Some(offset) = offsets.get_mut(number as usize) {
                        *offset = placed.ok();
                    }
                }
                Event::Free { number, len_bytes } => {
                    let offset = offsets.get_mut(number as usize).and_then(Option::take);
                    if let Some(offset) = offset {
                        gpu.free(offset, len_bytes, &mut watch);
                    }
                }
            }
            let current_bytes = gpu.pool.allocated().current_bytes;
            if current_bytes > at_peak.allocated.current_bytes {
                at_peak = gpu.pool.figures();
            }
            if current_bytes >= half_bytes {
                let fragmentation = gpu.pool.external_fragmentation();
                worst_fragmentation = worst_fragmentation.max(fragmentation);
            }
        }
        Simulated {
            at_peak,
            at_end: gpu.pool.figures(),
            worst_fragmentation,
            mapping: gpu.mapping.statistics(),
            failures,
            first_failure,
            mapped: gpu.mapping.mapped().collect(),
            pool: gpu.pool,
        }
    }
}

struct Gpu {
    pool: Pool,
    mapping: Mapping,
    simulation: Simulation,
}

impl Gpu {
    fn allocate(&mut self, len_bytes: u64, watch: &mut dyn FnMut(Happened)) -> Result<u64, String> {
        let placed = self.pool.place(len_bytes);
        let placed = placed.map_err(|error| error.to_string())?;
        if self.map(&placed.needed, watch).is_err() {
            // The reserve is the first to go.
            self.mapping
                .trim(0, |range| watch(Happened::Unmapped(range)));
            if let Err(short_bytes) = self.map(&placed.needed, watch) {
                // It was placed a moment ago with this length.
                if let Ok(unneeded) = self.pool.remove(placed.offset, len_bytes) {
                    self.mapping.unneed(unneeded);
                }
                let mapped_bytes = self.mapping.statistics().mapped_bytes;
                let memory_bytes = self.simulation.memory_bytes;
                return Err(format!(
                    "out of memory: {short_bytes} bytes more than the {memory_bytes} that there are, of which \
                     {mapped_bytes} are mapped"
                ));
            }
        }
        watch(Happened::Allocated(placed.offset, len_bytes));
        Ok(placed.offset)
    }

    /// Maps what of a range has no memory; the bytes that are missing if there is not enough.
    fn map(&mut self, range: &Range<u64>, watch: &mut dyn FnMut(Happened)) -> Result<(), u64> {
        let memory_bytes = self.simulation.memory_bytes;
        let mut mapped_bytes = self.mapping.statistics().mapped_bytes;
        self.mapping.need(range.clone(), |part| {
            mapped_bytes += part.end - part.start;
            if mapped_bytes > memory_bytes {
                return Err(mapped_bytes - memory_bytes);
            }
            watch(Happened::Mapped(part));
            Ok(())
        })
    }

    fn free(&mut self, offset: u64, len_bytes: u64, watch: &mut dyn FnMut(Happened)) {
        // It was placed with this length, so this cannot fail.
        if let Ok(unneeded) = self.pool.remove(offset, len_bytes) {
            watch(Happened::Freed(offset, len_bytes));
            self.mapping.unneed(unneeded);
            let reserve_bytes = self.simulation.reserve_bytes;
            self.mapping
                .trim(reserve_bytes, |range| watch(Happened::Unmapped(range)));
        }
    }
}
