//! Reading ZIP64 as [`crate::archive`] writes it, and nothing more lenient: what another reader could take
//! differently (comments, gaps hiding bytes, two members of one name, compression) is refused.

use crate::PackageError;
use crate::archive::{
    CENTRAL, CENTRAL_BYTES, END, END_BYTES, END64, END64_BYTES, LOCAL, LOCAL_BYTES, LOCATOR64, LOCATOR64_BYTES,
    MEMBER_ALIGNMENT, UTF8_NAMES, ZIP64_FIELD,
};
use std::collections::BTreeMap;
use std::ops::Range;

/// Where a member's data lies and its checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) data: Range<usize>,
    pub(crate) crc: u32,
}

/// The members of an archive by name.
pub(crate) type Directory = BTreeMap<String, Member>;

/// Longest member name in bytes.
pub(crate) const NAME_BYTES: usize = 4096;

/// True for a relative path that unpacks below the folder it is unpacked in.
pub(crate) fn is_member_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && !name.contains(['\\', '\0', ':'])
        && name.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

struct Reader<'a> {
    path: &'a str,
    bytes: &'a [u8],
}

/// Reads and checks the directory of a whole archive.
pub(crate) fn read(path: &str, bytes: &[u8]) -> Result<Directory, PackageError> {
    let r = Reader { path, bytes };
    let total = bytes.len() as u64;
    let tail = END_BYTES + LOCATOR64_BYTES + END64_BYTES;
    if total < tail {
        return Err(r.truncated(format!("at least {tail} bytes"), format!("{total} bytes")));
    }
    let end = total - END_BYTES;
    if r.u32(end)? != END {
        return Err(r.truncated("the end record of a ZIP archive in the last 22 bytes".into(), "other bytes".into()));
    }
    let locator = end - LOCATOR64_BYTES;
    let end64 = locator - END64_BYTES;
    if r.u32(locator)? != LOCATOR64 || r.u64(locator + 8)? != end64 || r.u32(end64)? != END64 {
        return Err(r.damaged("the archive", "ZIP64 end records before the end record", "other bytes"));
    }
    let (count, size, start) = (r.u64(end64 + 32)?, r.u64(end64 + 40)?, r.u64(end64 + 48)?);
    if start.checked_add(size) != Some(end64) || r.u64(end64 + 24)? != count || r.u64(end64 + 4)? != END64_BYTES - 12 {
        return Err(r.damaged(
            "the archive",
            "a directory that ends where its end record begins",
            format!("{size} bytes at {start}"),
        ));
    }
    if count > size / CENTRAL_BYTES {
        return Err(r.damaged("the archive", "a directory as long as its count says", format!("{count} members")));
    }
    let mut directory = Directory::new();
    let (mut at, mut data_end) = (start, 0u64);
    for _ in 0..count {
        if r.u32(at)? != CENTRAL {
            return Err(r.damaged("the archive", "a directory record", "other bytes"));
        }
        let name_bytes = u64::from(r.u16(at + 28)?);
        let extra_bytes = u64::from(r.u16(at + 30)?);
        let name = r.name(at + CENTRAL_BYTES, name_bytes)?;
        let damaged = |expected: &str, found: String| r.damaged(&name, expected, found);
        let (flags, method) = (r.u16(at + 8)?, r.u16(at + 10)?);
        if flags != UTF8_NAMES || method != 0 {
            return Err(damaged("a stored member", format!("flags {flags:#x}, compression method {method}")));
        }
        let crc = r.u32(at + 16)?;
        let (packed, plain) = (u64::from(r.u32(at + 20)?), u64::from(r.u32(at + 24)?));
        let wide = r.zip64(at + CENTRAL_BYTES + name_bytes, extra_bytes)?;
        let mut wide = wide.into_iter();
        let mut widen = |v: u64| if v == u64::from(u32::MAX) { wide.next().unwrap_or(v) } else { v };
        let (plain, packed) = (widen(plain), widen(packed));
        let header = widen(u64::from(r.u32(at + 42)?));
        if packed != plain {
            return Err(damaged("one size", format!("{packed} bytes stored for {plain}")));
        }
        if header != data_end || header >= start {
            return Err(damaged("members one after another", format!("a member at byte {header}")));
        }
        if r.u32(header)? != LOCAL || r.u16(header + 6)? != UTF8_NAMES || r.u16(header + 8)? != 0 {
            return Err(damaged("a member header", "other bytes".into()));
        }
        if r.u32(header + 14)? != crc || u64::from(r.u16(header + 26)?) != name_bytes {
            return Err(damaged("the same checksum and name in both records", "others".into()));
        }
        if r.name(header + LOCAL_BYTES, name_bytes)? != name {
            return Err(damaged("the same name in both records", "another".into()));
        }
        let local_extra = u64::from(r.u16(header + 28)?);
        if r.zip64(header + LOCAL_BYTES + name_bytes, local_extra)? != [plain, plain] {
            return Err(damaged("the same sizes in both records", "others".into()));
        }
        let data = header + LOCAL_BYTES + name_bytes + local_extra;
        data_end = data.saturating_add(plain);
        if !data.is_multiple_of(MEMBER_ALIGNMENT) {
            return Err(damaged("data at a multiple of 16384 bytes", format!("data at byte {data}")));
        }
        if data_end > start {
            return Err(damaged("data before the directory", format!("{plain} bytes at {data}")));
        }
        let member = Member { data: data as usize..data_end as usize, crc };
        if directory.insert(name.clone(), member).is_some() {
            return Err(r.damaged(&name, "one member of this name", "two"));
        }
        at += CENTRAL_BYTES + name_bytes + extra_bytes + u64::from(r.u16(at + 32)?);
    }
    if at != end64 || data_end != start {
        return Err(r.damaged("the archive", "members, then a directory as long as its count says", "other bytes"));
    }
    Ok(directory)
}

