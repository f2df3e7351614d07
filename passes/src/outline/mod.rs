//! Outlining: the repeated blocks of a function become calls of one block function.
//!
//! What comes after works on one block, however deep the model is. Three steps: [`period`] finds stretches of the
//! node list that repeat, [`block`] checks that the repetitions are equal but for what they read from outside and picks
//! the cut that the fewest bytes cross, and [`emit`] writes the block and its calls. [`inline`] is the inverse.
//!
//! Only blocks with a product or an attention in them are outlined: a chain of elementwise ops is one kernel anyway, and
//! a call would keep it apart.

mod block;
mod emit;
mod inline;
mod period;

pub use inline::inline;

use block::Block;
use mlxc_ir::Diagnostic;
use mlxc_ir::graph::{Function, Module, Op};

/// Fewest nodes of a block worth a function of its own.
const NODES: usize = 8;

/// Outlines the repetitions of every entry. Blocks are appended to the module's functions.
///
/// # Errors
/// What inference says of a block; none for a verified module.
pub fn outline(module: &Module) -> Result<Module, Diagnostic> {
    let mut out = module.clone();
    for i in 0..module.functions.len() {
        if module.functions[i].is_block || module.functions[i].nodes.iter().any(|n| matches!(n.op, Op::Call { .. })) {
            continue;
        }
        let first = out.functions.len() as u32;
        let (f, blocks) = outline_function(&module.functions[i], first)?;
        out.functions[i] = f;
        out.functions.extend(blocks);
    }
    Ok(out)
}

/// Outlines one function; its blocks are numbered from `first`.
fn outline_function(f: &Function, first: u32) -> Result<(Function, Vec<Function>), Diagnostic> {
    let shape = block::Outside::of(f);
    let best = [block::order(f, &shape, false), block::order(f, &shape, true)]
        .into_iter()
        .map(|order| {
            let blocks = find(f, &shape, &order);
            (blocks.iter().map(|b| b.saved()).sum::<usize>(), order, blocks)
        })
        // The first of equals: the order of the user's program.
        .reduce(|a, b| if b.0 > a.0 { b } else { a });
    match best {
        Some((_, order, blocks)) if !blocks.is_empty() => emit::emit(f, &shape, &order, &blocks, first),
        _ => Ok((f.clone(), Vec::new())),
    }
}

/// Repetitions in a list of nodes, the largest first, none overlapping.
fn find(f: &Function, outside: &block::Outside, order: &[u32]) -> Vec<Block> {
    let keys = block::keys(f, order);
    let mut blocks: Vec<Block> = Vec::new();
    let mut left = vec![(0, order.len())];
    while let Some((from, to)) = left.pop() {
        let found = period::runs(&keys[from..to], NODES)
            .into_iter()
            .find_map(|run| Block::choose(f, outside, order, from + run.start, run.length, run.period));
        if let Some(b) = found {
            left.push((from, b.start));
            left.push((b.start + b.count * b.period, to));
            blocks.push(b);
        }
    }
    blocks.sort_by_key(|b| b.start);
    blocks
}
