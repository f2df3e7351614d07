//! Matrix tiles, which a simdgroup holds together.
//!
//! Which elements a lane holds is not in Apple's documents; MLX (`steel/gemm/mma.h`, MIT licence) and tinygrad rely
//! on the same map: two neighbours of one row.

use mlxc_ir::kernel::{ExprId, ExprKind, Place, TileOrder};

use super::{SIMD_LANE, Writer, scalar_type, type_name};

impl Writer<'_> {
    /// The name of a tile: that of a variable, or of one that is declared for it.
    fn tile(&mut self, id: ExprId, base: &str) -> String {
        if let ExprKind::Get(local, at) = &self.k.expr(id).kind {
            return self.register(*local, at);
        }
        let name = self.names.fresh(base);
        self.declare_tile(&name, id);
        name
    }

    /// Declares a tile with a value.
    pub(super) fn declare_tile(&mut self, name: &str, value: ExprId) {
        self.tiles = true;
        let ty = type_name(self.k.expr(value).ty);
        if let ExprKind::Get(..) | ExprKind::Splat(_) = self.k.expr(value).kind {
            let value = self.tile_value(value);
            return self.line(&format!("{ty} {name} = {value};"));
        }
        self.line(&format!("{ty} {name};"));
        self.set_tile(name, value);
    }

    /// A tile that is assigned as a whole.
    fn tile_value(&mut self, id: ExprId) -> String {
        let expr = self.k.expr(id);
        match &expr.kind {
            ExprKind::Get(local, at) => self.register(*local, at),
            ExprKind::Splat(one) => {
                let one = self.expr(*one).text;
                format!("make_filled_simdgroup_matrix<{}, 8, 8>({one})", scalar_type(expr.ty.dtype()))
            }
            other => panic!("invariant: `check` refuses {other:?} of tiles"),
        }
    }

    /// Computes a tile into a variable.
    pub(super) fn set_tile(&mut self, to: &str, value: ExprId) {
        self.tiles = true;
        match &self.k.expr(value).kind {
            ExprKind::LoadTile { place, order } => {
                let (pointer, stride) = self.pointer_and_stride(place);
                let rest = if *order == TileOrder::Columns { ", ulong2(0ul, 0ul), true" } else { "" };
                self.line(&format!("simdgroup_load({to}, {pointer}, ulong({stride}){rest});"));
            }
            ExprKind::Mma(a, b, c) => {
                let (a, b, c) = (self.tile(*a, "a"), self.tile(*b, "b"), self.tile(*c, "c"));
                self.line(&format!("simdgroup_multiply_accumulate({to}, {a}, {b}, {c});"));
            }
            ExprKind::TileMap { tile, row, column, element, body } => {
                let from = self.tile(*tile, "t");
                if from != to {
                    self.line(&format!("{to} = {from};"));
                }
                let lane = self.builtin(SIMD_LANE);
                let i = self.names.var(*row, self.k.var_name(*row));
                let j = self.names.var(*column, self.k.var_name(*column));
                let e = self.names.fresh("e");
                let v = self.names.local(self.k, *element);
                let ty = type_name(self.k.local(*element).ty);
                self.line("#pragma clang loop unroll(full)");
                self.line(&format!("for (uint {e} = 0u; {e} < 2u; {e} += 1u) {{"));
                self.indent += 1;
                self.line(&format!("const uint {i} = ({lane} / 4u & 4u) + {lane} / 2u % 4u;"));
                self.line(&format!("const uint {j} = ({lane} / 4u & 2u) * 2u + {lane} % 2u * 2u + {e};"));
                self.line(&format!("const {ty} {v} = {to}.thread_elements()[{e}];"));
                let value = self.expr(*body).text;
                self.line(&format!("{to}.thread_elements()[{e}] = {value};"));
                self.indent -= 1;
                self.line("}");
            }
            _ => {
                let value = self.tile_value(value);
                self.line(&format!("{to} = {value};"));
            }
        }
    }

    pub(super) fn store_tile(&mut self, place: &Place, value: ExprId) {
        let tile = self.tile(value, "t");
        let (pointer, stride) = self.pointer_and_stride(place);
        self.line(&format!("simdgroup_store({tile}, {pointer}, ulong({stride}));"));
    }

    /// True if lanes meet in the expression: it must not stand in an arm that only some evaluate.
    pub(super) fn is_collective(&self, id: ExprId) -> bool {
        let kind = &self.k.expr(id).kind;
        let mut found = matches!(kind, ExprKind::Subgroup(..));
        kind.operands(&mut |e| found |= self.is_collective(e));
        found
    }
}
