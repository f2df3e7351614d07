//! Times and counts as people read them.

/// Seconds with a unit that leaves one to three digits before the point.
pub fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    format!("{} {unit}", three_digits(value))
}

/// A count with a decimal prefix.
pub fn count(n: f64) -> String {
    const PREFIXES: [&str; 5] = ["", " k", " M", " G", " T"];
    let mut value = n;
    let mut prefix = 0;
    while value >= 1000.0 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    if prefix == 0 { format!("{value:.0}") } else { format!("{}{}", three_digits(value), PREFIXES[prefix]) }
}

fn three_digits(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(time(2.5e-6), "2.50 µs");
        assert_eq!(time(0.0421), "42.1 ms");
        assert_eq!(time(0.0), "0.00 ns");
        assert_eq!(count(12.0), "12");
        assert_eq!(count(134_217_728.0), "134 M");
    }
}
