//! The fused nodes after a product, for one block of rows and columns.

use super::{Product, TILE, divides};
use crate::lower::coord::Coord;
use crate::lower::emit::{Emitter, Lowered, Region, Team};
use crate::lower::map::{domain, store_all};
use crate::lower::matmul::Window;
use crate::lower::matmul::parts::Part;
use crate::lower::matmul::{push, spine, stored_value};
use mlxc_ir::graph::ValueId;
use mlxc_ir::{Range, Size};
use std::cell::RefCell;
use std::rc::Rc;

impl<'k> Product<'_, 'k> {
    /// Stores the outputs of a part, its elements dealt out to the lanes.
    pub(super) fn epilogue(
        &self,
        e: &mut Emitter<'k, '_>,
        region: &Region,
        anchor: ValueId,
        part: &Part,
        window: &Rc<RefCell<Window>>,
        base: Coord,
        ragged: bool,
    ) -> Lowered<()> {
        let f = e.f;
        let plan = self.plan;
        let paths: Vec<Vec<ValueId>> =
            part.outputs.iter().map(|v| spine(f, region, anchor, stored_value(f, *v))).collect::<Lowered<_>>()?;
        // A quotient by more than the block is wide asks for a wider block.
        e.columns.extend_from_slice(&base.terms);
        let whole =
            divides(&self.columns, TILE) && part.columns % TILE == 0 && plan.splits.iter().all(|s| s % TILE == 0);
        let w = if whole { TILE } else { 1 };
        let outer = std::mem::replace(&mut e.width, w as u8);
        let k = e.k;
        let team = Team { lanes: plan.lanes as u32, at: k.lane() };
        let items = Size::constant(plan.rows * plan.width / w);
        let result = e.lane_loop("item", &items, team, 1, &mut |e, item| {
            let item = e.ix(&item);
            let r = k.let_index("r", item.div(plan.width / w));
            let local_row = e.index(r, Range::new(0, plan.rows - 1), 1);
            let local = e.split_number(item.rem(plan.width / w), plan.width, &plan.splits, w);
            let row = self.row.plus(&local_row, 1);
            let column = base.plus(&local, 1).plus(&e.lane(), 1);
            e.columns.extend_from_slice(&local.terms);
            {
                let mut w = window.borrow_mut();
                w.row = row.clone();
                w.local_row = local_row;
                w.base = base.clone();
                w.segments = part.segments.clone();
            }
            let body = |e: &mut Emitter<'k, '_>| {
                for (v, path) in part.outputs.iter().zip(&paths) {
                    let mut start = window.borrow().batch.clone();
                    start.extend([row.clone(), column.clone()]);
                    let at = push(e, path, &start)?;
                    debug_assert_eq!(at.len(), domain(f, *v).len());
                    store_all(e, &[*v], &at)?;
                }
                Ok(())
            };
            let mut inside = None;
            if !divides(&self.rows, plan.rows) {
                let (m, hi) = (e.ix(&row), e.size(&self.rows)?);
                inside = Some(m.lt(hi));
            }
            if self.columns.as_const().is_none() || part.columns % plan.width != 0 {
                debug_assert!(ragged, "only a whole product may have a ragged last block");
                let c = e.ix(&base.plus(&local, 1));
                let here = c.lt(e.size(&self.columns)?);
                inside = Some(inside.map_or(here, |x| x & here));
            }
            let Some(inside) = inside else { return body(e) };
            let mut result = Ok(());
            k.if_(inside, || result = e.scoped(1.0, body));
            result
        });
        e.width = outer;
        result
    }
}
