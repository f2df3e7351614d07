//! The CPU features that targets name, and whether this machine has them.

/// True if this machine has a feature, by the name that `std::arch` detection uses; false for unknown names.
///
/// Of AMX a process must ask before its first instruction (Linux, `Documentation/arch/x86/xstate.rst`): asking is part of
/// the answer.
pub fn has_feature(name: &str) -> bool {
    detected(name)
}

#[cfg(target_arch = "x86_64")]
fn detected(name: &str) -> bool {
    macro_rules! any_of {
        ($($feature:tt),* $(,)?) => {
            match name {
                $($feature => std::arch::is_x86_feature_detected!($feature),)*
                "amx-tile" => amx::has(amx::TILE),
                "amx-bf16" => amx::has(amx::BF16),
                "amx-int8" => amx::has(amx::INT8),
                _ => false,
            }
        };
    }
    any_of!(
        "sse",
        "sse2",
        "sse3",
        "ssse3",
        "sse4.1",
        "sse4.2",
        "popcnt",
        "avx",
        "avx2",
        "bmi1",
        "bmi2",
        "f16c",
        "fma",
        "lzcnt",
        "movbe",
        "avx512f",
        "avx512bw",
        "avx512cd",
        "avx512dq",
        "avx512vl",
        "avx512bf16",
        "avx512vnni",
        "avx512vbmi",
        "avx512vbmi2",
        "avx512fp16",
        "avxvnni",
    )
}

#[cfg(target_arch = "aarch64")]
fn detected(name: &str) -> bool {
    macro_rules! any_of {
        ($($feature:tt),* $(,)?) => {
            match name {
                $($feature => std::arch::is_aarch64_feature_detected!($feature),)*
                _ => false,
            }
        };
    }
    any_of!("neon", "fp16", "bf16", "dotprod", "i8mm", "sve", "sve2")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detected(_: &str) -> bool {
    false
}

/// Matrix tiles, which stable `std::arch` does not detect.
#[cfg(target_arch = "x86_64")]
mod amx {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    use std::sync::OnceLock;

    /// Bits of EDX of CPUID leaf 7 (Intel SDM, volume 2A, CPUID).
    pub const BF16: u32 = 1 << 22;
    pub const TILE: u32 = 1 << 24;
    pub const INT8: u32 = 1 << 25;

    pub fn has(bit: u32) -> bool {
        static FOUND: OnceLock<u32> = OnceLock::new();
        FOUND.get_or_init(|| if granted() { leaf_7() } else { 0 }) & bit != 0
    }

    fn leaf_7() -> u32 {
        if __cpuid(0).eax < 7 { 0 } else { __cpuid_count(7, 0).edx }
    }

    /// Asks the kernel to save tile data for this process; threads started later have it too.
    #[cfg(target_os = "linux")]
    fn granted() -> bool {
        const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
        const XFEATURE_XTILEDATA: libc::c_ulong = 18;
        leaf_7() & TILE != 0
            // SAFETY: the call takes two numbers and touches no memory of this process.
            && unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) } == 0
    }

    #[cfg(not(target_os = "linux"))]
    fn granted() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::has_feature;

    #[test]
    fn unknown_features_are_missing() {
        assert!(!has_feature("flux"));
        assert!(has_feature(if cfg!(target_arch = "x86_64") { "sse2" } else { "neon" }));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn tiles_are_only_where_the_kernel_lists_them() {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let listed = text.split_whitespace().any(|w| w == "amx_tile");
        // A sandbox may list them and refuse them.
        assert!(listed || !has_feature("amx-tile"));
    }
}
