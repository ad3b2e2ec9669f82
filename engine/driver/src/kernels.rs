//! Which bytes each kernel touches, from its arguments and tables.
//!
//! This is knowledge of the kernels that a real driver does not have. It is what lets the simulation check accesses before they are
//! made, where a GPU finds out while it runs.

use crate::access::Access;
use crate::memory::Memory;

const TILE: u64 = 16;
const TILE_RUN: u64 = 8;
const CHANGED: u64 = 16;
const SUM: u64 = 8;
const FAULT: u64 = 4;
const NODE: u64 = 32;
const DIGEST_ROW: u64 = 16;
const CHUNK: u64 = 1024;
const BLOCK_CHUNKS: u64 = 128;

/// Reads tables in device memory.
struct Tables<'a> {
    memory: &'a Memory,
    accesses: Vec<Access>,
}

impl Tables<'_> {
    fn read(&mut self, start: u64, len_bytes: u64) {
        self.accesses.push(Access::read(start, len_bytes));
    }

    fn write(&mut self, start: u64, len_bytes: u64) {
        self.accesses.push(Access::write(start, len_bytes));
    }

    /// A table, which is read as a whole.
    fn rows<const N: usize>(&mut self, start: u64, count: u64) -> Result<&[[u8; N]], String> {
        let len_bytes = count
            .checked_mul(N as u64)
            .ok_or("a table that is too long")?;
        self.memory.check(start, len_bytes)?;
        self.read(start, len_bytes);
        if count == 0 {
            return Ok(&[]);
        }
        // SAFETY: the range was checked just now; it stays as it is while the driver is locked, which it is.
        let bytes = unsafe { std::slice::from_raw_parts(start as *const u8, len_bytes as usize) };
        Ok(bytes.as_chunks::<N>().0)
    }
}

/// The `position`th number of 4 bytes of a row.
fn word(row: &[u8], position: usize) -> u64 {
    let bytes = row.as_chunks::<4>().0.get(position);
    bytes.map_or(0, |bytes| u64::from(u32::from_le_bytes(*bytes)))
}

/// The number of 8 bytes that begins with the `position`th of 4.
fn long(row: &[u8], position: usize) -> u64 {
    word(row, position) | word(row, position + 1) << 32
}

/// What the kernel of that name touches; an error when its tables lie where nothing is mapped.
pub(crate) fn accesses(
    name: &str,
    arguments: &[u64],
    blocks: u32,
    memory: &Memory,
) -> Result<Vec<Access>, String> {
    let mut tables = Tables {
        memory,
        accesses: Vec::new(),
    };
    match (name, arguments) {
        (
            "mmsb_apply",
            &[
                base,
                tiles,
                tile_count,
                runs,
                run_count,
                payload,
                payload_len,
                memory_len,
                fault,
            ],
        ) => {
            let apply = Apply {
                base,
                payload,
                payload_len,
                memory_len,
            };
            apply.add(&mut tables, (tiles, tile_count), (runs, run_count))?;
            tables.write(fault, FAULT);
        }
        ("mmsb_combine", &[_, inputs, input_count, output, first, len, changed]) => {
            let parents: Vec<u64> = tables
                .rows::<8>(inputs, input_count)?
                .iter()
                .map(|row| u64::from_le_bytes(*row))
                .collect();
            for parent in parents {
                tables.read(parent.wrapping_add(first), len);
            }
            tables.write(output.wrapping_add(first), len);
            tables.write(changed, CHANGED);
        }
        ("mmsb_move", &[from, to, len, changed]) => {
            tables.read(from, len);
            tables.write(to, len);
            tables.write(changed, CHANGED);
        }
        ("mmsb_copy", &[from, to, len]) => {
            tables.read(from, len);
            tables.write(to, len);
        }
        ("mmsb_fill", &[to, len, _]) => tables.write(to, len),
        ("mmsb_sum", &[from, len, sum]) => {
            tables.read(from, len);
            tables.write(sum, SUM);
        }
        ("mmsb_digest_chunks", &[base, ranges, groups, digests, scratch]) => {
            digest_chunks(
                &mut tables,
                base,
                ranges,
                (groups, blocks),
                digests,
                scratch,
            )?;
        }
        ("mmsb_digest_roots", &[ranges, longs, digests, scratch]) => {
            digest_roots(&mut tables, ranges, (longs, blocks), digests, scratch)?;
        }
        _ => return Err(format!("what {name} touches is not known")),
    }
    Ok(tables.accesses)
}

struct Apply {
    base: u64,
    payload: u64,
    payload_len: u64,
    memory_len: u64,
}

