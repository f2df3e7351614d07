//! Kernels and values as a graph for Graphviz.
//!
//! A repeated block is drawn once: what its repetitions pass to each other leads back into it, dashed.

use super::escape::dot;
use super::model::{Access, Entry, Place, Target};
use crate::report::human;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// A target's entries, a cluster each.
pub fn print(target: &Target) -> String {
    let mut out = format!("digraph {} {{\n", dot(&target.name));
    out.push_str(
        "  rankdir=TB;\n  newrank=true;\n  node [fontname=\"sans-serif\", fontsize=10];\n  edge [color=\"#666666\"];\n",
    );
    for (i, e) in target.entries.iter().enumerate() {
        entry(&mut out, target, i, e);
    }
    out.push_str("}\n");
    out
}

/// For each launch the one that is drawn for it: of a block that of its first repetition.
fn drawn(e: &Entry) -> Vec<usize> {
    let mut first: BTreeMap<(&str, usize), usize> = BTreeMap::new();
    let mut within: BTreeMap<(&str, u32), usize> = BTreeMap::new();
    let mut out = Vec::new();
    for (i, l) in e.launches.iter().enumerate() {
        out.push(match l.repetition {
            None => i,
            Some(n) => {
                let at = within.entry((&l.function, n)).or_default();
                let shown = *first.entry((&l.function, *at)).or_insert(i);
                *at += 1;
                shown
            }
        });
    }
    out
}

fn entry(out: &mut String, target: &Target, number: usize, e: &Entry) {
    let shown = drawn(e);
    // A buffer that a hidden launch uses is that of the launch drawn for it, in the same position.
    let mut stands_for: Vec<u32> = (0..e.buffers.len() as u32).collect();
    for (i, l) in e.launches.iter().enumerate().filter(|(i, _)| shown[*i] != *i) {
        let access = &target.kernels[l.kernel as usize].access;
        for ((mine, other), a) in l.buffers.iter().zip(&e.launches[shown[i]].buffers).zip(access) {
            let made = *a != Access::Read && e.buffers[*mine as usize].first == i as u32;
            if made
                || e.buffers[*mine as usize].place == Place::Weight
                || e.buffers[*mine as usize].place == Place::State
            {
                stands_for[*mine as usize] = stands_for[*other as usize];
            }
        }
    }
    let mut values: BTreeSet<u32> = BTreeSet::new();
    let mut edges: BTreeSet<(bool, u32, usize, bool)> = BTreeSet::new();
    let _ = writeln!(out, "  subgraph {} {{\n    label={};", dot(&format!("cluster_{number}")), dot(&e.name));
    let mut blocks: BTreeMap<&str, (Vec<usize>, u32)> = BTreeMap::new();
    for (i, l) in e.launches.iter().enumerate() {
        let at = shown[i];
        if let Some(n) = l.repetition {
            let block = blocks.entry(&l.function).or_default();
            block.1 = block.1.max(n + 1);
            if at == i {
                block.0.push(i);
            }
        } else {
            kernel(out, target, number, e, i, "    ");
        }
        let access = &target.kernels[l.kernel as usize].access;
        for (b, a) in l.buffers.iter().zip(access) {
            let value = stands_for[*b as usize];
            values.insert(value);
            let hidden = at != i;
            // What is drawn already is not drawn again for a repetition.
            let mut draw = |reads: bool| {
                if !hidden || !edges.contains(&(reads, value, at, false)) {
                    edges.insert((reads, value, at, hidden));
                }
            };
            if *a != Access::Write {
                draw(true);
            }
            if *a != Access::Read {
                draw(false);
            }
        }
    }
    for (i, (name, (members, times))) in blocks.iter().enumerate() {
        let _ = writeln!(
            out,
            "    subgraph {} {{\n      label={};\n      style=dashed;",
            dot(&format!("cluster_{number}_{i}")),
            dot(&format!("{name} ×{times}"))
        );
        members.iter().for_each(|m| kernel(out, target, number, e, *m, "      "));
        out.push_str("    }\n");
    }
    for v in values {
        let b = &e.buffers[v as usize];
        let label = format!("{}\n{}[{}]\n{}", b.name, b.dtype, b.shape.join(", "), human(b.bytes));
        let shape = match b.place {
            Place::Arena => "ellipse",
            Place::Weight => "cylinder",
            Place::State => "folder",
            Place::Input | Place::Output => "parallelogram",
        };
        let _ = writeln!(out, "    {} [label={}, shape={shape}];", dot(&format!("v{number}_{v}")), dot(&label));
    }
    for (reads, value, launch, again) in edges {
        let (v, k) = (dot(&format!("v{number}_{value}")), dot(&format!("k{number}_{launch}")));
        let style = if again { " [style=dashed, constraint=false]" } else { "" };
        let _ = if reads { writeln!(out, "    {v} -> {k}{style};") } else { writeln!(out, "    {k} -> {v}{style};") };
    }
    out.push_str("  }\n");
}

fn kernel(out: &mut String, target: &Target, number: usize, e: &Entry, launch: usize, indent: &str) {
    let l = &e.launches[launch];
    let k = &target.kernels[l.kernel as usize];
    let phase = match k.phases.len() {
        0 | 1 => String::new(),
        _ => format!(".{}", k.phases[l.phase as usize]),
    };
    let label = format!("{launch}: {}{phase}\n{}\n{}", k.name, k.template, human(l.bytes as u64));
    let _ = writeln!(
        out,
        "{indent}{} [label={}, shape=box, style=\"filled,rounded\", fillcolor=\"#dce8f4\"];",
        dot(&format!("k{number}_{launch}")),
        dot(&label)
    );
}
