//! Writing pickles of protocol 2.

use std::io::{self, Write};

/// Writes one pickle, value by value.
///
/// ```
/// use mmsb_harness::gpu::pickle::{Limits, Writer, read};
/// let mut writer = Writer::new(Vec::new())?;
/// writer.dict(|writer| {
///     writer.text("sizes")?;
///     writer.list(|writer| writer.int(4096))
/// })?;
/// let bytes = writer.finish()?;
/// let pickle = read(&bytes, &Limits::default()).expect("it is well-formed");
/// let sizes = pickle.get(pickle.root(), "sizes").expect("it is there");
/// assert_eq!(pickle.unsigned(pickle.items(sizes).expect("a list")[0]), Some(4096));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    /// Begins a pickle.
    ///
    /// # Errors
    /// Those of `out`, as with all others here.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0x80, 2])?;
        Ok(Self { out })
    }

    /// Ends the pickle, which has exactly one value outside of others.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(b".")?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes a number.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn int(&mut self, value: u64) -> io::Result<()> {
        if let Ok(value) = u8::try_from(value) {
            self.out.write_all(&[b'K', value])
        } else if let Ok(value) = u16::try_from(value) {
            self.out.write_all(b"M")?;
            self.out.write_all(&value.to_le_bytes())
        } else if let Ok(value) = i32::try_from(value) {
            self.out.write_all(b"J")?;
            self.out.write_all(&value.to_le_bytes())
        } else {
            // Nine bytes, of which the last is the sign.
            self.out.write_all(&[0x8a, 9])?;
            self.out.write_all(&value.to_le_bytes())?;
            self.out.write_all(&[0])
        }
    }

    /// Writes `True` or `False`.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn bool(&mut self, value: bool) -> io::Result<()> {
        self.out.write_all(&[if value { 0x88 } else { 0x89 }])
    }

    /// Writes a text of less than 4 GiB.
    ///
    /// # Errors
    /// Those of `out`, and if it is longer.
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        let len = u32::try_from(text.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a text of 4 GiB or more"))?;
        self.out.write_all(b"X")?;
        self.out.write_all(&len.to_le_bytes())?;
        self.out.write_all(text.as_bytes())
    }

    /// Writes a list of the values that `items` writes.
    ///
    /// # Errors
    /// Those of `items` and of `out`.
    pub fn list(&mut self, items: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.out.write_all(b"](")?;
        items(self)?;
        self.out.write_all(b"e")
    }

    /// Writes a tuple of the values that `items` writes.
    ///
    /// # Errors
    /// Those of `items` and of `out`.
    pub fn tuple(&mut self, items: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.out.write_all(b"(")?;
        items(self)?;
        self.out.write_all(b"t")
    }

    /// Writes a dict of the keys and values that `entries` writes in turns.
    ///
    /// # Errors
    /// Those of `entries` and of `out`.
    pub fn dict(&mut self, entries: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.out.write_all(b"}(")?;
        entries(self)?;
        self.out.write_all(b"u")
    }
}
