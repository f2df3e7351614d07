//! Which of a target's features this machine has, by the names that `std::arch` detection uses.

/// The features of the list that this machine lacks; names unknown here count as lacking.
pub(crate) fn missing(features: &[String]) -> Vec<&str> {
    features.iter().map(String::as_str).filter(|f| !has(f)).collect()
}

#[cfg(target_arch = "x86_64")]
fn has(name: &str) -> bool {
    macro_rules! any_of {
        ($($feature:tt),* $(,)?) => {
            match name {
                $($feature => std::arch::is_x86_feature_detected!($feature),)*
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
fn has(name: &str) -> bool {
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
fn has(_: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    #[test]
    fn unknown_features_are_missing() {
        let list = ["flux".to_string(), if cfg!(target_arch = "x86_64") { "sse2" } else { "neon" }.to_string()];
        assert_eq!(super::missing(&list), ["flux"]);
    }
}
