//! Turning as many vectors as they have lanes.

use mlxc_ir::kernel::{KernelBuilder, Reg};

/// Turns registers `[n]` of n lanes, a power of two: register i has lane i of each, in their order.
///
/// Blocks of 1, 2, 4, … lanes change places, as in Eklundh's method (IEEE Transactions on Computers C-21, 1972).
pub(super) fn transpose<'k>(k: &'k KernelBuilder, rows: Reg<'k>, n: i64) {
    let mut block = 1;
    while block < n {
        k.for_("i", k.int(0), k.int(n / 2), 1, true, |i| {
            let low = i.div(block) * (2 * block) + i.rem(block);
            let both = k.let_("both", k.vector(&[rows.get([low]), rows.get([low + block])]));
            rows.set([low], both.shuffle(n as u8, |l| l + l.div(block).rem(2) * (n - block)));
            rows.set([low + block], both.shuffle(n as u8, |l| l + block + l.div(block).rem(2) * (n - block)));
        });
        block *= 2;
    }
}
