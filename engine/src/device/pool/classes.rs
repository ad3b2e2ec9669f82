//! Size classes of free blocks, in two levels.

/// Classes a doubling of the size, as in the paper (there `SLI` = 5).
const COLUMNS: usize = 32;
const COLUMN_BITS: u32 = COLUMNS.ilog2();
/// One row for sizes below [`COLUMNS`], then one a doubling.
pub(super) const ROWS: usize = 28;

/// Which class a free block of `units` is in.
///
/// Below 64 units every size has a class of its own; above, a class is at most 3.2 % wide.
#[inline]
pub(super) const fn class_of(units: u32) -> usize {
    if units < COLUMNS as u32 {
        return units as usize;
    }
    let log = units.ilog2();
    let column = (units >> (log - COLUMN_BITS)) as usize - COLUMNS;
    (log - COLUMN_BITS + 1) as usize * COLUMNS + column
}

/// The binary logarithm of a window of a class: its blocks have at least so many units, so no two of them begin in one window.
#[inline]
pub(super) const fn window_log(class: usize) -> u32 {
    match class / COLUMNS {
        0 if class == 0 => 0,
        0 => class.ilog2(),
        row => row as u32 + COLUMN_BITS - 1,
    }
}

/// The set of classes that have blocks: one bit a row, and one a class.
#[derive(Clone, Default)]
pub(super) struct ClassMap {
    rows: u32,
    columns: [u32; ROWS],
}

impl ClassMap {
    #[inline]
    pub(super) fn insert(&mut self, class: usize) {
        if let Some(columns) = self.columns.get_mut(class / COLUMNS) {
            *columns |= 1 << (class % COLUMNS);
            self.rows |= 1 << (class / COLUMNS);
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, class: usize) {
        if let Some(columns) = self.columns.get_mut(class / COLUMNS) {
            *columns &= !(1 << (class % COLUMNS));
            if *columns == 0 {
                self.rows &= !(1 << (class / COLUMNS));
            }
        }
    }

    /// The lowest class from `class` on.
    #[inline]
    pub(super) fn next(&self, class: usize) -> Option<usize> {
        let row = class / COLUMNS;
        let columns = self.columns.get(row)? & (u32::MAX << (class % COLUMNS));
        if columns != 0 {
            return Some(row * COLUMNS + columns.trailing_zeros() as usize);
        }
        let rows = self.rows & u32::MAX.checked_shl(row as u32 + 1).unwrap_or(0);
        let row = (rows != 0).then(|| rows.trailing_zeros() as usize)?;
        let columns = self.columns.get(row)?;
        Some(row * COLUMNS + columns.trailing_zeros() as usize)
    }

    /// The highest class.
    pub(super) fn last(&self) -> Option<usize> {
        let row = self.rows.checked_ilog2()? as usize;
        let column = self.columns.get(row)?.checked_ilog2()?;
        Some(row * COLUMNS + column as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_ascend_without_gaps() {
        let mut before = class_of(1);
        assert_eq!(before, 1);
        for units in 2..200_000 {
            let class = class_of(units);
            assert!(
                class == before || class == before + 1,
                "{units} units: class {class} after {before}"
            );
            assert!(units >= 64 || class != before, "{units} units share");
            assert!(1 << window_log(class) <= units, "window of {units} units");
            assert!(2 << window_log(class) > units, "window of {units} units");
            before = class;
        }
        assert_eq!(class_of(u32::MAX), ROWS * COLUMNS - 1);
    }

    #[test]
    fn the_next_class_is_found_within_a_row_and_beyond() {
        let mut map = ClassMap::default();
        assert_eq!((map.next(0), map.last()), (None, None));
        for class in [3, 31, 32, 500, ROWS * COLUMNS - 1] {
            map.insert(class);
        }
        assert_eq!(map.next(0), Some(3));
        assert_eq!(map.next(3), Some(3));
        assert_eq!(map.next(4), Some(31));
        assert_eq!(map.next(33), Some(500));
        assert_eq!(map.next(501), Some(ROWS * COLUMNS - 1));
        map.remove(ROWS * COLUMNS - 1);
        assert_eq!((map.next(501), map.last()), (None, Some(500)));
    }
}