impl Reader<'_> {
    fn field<const N: usize>(&self, at: u64) -> Result<[u8; N], PackageError> {
        let get = || {
            let at = usize::try_from(at).ok()?;
            self.bytes.get(at..at.checked_add(N)?)?.try_into().ok()
        };
        get().ok_or_else(|| self.truncated(format!("{N} bytes at {at}"), format!("{} bytes", self.bytes.len())))
    }

    fn u16(&self, at: u64) -> Result<u16, PackageError> {
        self.field(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> Result<u32, PackageError> {
        self.field(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> Result<u64, PackageError> {
        self.field(at).map(u64::from_le_bytes)
    }

    fn name(&self, at: u64, bytes: u64) -> Result<String, PackageError> {
        let (from, to) = (at as usize, at.saturating_add(bytes) as usize);
        let name = self.bytes.get(from..to).and_then(|b| std::str::from_utf8(b).ok()).filter(|n| is_member_name(n));
        name.map(str::to_string)
            .ok_or_else(|| self.damaged("the archive", "member names that are relative paths", "another name"))
    }

    /// The values of the ZIP64 extra field, at most three.
    fn zip64(&self, from: u64, bytes: u64) -> Result<Vec<u64>, PackageError> {
        let (mut at, end) = (from, from + bytes);
        while at + 4 <= end {
            let (id, length) = (self.u16(at)?, u64::from(self.u16(at + 2)?));
            if id == ZIP64_FIELD {
                return (0..length / 8).take(3).map(|i| self.u64(at + 4 + 8 * i)).collect();
            }
            at += 4 + length;
        }
        Ok(Vec::new())
    }

    fn truncated(&self, expected: String, found: String) -> PackageError {
        PackageError::Truncated { path: self.path.into(), expected, found }
    }

    fn damaged(&self, member: &str, expected: &str, found: impl Into<String>) -> PackageError {
        PackageError::Corrupted {
            path: self.path.into(),
            member: member.into(),
            expected: expected.into(),
            found: found.into(),
        }
    }
}
