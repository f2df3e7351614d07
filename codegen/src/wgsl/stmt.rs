//! Statements.

use mlxc_ir::kernel::{BarrierScope, Block, ExprId, LocalId, LocalKind, Stmt};

use crate::shader::{Indices, Ix, bare};

use super::Writer;

impl Writer<'_> {
    pub(super) fn block(&mut self, block: &Block) {
        for stmt in block {
            self.statement(stmt);
        }
    }

    fn statement(&mut self, stmt: &Stmt) {
        match stmt {
            Stmt::Let(local, e) => {
                let value = self.expr(*e).text;
                let name = self.names.local(self.k, *local);
                self.line(&format!("let {name} = {};", bare(&value)));
            }
            Stmt::LetIndex(var, i) => {
                let value = self.index(*i).text();
                let name = self.names.var(*var, self.k.var_name(*var));
                self.line(&format!("let {name} = {value};"));
            }
            Stmt::Declare(local, value) => self.declare(*local, *value),
            Stmt::Set(local, at, e) => {
                let value = self.expr(*e).text;
                let register = self.register(*local, at);
                self.line(&format!("{register} = {value};"));
            }
            Stmt::Store { place, value, .. } => self.store(place, *value),
            Stmt::Atomic(op, place, value) => self.atomic(*op, place, *value),
            // A hint, which the language has no word for.
            Stmt::Prefetch(_) => {}
            Stmt::For { var, lo, hi, step, body, .. } => {
                let lo = self.index(*lo).text();
                // The bound is evaluated once.
                let hi = match self.index(*hi) {
                    Ix::Const(c) => format!("{c}u"),
                    hi => self.bind("end", hi.text()),
                };
                let name = self.names.var(*var, self.k.var_name(*var));
                self.line(&format!("for (var {name} = {lo}; {name} < {hi}; {name} += {step}u) {{"));
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
            Stmt::Barrier(scope) => {
                if *scope == BarrierScope::Buffers {
                    self.line("storageBarrier();");
                }
                self.line("workgroupBarrier();");
            }
        }
    }

    fn nested(&mut self, block: &Block) {
        self.indent += 1;
        self.block(block);
        self.indent -= 1;
    }

    fn declare(&mut self, local: LocalId, value: Option<ExprId>) {
        let kind = self.k.local(local).kind.clone();
        let ty = self.ty(self.k.local(local).ty);
        let value = value.map(|e| self.expr(e).text);
        let name = self.names.local(self.k, local);
        let LocalKind::Reg(dims) = kind else {
            return match value {
                Some(value) => self.line(&format!("var {name}: {ty} = {value};")),
                None => self.line(&format!("var {name}: {ty};")),
            };
        };
        let length: u32 = dims.iter().product();
        self.line(&format!("var {name}: array<{ty}, {length}>;"));
        if let Some(value) = value {
            let value = self.bind("initial", value);
            let i = self.names.fresh("r");
            self.line(&format!("for (var {i} = 0u; {i} < {length}u; {i} += 1u) {{"));
            self.line(&format!("  {name}[{i}] = {value};"));
            self.line("}");
        }
    }
}
