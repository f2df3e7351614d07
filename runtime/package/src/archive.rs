//! Writing ZIP64: stored members, each at 16 KiB alignment, the same bytes for the same content.
//!
//! Written here rather than by a general library because those repeat the alignment padding of every member in
//! the central directory. APPNOTE.TXT 6.3.10 is the format; the padding is the extra field 0xD935 that Android's
//! zipalign introduced.

use std::io::{self, Seek, SeekFrom, Write};

/// Alignment in bytes of every member's data: the largest page size in use (Apple, some Arm Linux).
pub const MEMBER_ALIGNMENT: u64 = 16 << 10;

pub(crate) const LOCAL: u32 = 0x0403_4B50;
pub(crate) const CENTRAL: u32 = 0x0201_4B50;
pub(crate) const END64: u32 = 0x0606_4B50;
pub(crate) const LOCATOR64: u32 = 0x0706_4B50;
pub(crate) const END: u32 = 0x0605_4B50;
pub(crate) const ZIP64_FIELD: u16 = 1;
pub(crate) const UTF8_NAMES: u16 = 1 << 11;
pub(crate) const LOCAL_BYTES: u64 = 30;
pub(crate) const CENTRAL_BYTES: u64 = 46;
pub(crate) const END64_BYTES: u64 = 56;
pub(crate) const LOCATOR64_BYTES: u64 = 20;
pub(crate) const END_BYTES: u64 = 22;

const PADDING_FIELD: u16 = 0xD935;
/// Format 4.5, the first with ZIP64.
const VERSION: u16 = 45;
/// 1 January 1980, the epoch of ZIP.
const DATE: u16 = 1 << 5 | 1;
const IN_ZIP64: u32 = u32::MAX;
/// A regular file that everyone may read, made by Unix.
const MADE_BY: u16 = 3 << 8 | VERSION;
const ATTRIBUTES: u32 = 0o100_644 << 16;
/// Crc and the two sizes lie here in a local header.
const LOCAL_CRC: u64 = 14;

struct Written {
    name: String,
    header: u64,
    bytes: u64,
    crc: u32,
}

/// An archive being written at the current position 0 of `sink`.
pub(crate) struct ArchiveWriter<W: Write + Seek> {
    sink: W,
    at: u64,
    members: Vec<Written>,
}

impl<W: Write + Seek> ArchiveWriter<W> {
    pub(crate) fn new(sink: W) -> Self {
        ArchiveWriter { sink, at: 0, members: Vec::new() }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.members.iter().any(|m| m.name == name)
    }

    /// Adds a member whose bytes `fill` writes.
    pub(crate) fn add(&mut self, name: &str, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<u64> {
        let header = self.at;
        let fixed = header + LOCAL_BYTES + name.len() as u64 + 20;
        let mut padding = MEMBER_ALIGNMENT - fixed % MEMBER_ALIGNMENT;
        if padding < 6 {
            padding += MEMBER_ALIGNMENT;
        }
        let mut h = Record::default();
        h.u32(LOCAL).u16(VERSION).u16(UTF8_NAMES).u16(0).u16(0).u16(DATE);
        h.u32(0).u32(IN_ZIP64).u32(IN_ZIP64).u16(name.len() as u16).u16((20 + padding) as u16);
        h.0.extend_from_slice(name.as_bytes());
        h.u16(ZIP64_FIELD).u16(16).u64(0).u64(0);
        h.u16(PADDING_FIELD).u16((padding - 4) as u16).u16(MEMBER_ALIGNMENT as u16);
        h.0.resize((fixed + padding - header) as usize, 0);
        self.sink.write_all(&h.0)?;
        let data = fixed + padding;
        let mut counted = Counted { sink: &mut self.sink, bytes: 0, crc: crc32fast::Hasher::new() };
        fill(&mut counted)?;
        let (bytes, crc) = (counted.bytes, counted.crc.finalize());
        self.sink.seek(SeekFrom::Start(header + LOCAL_CRC))?;
        self.sink.write_all(&crc.to_le_bytes())?;
        self.sink.seek(SeekFrom::Start(header + LOCAL_BYTES + name.len() as u64 + 4))?;
        let mut sizes = Record::default();
        sizes.u64(bytes).u64(bytes);
        self.sink.write_all(&sizes.0)?;
        self.at = data + bytes;
        self.sink.seek(SeekFrom::Start(self.at))?;
        self.members.push(Written { name: name.to_string(), header, bytes, crc });
        Ok(bytes)
    }

    /// Writes the directory and gives the sink back, flushed.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        let start = self.at;
        let mut d = Record::default();
        for m in &self.members {
            let mut extra = Record::default();
            let large = m.bytes >= u64::from(IN_ZIP64);
            let far = m.header >= u64::from(IN_ZIP64);
            if large || far {
                extra.u16(ZIP64_FIELD).u16(if large { 16 } else { 0 } + if far { 8 } else { 0 });
                if large {
                    extra.u64(m.bytes).u64(m.bytes);
                }
                if far {
                    extra.u64(m.header);
                }
            }
            let size = if large { IN_ZIP64 } else { m.bytes as u32 };
            d.u32(CENTRAL).u16(MADE_BY).u16(VERSION).u16(UTF8_NAMES).u16(0).u16(0).u16(DATE);
            d.u32(m.crc).u32(size).u32(size).u16(m.name.len() as u16).u16(extra.0.len() as u16);
            d.u16(0).u16(0).u16(0).u32(ATTRIBUTES).u32(if far { IN_ZIP64 } else { m.header as u32 });
            d.0.extend_from_slice(m.name.as_bytes());
            d.0.extend_from_slice(&extra.0);
        }
        let (count, bytes) = (self.members.len() as u64, d.0.len() as u64);
        d.u32(END64).u64(END64_BYTES - 12).u16(MADE_BY).u16(VERSION).u32(0).u32(0);
        d.u64(count).u64(count).u64(bytes).u64(start);
        d.u32(LOCATOR64).u32(0).u64(start + bytes).u32(1);
        let short = u16::try_from(count).unwrap_or(u16::MAX);
        d.u32(END).u16(0).u16(0).u16(short).u16(short);
        d.u32(u32::try_from(bytes).unwrap_or(IN_ZIP64)).u32(u32::try_from(start).unwrap_or(IN_ZIP64)).u16(0);
        self.sink.write_all(&d.0)?;
        self.sink.flush()?;
        Ok(self.sink)
    }
}

/// Little-endian fields one after another.
#[derive(Default)]
struct Record(Vec<u8>);

impl Record {
    fn u16(&mut self, v: u16) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u32(&mut self, v: u32) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    fn u64(&mut self, v: u64) -> &mut Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }
}

/// Counts and sums what passes.
struct Counted<'a, W: Write> {
    sink: &'a mut W,
    bytes: u64,
    crc: crc32fast::Hasher,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let n = self.sink.write(data)?;
        self.bytes += n as u64;
        self.crc.update(&data[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}
