//! What a launch costs, and that threads beyond the cores do not stall a step.

#![allow(clippy::unwrap_used)]

mod fixture;

use fixture::{WIDTH, package_with};
use mlxc_package::plan::{Alias, Buffer, Launch, Place};
use mlxc_runtime::*;
use std::time::{Duration, Instant};

const LAUNCHES: u32 = 600;

/// The first launch again and again, from `x` to `t` and from `t` to `t` of a second buffer and back.
fn many_launches() -> std::sync::Arc<Package> {
    let change = |p: &mut mlxc_package::plan::Plan| {
        let e = &mut p.entries[0];
        let bytes = e.buffers[2].bytes;
        e.arena.bytes = 256 + 2 * bytes;
        let first = e.launches.remove(0);
        e.buffers[1].last = LAUNCHES;
        e.buffers[2].last = LAUNCHES + 3;
        let place = Place::Arena { offset: 256 + bytes };
        let alias: Option<Alias> = None;
        let second = Buffer { name: "u".into(), place, alias, last: LAUNCHES + 2, ..e.buffers[2].clone() };
        e.buffers.push(second);
        let repeated = (0..LAUNCHES).map(|i| {
            let (from, to) = if i % 2 == 0 { (2, 6) } else { (6, 2) };
            Launch { buffers: vec![from, 1, to], ..first.clone() }
        });
        let mut launches = vec![first.clone()];
        launches.extend(repeated);
        launches.append(&mut e.launches);
        e.launches = launches;
        for b in &mut e.buffers[3..6] {
            b.first += LAUNCHES;
            b.last += LAUNCHES;
        }
    };
    package_with(change, &[], std::env::consts::ARCH)
}

#[test]
fn a_launch_costs_microseconds_at_most() {
    let package = many_launches();
    let x = Tensor::from_slice(&[16, WIDTH], &vec![1f32; 16 * WIDTH as usize]).unwrap();
    let pos = Tensor::scalar(0i32).unwrap();
    let mut expected: Option<Vec<Tensor>> = None;
    let all = std::thread::available_parallelism().unwrap().get();
    for threads in [1, 2, all, 2 * all, 4 * all + 1] {
        let options = LoadOptions { threads: Some(threads), ..LoadOptions::default() };
        let mut session = Model::load(package.clone(), &options).unwrap().session().unwrap();
        let main = session.entry("main").unwrap();
        let mut outputs = session.outputs(main);
        let mut best = Duration::MAX;
        for _ in 0..60 {
            let start = Instant::now();
            session.step(main, &[x.view(), pos.view()], &mut outputs).unwrap();
            best = best.min(start.elapsed());
        }
        match &expected {
            Some(expected) => assert_eq!(&outputs, expected),
            None => expected = Some(outputs.clone()),
        }
        let nanoseconds = best.as_nanos() / u128::from(LAUNCHES + 4);
        println!("{threads} threads: {nanoseconds} ns a launch of {} tasks", 16 * 3);
        // Loose: other tests run meanwhile. A thread that waited for its time slice would take milliseconds.
        assert!(nanoseconds < 100_000, "{threads} threads: {nanoseconds} ns");
    }
}