impl Apply {
    /// Runs that the kernel refuses touch nothing.
    fn add(
        &self,
        tables: &mut Tables<'_>,
        (tiles, tile_count): (u64, u64),
        (runs, run_count): (u64, u64),
    ) -> Result<(), String> {
        let tiles = tables
            .rows::<{ TILE as usize }>(tiles, tile_count)?
            .to_vec();
        let runs = tables
            .rows::<{ TILE_RUN as usize }>(runs, run_count)?
            .to_vec();
        for tile in &tiles {
            let (to, first, count) = (long(tile, 0), word(tile, 2), word(tile, 3));
            if first + count > run_count || !to.is_multiple_of(4096) {
                continue;
            }
            for run in runs
                .get(first as usize..(first + count) as usize)
                .unwrap_or(&[])
            {
                let (from, place) = (word(run, 0), word(run, 1));
                let (at, len) = (place & 0xffff, (place >> 16) + 1);
                let is_taken = at + len <= 4096
                    && from + len <= self.payload_len
                    && to <= self.memory_len
                    && at + len <= self.memory_len - to;
                if is_taken {
                    tables.read(self.payload + from, len);
                    tables.write(self.base + to + at, len);
                }
            }
        }
        Ok(())
    }
}

/// Where a range begins, its length, and its slot.
type DigestRange = (u64, u64, u64);

fn digest_range(
    tables: &mut Tables<'_>,
    ranges: u64,
    position: u64,
) -> Result<DigestRange, String> {
    let start = ranges.wrapping_add(position.wrapping_mul(DIGEST_ROW));
    let rows = tables.rows::<{ DIGEST_ROW as usize }>(start, 1)?;
    let row = rows.first().copied().unwrap_or_default();
    Ok((long(&row, 0), word(&row, 2) + 1, word(&row, 3)))
}

fn digest_chunks(
    tables: &mut Tables<'_>,
    base: u64,
    ranges: u64,
    (groups, blocks): (u64, u32),
    digests: u64,
    scratch: u64,
) -> Result<(), String> {
    let rows = tables
        .rows::<{ DIGEST_ROW as usize }>(groups, u64::from(blocks))?
        .to_vec();
    for row in &rows {
        let (range, shared, first_chunk) = (word(row, 0), word(row, 1), word(row, 2));
        for position in range..range + shared.max(1) {
            let (from, len, slot) = digest_range(tables, ranges, position)?;
            let start = first_chunk * CHUNK;
            let end = len.min(start + word(row, 3) * CHUNK);
            tables.read(base.wrapping_add(from + start), end.saturating_sub(start));
            if shared > 0 || len <= BLOCK_CHUNKS * CHUNK {
                tables.write(digests + position * NODE, NODE);
            } else {
                tables.write(scratch + (slot + first_chunk / BLOCK_CHUNKS) * NODE, NODE);
            }
        }
    }
    Ok(())
}

fn digest_roots(
    tables: &mut Tables<'_>,
    ranges: u64,
    (longs, blocks): (u64, u32),
    digests: u64,
    scratch: u64,
) -> Result<(), String> {
    let rows = tables.rows::<4>(longs, u64::from(blocks))?.to_vec();
    for row in &rows {
        let position = word(row, 0);
        let (_, len, slot) = digest_range(tables, ranges, position)?;
        let nodes = len.div_ceil(CHUNK).div_ceil(BLOCK_CHUNKS);
        tables.write(scratch + slot * NODE, nodes * NODE);
        tables.write(digests + position * NODE, NODE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_of_the_cpu_build_is_known() {
        let memory = Memory::new(0, 0).unwrap();
        for kernel in mmsb_kernels_cpu::Kernel::all() {
            let arguments = vec![0; kernel.argument_lens().len()];
            if let Err(why) = accesses(kernel.name(), &arguments, 0, &memory) {
                panic!("{}: {why}", kernel.name());
            }
        }
        assert!(accesses("mmsb_fly", &[], 1, &memory).is_err());
    }

    #[test]
    fn an_apply_touches_its_runs_and_nothing_else_of_its_tiles() {
        let mut memory = Memory::new(0, 1 << 20).unwrap();
        let tables = memory.pin(4096).unwrap();
        let tile = [0x2000u64.to_le_bytes(), (1u64 << 32).to_le_bytes()].concat();
        // 8 bytes from byte 3 of the payload to byte 5 of the tile.
        let run = (3u64 | 5 << 32 | 7 << 48).to_le_bytes();
        // SAFETY: pinned just now, 4096 bytes long.
        unsafe {
            std::ptr::copy_nonoverlapping(tile.as_ptr(), tables as *mut u8, 16);
            std::ptr::copy_nonoverlapping(run.as_ptr(), (tables + 16) as *mut u8, 8);
        }
        let mut arguments = [1 << 40, tables, 1, tables + 16, 1, 1 << 30, 11, 1 << 20, 64];
        let found = accesses("mmsb_apply", &arguments, 1, &memory).unwrap();
        let expected = [
            Access::read(tables, 16),
            Access::read(tables + 16, 8),
            Access::read((1 << 30) + 3, 8),
            Access::write((1 << 40) + 0x2005, 8),
            Access::write(64, 4),
        ];
        assert_eq!(found, expected);
        // One byte less of payload, and the run is refused.
        arguments[6] = 10;
        assert_eq!(
            accesses("mmsb_apply", &arguments, 1, &memory)
                .unwrap()
                .len(),
            3
        );
        arguments[1] += 4096;
        assert!(accesses("mmsb_apply", &arguments, 1, &memory).is_err());
    }
}
