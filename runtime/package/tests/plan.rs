//! The check of plans: every seeded fault is found, sound variations pass, and no plan makes it panic.

#![allow(clippy::unwrap_used)]

mod sample;

use mlxc_package::plan::*;
use mlxc_package::*;
use proptest::prelude::*;
use sample::{c, plan, s};
use serde_json::Value;

fn refused(name: &str, change: impl FnOnce(&mut Plan)) {
    let mut p = plan();
    change(&mut p);
    let e = check_plan(&p).expect_err(name);
    assert_eq!(e.id(), "MLXC0606", "{name}");
}

#[test]
fn a_sound_plan_passes() {
    check_plan(&plan()).unwrap();
    check_plan(&Plan::default()).unwrap();
    check_plan(&sample::shader_plan()).unwrap();
    let mut p = plan();
    // A buffer in the place of one that has died, and an in-place result in the place of one that dies now.
    let e = &mut p.entries[0];
    e.arena.bytes = 1024;
    let extra = Buffer {
        name: "again".into(),
        place: Place::Arena { offset: 0 },
        first: 1,
        last: 1,
        alias: Some(Alias { of: 2, reason: "in place".into() }),
        ..e.buffers[2].clone()
    };
    e.buffers.push(extra);
    check_plan(&p).unwrap();
}

#[test]
fn seeded_faults_are_found() {
    type E<'a> = &'a mut Entry;
    let entry = |name: &str, change: fn(E)| refused(name, |p| change(&mut p.entries[0]));
    entry("kernel index", |e| e.launches[0].kernel = 2);
    entry("phase index", |e| e.launches[0].phase = 1);
    entry("buffer index", |e| e.launches[0].buffers[0] = 9);
    entry("buffer count", |e| e.launches[0].buffers.truncate(2));
    entry("scalar count", |e| e.launches[0].scalars.clear());
    entry("symbol in a grid", |e| e.launches[0].grid = vec![Size::symbol(SymId(7))]);
    entry("tasks", |e| e.launches[0].grid = vec![s() * c(1 << 62); 2]);
    entry("input index", |e| e.buffers[0].place = Place::Input(5));
    entry("input dtype", |e| e.buffers[0].dtype = DType::I32);
    entry("output shape", |e| e.buffers[4].shape = vec![s()]);
    entry("weight index", |e| e.buffers[1].place = Place::Weight(1));
    entry("more than the weight", |e| e.buffers[1].bytes = 4096);
    entry("state index", |e| e.buffers[3].place = Place::State(1));
    entry("too few bytes", |e| e.buffers[2].bytes = 508);
    entry("outside the arena", |e| e.buffers[2].place = Place::Arena { offset: 256 });
    entry("far outside the arena", |e| e.buffers[2].place = Place::Arena { offset: u64::MAX - 255 });
    entry("misaligned", |e| {
        e.arena.bytes = 4096;
        e.buffers[2].place = Place::Arena { offset: 64 };
    });
    entry("life too short", |e| e.buffers[2].last = 0);
    entry("life turned round", |e| e.buffers[2].first = 2);
    entry("alias of a later one", |e| e.buffers[2].alias = Some(Alias { of: 2, reason: String::new() }));
    entry("symbol turned round", |e| e.symbols[0].range = Range::new(3, 2));
    entry("negative symbol", |e| e.symbols[0].range = Range::new(-1, 2));
    entry("large symbol", |e| e.symbols[0].range = Range::new(1, 1 << 31));
    entry("multiple", |e| e.symbols[0].multiple = 0);
    entry("no input gives S", |e| {
        e.inputs[0].shape[0] = s() + c(1);
        e.buffers[0].shape[0] = s() + c(1);
        e.buffers[0].bytes = 1024;
    });
    entry("no input gives pos", |e| e.inputs[1].name = "position".into());
    entry("names twice", |e| e.inputs[1].name = "x".into());
    entry("group memory", |e| e.arena.worker_bytes = 0);
    entry("large arena", |e| e.arena.bytes = u64::MAX);
    entry("unwritten output", |e| e.launches[1].buffers[2] = 2);
    entry("read before written", |e| e.launches.swap(0, 1));
    entry("overlap", |e| {
        let twin = e.buffers[2].clone();
        e.buffers.push(twin);
    });
    entry("overlap in one launch, in spite of an alias", |e| {
        let alias = Some(Alias { of: 2, reason: "wrong".into() });
        e.buffers.push(Buffer { alias, ..e.buffers[2].clone() });
        e.launches[1].buffers[1] = 5;
    });
    refused("store to a weight", |p| p.kernels[0].buffers[1] = Access::Update);
    refused("store to an input", |p| p.kernels[0].buffers[0] = Access::Write);
    refused("no lanes", |p| p.kernels[0].phases[0].lanes = 0);
    refused("too many lanes", |p| p.kernels[1].phases[0].lanes = 1025);
    refused("flags for other buffers", |p| p.kernels[0].constant = vec![true]);
    refused("an input as a constant", |p| p.kernels[0].constant = vec![true, true, false]);
    refused("weight bytes", |p| p.weights[0].bytes = 160);
    refused("panel of nothing", |p| p.weights[0].layout = Layout::Blocked { block: 0, pair: 1 });
    refused("large weight", |p| p.weights[0].shape = vec![u64::MAX, u64::MAX]);
    refused("hidden overflow", |p| p.weights[0].shape = vec![0, u64::MAX, u64::MAX]);
    refused("state bytes", |p| p.states[0].bytes += 1);
    refused("states twice", |p| p.states.push(p.states[0].clone()));
}

