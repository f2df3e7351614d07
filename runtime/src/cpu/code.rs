//! Machine code of a package, mapped executable and never writable at the same time.

use memmap2::{Mmap, MmapMut};
use std::io;

/// Runs tasks `lo..hi` of a phase: `(record, slot, lo, hi)`, see `mlxc_package::Target::abi`.
#[cfg(target_arch = "x86_64")]
pub(crate) type Thunk = unsafe extern "sysv64" fn(*const u64, *mut u8, i64, i64);
/// Runs tasks `lo..hi` of a phase: `(record, slot, lo, hi)`, see `mlxc_package::Target::abi`.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) type Thunk = unsafe extern "C" fn(*const u64, *mut u8, i64, i64);

/// The smallest page there is; mappings are at least so aligned.
pub(crate) const PAGE: u64 = 4096;

/// A blob of code, callable at its offsets.
pub(crate) struct Code {
    map: Mmap,
}

impl Code {
    /// Copies code into fresh memory and makes that executable.
    pub(crate) fn new(bytes: &[u8]) -> io::Result<Self> {
        let mut map = MmapMut::map_anon(bytes.len().max(1))?;
        map[..bytes.len()].copy_from_slice(bytes);
        let map = map.make_exec()?;
        #[cfg(target_arch = "aarch64")]
        clear_instruction_cache(&map);
        Ok(Code { map })
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> u64 {
        self.map.len() as u64
    }

    /// The function at an offset. Calling it is what needs trust; `None` if the offset lies outside.
    pub(crate) fn thunk(&self, offset: u64) -> Option<Thunk> {
        let at = self.map.get(usize::try_from(offset).ok()?..)?.first()?;
        // SAFETY: a function pointer is as large as any other, and this one is not null; that it points to a
        // function of this type is what the package's symbols state, and what calling it relies on.
        Some(unsafe { std::mem::transmute::<*const u8, Thunk>(std::ptr::from_ref(at)) })
    }
}

/// Arm does not keep instruction fetch coherent with stores ("Arm ARM", B2.4.4).
#[cfg(target_arch = "aarch64")]
fn clear_instruction_cache(code: &[u8]) {
    const LINE: usize = 16; // the smallest line the architecture allows
    // SAFETY: cache maintenance by address over memory that is mapped and readable.
    unsafe {
        for at in code.iter().step_by(LINE) {
            std::arch::asm!("dc cvau, {0}", in(reg) at);
        }
        std::arch::asm!("dsb ish");
        for at in code.iter().step_by(LINE) {
            std::arch::asm!("ic ivau, {0}", in(reg) at);
        }
        std::arch::asm!("dsb ish", "isb");
    }
}
