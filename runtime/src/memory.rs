//! Memory that lives as long as a session or model: zeroed, and in huge pages where it is large.

use crate::RuntimeError;
use memmap2::MmapMut;
use mlxc_package::BUFFER_ALIGNMENT;

/// Size and alignment of a huge page on x86-64 and, with 4 KiB pages, on Arm.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// A zeroed mapping; 2 MiB-aligned and advised to huge pages if it is that large, else aligned to a page.
pub(crate) struct Region {
    map: MmapMut,
    offset: usize,
    bytes: usize,
}

impl Region {
    pub(crate) fn new(what: &str, bytes: u64) -> Result<Self, RuntimeError> {
        let failed = |source| RuntimeError::Memory { what: what.into(), bytes, source };
        let too_large = || failed(std::io::Error::from(std::io::ErrorKind::OutOfMemory));
        let size = usize::try_from(bytes).map_err(|_| too_large())?;
        let huge = size >= HUGE_PAGE;
        let mapped = if huge { size.checked_add(HUGE_PAGE).ok_or_else(too_large)? } else { size.max(1) };
        let map = MmapMut::map_anon(mapped).map_err(failed)?;
        let offset = if huge { map.as_ptr().align_offset(HUGE_PAGE) } else { 0 };
        #[cfg(target_os = "linux")]
        if huge {
            // Advice only: without it the memory is slower, not wrong.
            let _ = map.advise_range(memmap2::Advice::HugePage, offset, size);
        }
        Ok(Region { map, offset, bytes: size })
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.bytes as u64
    }

    /// The first byte's address.
    pub(crate) fn address(&mut self) -> u64 {
        self.map[self.offset..].as_mut_ptr() as u64
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map[self.offset..self.offset + self.bytes]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.map[self.offset..self.offset + self.bytes]
    }

    /// Zeroes all of it, where possible by giving its pages back to the system.
    pub(crate) fn clear(&mut self) {
        #[cfg(target_os = "linux")]
        if self.bytes >= HUGE_PAGE {
            let range = (self.offset, self.bytes);
            // SAFETY: private anonymous pages read as zero afterwards (madvise(2)), and `&mut self` rules out
            // references into them.
            if unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.0, range.1) }.is_ok()
            {
                return;
            }
        }
        self.bytes_mut().fill(0);
    }
}

/// Offsets that put pieces of these sizes one after another as kernels need them, and the bytes of all.
pub(crate) fn pack(sizes: impl Iterator<Item = u64>) -> (Vec<u64>, u64) {
    let mut total = 0;
    let mut place = |bytes: u64| {
        let offset = total;
        total += bytes.next_multiple_of(BUFFER_ALIGNMENT);
        offset
    };
    (sizes.map(&mut place).collect(), total)
}

/// The largest amount of memory this process has had in RAM, in bytes; `None` where the system does not say.
pub fn peak_rss_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    }
    #[cfg(all(unix, not(target_os = "linux")))]
    {
        let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: getrusage fills the struct it is given; all-zero is a valid rusage.
        let usage = unsafe {
            if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
                return None;
            }
            usage.assume_init()
        };
        // Bytes on macOS and iOS, KiB on the BSDs.
        let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
        u64::try_from(usage.ru_maxrss).ok()?.checked_mul(unit)
    }
    #[cfg(not(unix))]
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_regions_are_aligned_and_cleared() {
        for bytes in [0u64, 1, 5000, 2 << 20, (5 << 20) + 77] {
            let mut region = Region::new("test", bytes).unwrap();
            assert_eq!(region.len(), bytes);
            assert_eq!(region.address() % if bytes >= 2 << 20 { 2 << 20 } else { 4096 }, 0);
            assert!(region.bytes().iter().all(|b| *b == 0));
            region.bytes_mut().fill(7);
            region.clear();
            assert!(region.bytes().iter().all(|b| *b == 0));
        }
        assert_eq!(Region::new("test", 1 << 60).err().map(|e| e.id()), Some("MLXC0704"));
    }

    #[test]
    fn peak_memory_is_known_here() {
        assert!(peak_rss_bytes().is_some_and(|b| b > 1 << 20));
    }
}
