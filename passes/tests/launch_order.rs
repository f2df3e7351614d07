//! The order of launches beside every order there is.

use mlxc_passes::memory::order::{Launch, order, peak};
use std::collections::BTreeSet;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Launches that each write one or two buffers and read some of those before; now and then one writes anew what others have read.
fn problem(r: &mut Random, launches: u64) -> (Vec<Launch>, Vec<u64>) {
    let mut bytes: Vec<u64> = Vec::new();
    let mut out = Vec::new();
    for _ in 0..launches {
        let mut l = Launch::default();
        for _ in 0..r.below(4).min(bytes.len() as u64) {
            l.reads.push(r.below(bytes.len() as u64) as usize);
        }
        for _ in 0..=r.below(2) {
            if r.below(10) == 0 && !bytes.is_empty() {
                l.writes.push(r.below(bytes.len() as u64) as usize);
            } else {
                l.writes.push(bytes.len());
                bytes.push(if r.below(8) == 0 { 0 } else { 1 + r.below(30) });
            }
        }
        out.push(l);
    }
    (out, bytes)
}

/// Chains whose launches alternate at random; one in ten also reads what another chain made last.
fn chains(r: &mut Random, launches: u64, chains: usize) -> (Vec<Launch>, Vec<u64>) {
    let mut last: Vec<Vec<usize>> = vec![Vec::new(); chains];
    let mut out = Vec::new();
    let mut bytes = Vec::new();
    for b in 0..launches as usize {
        let chain = r.below(chains as u64) as usize;
        let mut reads: Vec<usize> = last[chain].iter().rev().take(1 + r.below(2) as usize).copied().collect();
        if r.below(10) == 0 {
            reads.extend(last[r.below(chains as u64) as usize].last());
        }
        out.push(Launch { reads, writes: vec![b] });
        bytes.push(1 + r.below(30));
        last[chain].push(b);
    }
    (out, bytes)
}

/// `a` before `b` if one of them writes what the other touches, and `a` was given first.
fn depends(launches: &[Launch], a: usize, b: usize) -> bool {
    let touches = |l: &Launch, buffer: &usize| l.reads.contains(buffer) || l.writes.contains(buffer);
    let (x, y) = (&launches[a], &launches[b]);
    a < b && (x.writes.iter().any(|w| touches(y, w)) || y.writes.iter().any(|w| touches(x, w)))
}

fn legal(launches: &[Launch], order: &[usize]) -> bool {
    let all: BTreeSet<usize> = order.iter().copied().collect();
    let early = |i: usize| order[i + 1..].iter().all(|later| !depends(launches, *later, order[i]));
    all.len() == launches.len() && order.len() == launches.len() && (0..order.len()).all(early)
}

/// The lowest peak of all legal orders.
fn lowest(launches: &[Launch], bytes: &[u64]) -> u64 {
    fn go(launches: &[Launch], bytes: &[u64], prefix: &mut Vec<usize>, best: &mut u64) {
        if prefix.len() == launches.len() {
            *best = (*best).min(peak(launches, bytes, prefix));
            return;
        }
        for l in 0..launches.len() {
            let waits = (0..l).any(|b| !prefix.contains(&b) && depends(launches, b, l));
            if !prefix.contains(&l) && !waits {
                prefix.push(l);
                go(launches, bytes, prefix, best);
                prefix.pop();
            }
        }
    }
    let mut best = u64::MAX;
    go(launches, bytes, &mut Vec::new(), &mut best);
    best
}

#[test]
fn small_orders_are_the_best_there_are() {
    let mut r = Random(0x2545_f491_4f6c_dd1d);
    let (mut given, mut found, mut worst): (f64, f64, (f64, f64)) = (0.0, 0.0, (1.0, 1.0));
    let cases = 2_500;
    for case in 0..cases {
        let n = 2 + r.below(7);
        let (launches, bytes) = problem(&mut r, n);
        let o = order(&launches, &bytes);
        assert!(legal(&launches, &o), "case {case}: {launches:?} {o:?}");
        let best = lowest(&launches, &bytes).max(1);
        let same: Vec<usize> = (0..launches.len()).collect();
        let ratio = |o: &[usize]| peak(&launches, &bytes, o).max(1) as f64 / best as f64;
        let (g, f) = (ratio(&same), ratio(&o));
        (given, found) = (given + g, found + f);
        worst = (worst.0.max(g), worst.1.max(f));
        assert_eq!(peak(&launches, &bytes, &o).max(1), best, "case {case}: {launches:?} {bytes:?}");
    }
    let mean = |sum: f64| 100.0 * (sum / f64::from(cases) - 1.0);
    eprintln!("{cases} orders, above the lowest peak in the mean and at worst");
    eprintln!("  given {:.2} % {:.1} %", mean(given), 100.0 * (worst.0 - 1.0));
    eprintln!("  found {:.2} % {:.1} %", mean(found), 100.0 * (worst.1 - 1.0));
}

#[test]
fn large_orders_are_legal_and_no_worse_than_given() {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let cases = 10;
    for width in [1, 4, 16, 0] {
        let (mut sum, mut slowest) = (0.0, 0.0f64);
        for _ in 0..cases {
            let (launches, bytes) = if width == 0 { problem(&mut r, 300) } else { chains(&mut r, 300, width) };
            let same: Vec<usize> = (0..launches.len()).collect();
            let start = std::time::Instant::now();
            let o = order(&launches, &bytes);
            slowest = slowest.max(start.elapsed().as_secs_f64());
            assert!(legal(&launches, &o));
            let (before, after) = (peak(&launches, &bytes, &same), peak(&launches, &bytes, &o));
            assert!(after <= before);
            sum += after as f64 / before as f64;
        }
        let kind = if width == 0 { "without chains".into() } else { format!("in {width} chains") };
        let share = 100.0 * sum / f64::from(cases);
        eprintln!("300 launches {kind}: {share:.1} % of the peak given, at most {:.1} ms", 1e3 * slowest);
    }
}
