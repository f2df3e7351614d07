//! Statements.

use mlxc_ir::kernel::{BarrierScope, Block, ExprId, LocalId, LocalKind, Stmt};

use crate::shader::{Indices, Ix, bare};

use super::{Writer, type_name};

impl Writer<'_> {
    pub(super) fn block(&mut self, block: &Block) {
        for stmt in block {
            self.statement(stmt);
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(local, e) => {
                let ty = self.k.local(*local).ty;
                if ty.is_tile() {
                    let name = self.names.local(self.k, *local);
                    return self.declare_tile(&name, *e);
                }
                let value = self.expr(*e).text;
                let name = self.names.local(self.k, *local);
                self.line(&format!("const {} {name} = {};", type_name(ty), bare(&value)));
            }
            Stmt::LetIndex(var, i) => {
                let value = self.index(*i).text();
                let name = self.names.var(*var, self.k.var_name(*var));
                self.line(&format!("const uint {name} = {value};"));
            }
            Stmt::Declare(local, value) => self.declare(*local, *value),
            Stmt::Set(local, at, e) => {
                if self.k.local(*local).ty.is_tile() {
                    let register = self.register(*local, at);
                    return self.set_tile(&register, *e);
                }
                let value = self.expr(*e).text;
                let register = self.register(*local, at);
                self.line(&format!("{register} = {};", bare(&value)));
            }
            Stmt::Store { place, value, .. } => self.store(place, *value),
            Stmt::Atomic(op, place, value) => self.atomic(*op, place, *value),
            // A hint, which the language has no word for.
            Stmt::Prefetch(_) => {}
            Stmt::For { var, lo, hi, step, unroll, body } => {
                let lo = self.index(*lo).text();
                // The bound is evaluated once.
                let hi = match self.index(*hi) {
                    Ix::Const(c) => format!("{c}u"),
                    hi => self.bind("end", "uint", hi.text()),
                };
                let name = self.names.var(*var, self.k.var_name(*var));
                if *unroll {
                    self.line("#pragma clang loop unroll(full)");
                }
                self.line(&format!("for (uint {name} = {lo}; {name} < {hi}; {name} += {step}u) {{"));
                self.nested(body);
                self.line("}");
            }
            Stmt::If { cond, then, otherwise } => {
                let cond = self.expr(*cond).text;
                self.line(&format!("if ({}) {{", bare(&cond)));
                self.nested(then);
                if !otherwise.is_empty() {
                    self.line("} else {");
                    self.nested(otherwise);
                }
                self.line("}");
            }
            Stmt::Barrier(BarrierScope::Subgroup) => self.line("simdgroup_barrier(mem_flags::mem_threadgroup);"),
            Stmt::Barrier(scope) => {
                if *scope == BarrierScope::Buffers {
                    self.line("threadgroup_barrier(mem_flags::mem_device);");
                }
                self.line("threadgroup_barrier(mem_flags::mem_threadgroup);");
            }
        }
    }

    fn nested(&mut self, block: &Block) {
        self.indent += 1;
        self.block(block);
        self.indent -= 1;
    }

    fn declare(&mut self, local: LocalId, value: Option<ExprId>) {
        let k = self.k;
        let ty = k.local(local).ty;
        self.tiles |= ty.is_tile();
        let LocalKind::Reg(dims) = &k.local(local).kind else {
            let text = value.filter(|_| !ty.is_tile()).map(|e| self.expr(e).text);
            let name = self.names.local(k, local);
            return match (value, text) {
                (Some(tile), None) => self.declare_tile(&name, tile),
                (_, Some(value)) => self.line(&format!("{} {name} = {};", type_name(ty), bare(&value))),
                (None, None) => self.line(&format!("{} {name};", type_name(ty))),
            };
        };
        // Computed once, whatever it is.
        let initial = value.map(|e| match ty.is_tile() {
            true => {
                let name = self.names.fresh("initial");
                self.declare_tile(&name, e);
                name
            }
            false => {
                let value = self.expr(e).text;
                self.bind("initial", &type_name(ty), value)
            }
        });
        let name = self.names.local(k, local);
        let extents: String = dims.iter().map(|d| format!("[{d}]")).collect();
        self.line(&format!("{} {name}{extents};", type_name(ty)));
        let Some(initial) = initial else { return };
        let mut register = name;
        let depth = self.indent;
        for dim in dims {
            let i = self.names.fresh("r");
            self.line("#pragma clang loop unroll(full)");
            self.line(&format!("for (uint {i} = 0u; {i} < {dim}u; {i} += 1u) {{"));
            register = format!("{register}[{i}]");
            self.indent += 1;
        }
        self.line(&format!("{register} = {initial};"));
        while self.indent > depth {
            self.indent -= 1;
            self.line("}");
        }
    }
}