#[test]
fn a_refusal_names_place_expectation_and_finding() {
    let mut p = plan();
    p.entries[0].buffers[2].bytes = 8;
    let text = check_plan(&p).unwrap_err().to_string();
    for word in ["entry `main`", "`t`", "512 bytes", "found 8"] {
        assert!(text.contains(word), "{text}");
    }
}

/// Sets the number, text or list that is met at a pseudo-random place.
fn mutate(value: &mut Value, at: &mut usize, with: i128) {
    match value {
        Value::Array(items) => {
            if *at == 0 && with % 3 == 0 && !items.is_empty() {
                items.pop();
                *at = usize::MAX;
                return;
            }
            *at = at.wrapping_sub(1);
            items.iter_mut().for_each(|v| mutate(v, at, with));
        }
        Value::Object(map) => map.values_mut().for_each(|v| mutate(v, at, with)),
        Value::Number(_) => {
            if *at == 0 {
                *value = u64::try_from(with).map_or(Value::from(with as i64), Value::from);
            }
            *at = at.wrapping_sub(1);
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_plan_makes_the_check_panic(
        changes in prop::collection::vec(
            (0usize..260, prop_oneof![
                Just(0i128), Just(1), Just(-1), Just(2), Just(255), Just(256), Just(1 << 20), Just(1 << 31),
                Just(i64::MAX as i128), Just(i64::MIN as i128), Just(u64::MAX as i128), -100i128..100,
            ]),
            1..4,
        ),
    ) {
        let mut value = serde_json::to_value(plan()).unwrap();
        for (at, with) in changes {
            mutate(&mut value, &mut at.clone(), with);
        }
        if let Ok(p) = serde_json::from_value::<Plan>(value)
            && check_plan(&p).is_ok()
        {
            // What the check lets through holds at the corners of the symbols' ranges.
            for entry in &p.entries {
                for corner in 0..4 {
                    let values: Vec<i64> = entry.symbols.iter().enumerate()
                        .map(|(i, y)| if corner >> i & 1 == 0 { y.range.lo } else { y.range.hi }).collect();
                    for b in &entry.buffers {
                        let elements = b.shape.iter().map(|d| d.eval(&values).max(0) as u128).product::<u128>();
                        prop_assert!(elements * u128::from(b.dtype.bytes()) <= u128::from(b.bytes));
                    }
                }
            }
        }
    }
}
