//! Lowering: from a group of nodes to one kernel.
//!
//! A template builds the kernel of one region: [`map`] for everything without an anchor, [`matmul`] around a product
//! with a weight, [`attention`] around an attention, [`product`] around a product
//! of two computed factors, [`mod@line`] around a scan, a sort or a scatter. The
//! [`Emitter`](emit::Emitter) computes fused nodes at whatever coordinates a template asks for, so that one region
//! fuses into every template. Whether a region can be one kernel is answered by building it.

pub mod attention;
mod blocks;
pub mod coord;
mod dequantize;
mod elementwise;
pub mod emit;
mod gpu;
mod kept;
pub mod line;
pub mod map;
pub mod matmul;
mod memory;
pub mod product;
mod pull;
mod random;
mod reduce;
mod scan;
mod scatter;
mod sort;
mod tiles;
mod transpose;
mod views;

pub use elementwise::compute;

/// True if elements of a reshape from `from` to `to` are found by affine indices.
pub fn is_affine_reshape(f: &mlxc_ir::graph::Function, to: &[mlxc_ir::Size], from: &[mlxc_ir::Size]) -> bool {
    let mut space = coord::Space::default();
    let ranges = f.ranges();
    let coords: Vec<coord::Coord> = to
        .iter()
        .enumerate()
        .map(|(i, d)| {
            let last = (d.bounds(&ranges).hi - 1).max(0);
            coord::Coord::atom(space.intern(coord::Atom::Loop(i as u32), mlxc_ir::Range::new(0, last), 1))
        })
        .collect();
    pull::reshape(&mut space, to, from, &coords).is_some()
}
