//! Kernels to text, the inverse of parsing: one statement a line, names as they are.

use super::index::Index;
use super::ops::{BinaryOp, FoldOp, SubgroupOp, UnaryOp};
use super::parse::precedence;
use super::scalar;
use super::types::*;
use mlxc_package::DType;
use std::fmt::Write;

/// The text of a kernel. Parsing it gives an equal kernel if every name is visible where it is used, which the
/// verifier checks.
pub fn print(kernel: &Kernel) -> String {
    let mut p = Printer { k: kernel, out: String::new(), indent: 1 };
    let _ = write!(p.out, "kernel {} {{", kernel.name);
    if let Some(comment) = &kernel.comment {
        p.out.push_str(" // ");
        p.out.push_str(&one_line(comment));
    }
    p.out.push('\n');
    p.header();
    for step in &kernel.steps {
        p.step(step);
    }
    p.out.push_str("}\n");
    p.out
}

/// The text of one index expression.
pub fn print_index(kernel: &Kernel, index: IndexId) -> String {
    let mut p = Printer { k: kernel, out: String::new(), indent: 0 };
    p.index(index, 0);
    p.out
}

/// The first line of one statement, for messages.
pub(super) fn print_statement(kernel: &Kernel, stmt: &Stmt) -> String {
    let mut p = Printer { k: kernel, out: String::new(), indent: 0 };
    p.statement(stmt);
    p.out.lines().next().unwrap_or_default().to_string()
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ").trim().to_string()
}

struct Printer<'k> {
    k: &'k Kernel,
    out: String,
    indent: usize,
}

/// Tighter than every binary operator.
const UNARY: u8 = 10;

impl Printer<'_> {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn start(&mut self) {
        for _ in 0..self.indent {
            self.out.push_str("  ");
        }
    }

    fn line(&mut self, text: &str) {
        self.start();
        self.put(text);
        self.out.push('\n');
    }

    fn list<T: Copy>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, T)) {
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                self.put(", ");
            }
            each(self, *item);
        }
    }

    fn header(&mut self) {
        let k = self.k;
        for origin in &k.origin {
            self.line(&format!("// origin: {}", one_line(origin)));
        }
        for s in &k.symbols {
            let mult = if s.multiple == 1 { String::new() } else { format!(" mult {}", s.multiple) };
            self.line(&format!("sym {} in {}..={}{mult}", k.var_name(s.var), s.lo, s.hi));
        }
        for a in &k.args {
            match &a.kind {
                ArgKind::Index { lo, hi, .. } => self.line(&format!("arg {}: index in {lo}..={hi}", a.name)),
                ArgKind::Scalar(d) => self.line(&format!("arg {}: {d}", a.name)),
            }
        }
        for fact in &k.require {
            self.start();
            self.put("require ");
            self.require(*fact);
            self.put("\n");
        }
        for b in &k.buffers {
            self.start();
            let atomic = if b.atomic { "atomic " } else { "" };
            self.put(&format!("buf {}: {atomic}{}[", b.name, b.dtype));
            self.list(&b.shape, |p, i| p.index(i, 0));
            self.put(&format!("] {}\n", b.access.name()));
        }
        for (name, value) in &k.knobs {
            self.line(&format!("knob {name} = {value}"));
        }
    }

    /// `c - x` as `x <= c`, which reads better.
    fn require(&mut self, fact: IndexId) {
        if let Index::Add(x, c) = self.k.index.get(fact)
            && let (Index::Scale(x, by), Index::Const(c)) = (self.k.index.get(x), self.k.index.get(c))
            && by < 0
            && by != i64::MIN
        {
            match by {
                -1 => self.index(x, 4),
                _ => self.scaled(x, -by),
            }
            self.put(&format!(" <= {c}"));
            return;
        }
        self.index(fact, 4);
        self.put(" >= 0");
    }

    fn step(&mut self, step: &Step) {
        self.start();
        match step {
            Step::Phase(phase) => {
                self.put(&format!("phase {} grid(", phase.name));
                self.list(&phase.grid, |p, (axis, extent)| {
                    p.put(p.k.var_name(axis));
                    p.put(": ");
                    p.index(extent, 0);
                });
                self.put(")");
                if phase.lanes != 1 {
                    self.put(&format!(" group {}", phase.lanes));
                }
                match phase.subgroup {
                    Subgroup::None => {}
                    Subgroup::Any => self.put(" subgroup any"),
                    Subgroup::Fixed(n) => self.put(&format!(" subgroup {n}")),
                }
                self.put(" {\n");
                self.indent += 1;
                for id in &phase.memory {
                    let g = self.k.group(*id);
                    let atomic = if g.atomic { "atomic " } else { "" };
                    let dims: Vec<String> = g.shape.iter().map(u32::to_string).collect();
                    self.line(&format!("group {}: {atomic}{}[{}]", g.name, g.dtype, dims.join(", ")));
                }
                self.indent -= 1;
                self.block(&phase.body);
            }
            Step::Serial { var, lo, hi, step, body } => {
                self.put("serial ");
                self.loop_head(*var, *lo, *hi, *step);
                self.put(" {\n");
                self.indent += 1;
                for step in body {
                    self.step(step);
                }
                self.indent -= 1;
                self.line("}");
                return;
            }
        }
        self.line("}");
    }

    fn loop_head(&mut self, var: VarId, lo: IndexId, hi: IndexId, step: i64) {
        self.put(self.k.var_name(var));
        self.put(" in ");
        self.index(lo, 0);
        self.put("..");
        self.index(hi, 0);
        if step != 1 {
            self.put(&format!(" step {step}"));
        }
    }

    fn block(&mut self, block: &Block) {
        self.indent += 1;
        for stmt in block {
            self.start();
            self.statement(stmt);
            self.out.push('\n');
        }
        self.indent -= 1;
    }

    fn statement(&mut self, stmt: &Stmt) {
        let k = self.k;
        match stmt {
            Stmt::Let(local, e) => {
                self.put(&format!("let {} = ", k.local(*local).name));
                self.expr(*e, None, 0);
            }
            Stmt::LetIndex(var, i) => {
                self.put(&format!("let {} = ", k.var_name(*var)));
                self.index(*i, 0);
            }
            Stmt::Declare(id, init) => {
                let local = k.local(*id);
                match &local.kind {
                    LocalKind::Reg(dims) => {
                        let dims: Vec<String> = dims.iter().map(u32::to_string).collect();
                        self.put(&format!("reg {}: {}[{}]", local.name, local.ty, dims.join(", ")));
                    }
                    _ => self.put(&format!("var {}: {}", local.name, local.ty)),
                }
                if let Some(e) = init {
                    self.put(" = ");
                    self.expr(*e, Some(local.ty), 0);
                }
            }
            Stmt::Set(id, at, e) => {
                self.local(*id, at);
                self.put(" = ");
                self.expr(*e, Some(k.local(*id).ty), 0);
            }
            Stmt::Store { place, value, nontemporal } => {
                if *nontemporal {
                    self.put("nt ");
                }
                self.place(place, None);
                self.put(" = ");
                let want = match place.shape {
                    Shape::Tile(..) => k.expr(*value).ty,
                    _ => k.place_type(place),
                };
                self.expr(*value, Some(want), 0);
            }
            Stmt::Atomic(op, place, e) => {
                self.put(&format!("atomic.{} ", op.name()));
                self.place(place, None);
                self.put(", ");
                self.expr(*e, Some(k.place_type(place)), 0);
            }
            Stmt::Prefetch(place) => {
                self.put("prefetch ");
                self.place(place, None);
            }
            Stmt::For { var, lo, hi, step, unroll, body } => {
                self.put("for ");
                self.loop_head(*var, *lo, *hi, *step);
                self.put(if *unroll { " unroll {\n" } else { " {\n" });
                self.block(body);
                self.start();
                self.put("}");
            }
            Stmt::If { cond, then, otherwise } => {
                self.put("if ");
                self.expr(*cond, Some(DType::Bool.into()), 0);
                self.put(" {\n");
                self.block(then);
                self.start();
                self.put("}");
                match otherwise.as_slice() {
                    [] => {}
                    [only @ Stmt::If { .. }] => {
                        self.put(" else ");
                        self.statement(only);
                    }
                    _ => {
                        self.put(" else {\n");
                        self.block(otherwise);
                        self.start();
                        self.put("}");
                    }
                }
            }
            Stmt::Barrier(scope) => self.put(match scope {
                BarrierScope::Group => "barrier",
                BarrierScope::Subgroup => "barrier sg",
                BarrierScope::Buffers => "barrier buffers",
            }),
        }
    }

    fn local(&mut self, id: LocalId, at: &[IndexId]) {
        let k = self.k;
        self.put(&k.local(id).name);
        if matches!(k.local(id).kind, LocalKind::Reg(_)) {
            self.put("[");
            self.list(at, |p, i| p.index(i, 0));
            self.put("]");
        }
    }

    fn place(&mut self, place: &Place, otherwise: Option<ExprId>) {
        self.put(self.k.memory_name(place.memory));
        self.put("[");
        let n = place.at.len();
        for (i, at) in place.at.iter().enumerate() {
            if i > 0 {
                self.put(", ");
            }
            self.index(*at, 0);
            match place.shape {
                Shape::Vector(w) | Shape::First { lanes: w, .. } if i + 1 == n => self.put(&format!(" +: {w}")),
                Shape::Tile(r, _) if i + 2 == n => self.put(&format!(" +: {r}")),
                Shape::Tile(_, c) if i + 1 == n => self.put(&format!(" +: {c}")),
                _ => {}
            }
        }
        if let Shape::First { count, .. } = place.shape {
            self.put(" first ");
            self.index(count, 0);
        }
        if let Some(e) = otherwise {
            self.put(" else ");
            self.expr(e, Some(self.k.place_type(place)), 0);
        }
        self.put("]");
    }

    fn parenthesised(&mut self, needed: bool, inside: impl FnOnce(&mut Self)) {
        if needed {
            self.put("(");
        }
        inside(self);
        if needed {
            self.put(")");
        }
    }

    /// Prints an index; `least` is the precedence its place needs.
    fn index(&mut self, id: IndexId, least: u8) {
        match self.k.index.get(id) {
            Index::Const(c) => self.put(&c.to_string()),
            Index::Var(v) => self.put(self.k.var_name(v)),
            Index::Builtin(b) => self.put(b.name()),
            Index::Add(a, b) => self.parenthesised(least > 8, |p| {
                p.index(a, 8);
                match p.k.index.get(b) {
                    Index::Const(c) if c < 0 && c != i64::MIN => p.put(&format!(" - {}", -c)),
                    Index::Scale(x, by) if by < 0 && by != i64::MIN => {
                        p.put(" - ");
                        p.scaled(x, -by);
                    }
                    _ => {
                        p.put(" + ");
                        p.index(b, 9);
                    }
                }
            }),
            Index::Scale(a, -1) => self.parenthesised(least > UNARY, |p| {
                p.put("-");
                p.index(a, UNARY);
            }),
            Index::Scale(a, by) => self.parenthesised(least > 9, |p| p.scaled(a, by)),
            Index::Div(a, by) => self.quotient(a, by, least),
            Index::DivBy(a, b) => self.parenthesised(least > 9, |p| {
                p.index(a, 9);
                p.put("/");
                p.index(b, UNARY);
            }),
            Index::Mod(a, by) => self.parenthesised(least > 9, |p| {
                p.index(a, 9);
                p.put(&format!("%{by}"));
            }),
            Index::Min(a, b) => self.index_call("min", a, b),
            Index::Max(a, b) => self.index_call("max", a, b),
            Index::Clamp(value, lo, hi) => {
                self.put("idx(");
                self.expr(value, None, 0);
                self.put(", ");
                self.index(lo, 0);
                self.put("..");
                self.index(hi, 0);
                self.put(")");
            }
        }
    }

    /// `x` or `x*by`, where a product may stand on the right of a minus.
    fn scaled(&mut self, x: IndexId, by: i64) {
        self.index(x, 9);
        if by != 1 {
            self.put(&format!("*{by}"));
        }
    }

    fn quotient(&mut self, a: IndexId, by: i64, least: u8) {
        if by >= 2
            && let Index::Add(x, c) = self.k.index.get(a)
            && self.k.index.as_const(c) == Some(by - 1)
        {
            self.put("ceildiv(");
            self.index(x, 0);
            self.put(&format!(", {by})"));
            return;
        }
        self.parenthesised(least > 9, |p| {
            p.index(a, 9);
            p.put(&format!("/{by}"));
        });
    }

    fn index_call(&mut self, name: &str, a: IndexId, b: IndexId) {
        self.put(name);
        self.put("(");
        self.index(a, 0);
        self.put(", ");
        self.index(b, 0);
        self.put(")");
    }

    /// The constant behind a literal, of a scalar or spread over its type.
    fn literal(&self, id: ExprId) -> Option<(DType, u64)> {
        let e = self.k.expr(id);
        match e.kind {
            ExprKind::Const(bits) if e.ty.dtype() != DType::Bool => Some((e.ty.dtype(), bits)),
            ExprKind::Splat(a) => match self.k.expr(a).kind {
                ExprKind::Const(bits) if e.ty.dtype() != DType::Bool => Some((e.ty.dtype(), bits)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Prints a value; `want` is the type a literal has without saying so, `least` the precedence the place needs.
    fn expr(&mut self, id: ExprId, want: Option<Type>, least: u8) {
        let k = self.k;
        let e = k.expr(id);
        if want == Some(e.ty)
            && let Some((dtype, bits)) = self.literal(id)
        {
            self.put(&literal_text(dtype, bits));
            return;
        }
        match &e.kind {
            ExprKind::Const(bits) if e.ty.dtype() == DType::Bool => self.put(if *bits == 0 { "false" } else { "true" }),
            ExprKind::Const(bits) => self.put(&format!("{}({})", e.ty.dtype(), literal_text(e.ty.dtype(), *bits))),
            ExprKind::Arg(a) => self.put(&k.args[a.index()].name),
            ExprKind::FromIndex(i) => self.cast_index(e.ty, *i),
            ExprKind::CompareIndex(op, a, b) => self.parenthesised(least > 3, |p| {
                p.index(*a, 4);
                p.put(&format!(" {} ", op.name()));
                p.index(*b, 4);
            }),
            ExprKind::Get(local, at) => self.local(*local, at),
            ExprKind::Load(place, otherwise) => self.place(place, *otherwise),
            ExprKind::LoadTile { place, order } => {
                let role = match e.ty {
                    Type::Tile { role, .. } => role.name(),
                    Type::Value { .. } => "c",
                };
                self.put(&format!("tile_{role}{order}("));
                self.place(place, None);
                self.put(")");
            }
            ExprKind::Unary(op @ (UnaryOp::Neg | UnaryOp::Not), a) => self.parenthesised(least > UNARY, |p| {
                p.put(op.name());
                // `-1.0` would be a literal.
                let literal = want == Some(p.k.expr(*a).ty) && p.literal(*a).is_some();
                p.parenthesised(literal, |p| p.expr(*a, want, UNARY));
            }),
            ExprKind::Unary(op, a) => self.call(op.name(), &[*a], want),
            ExprKind::Binary(op @ (BinaryOp::Min | BinaryOp::Max), a, b) => {
                self.call(op.name(e.ty.dtype()), &[*a, *b], want);
            }
            ExprKind::Binary(op, a, b) => self.infix(op.name(e.ty.dtype()), *a, *b, want, least),
            ExprKind::Compare(op, a, b) => self.infix(op.name(), *a, *b, None, least),
            ExprKind::Fma(a, b, c) => self.call("fma", &[*a, *b, *c], want),
            ExprKind::Mad(a, b, c) => self.call("mad", &[*a, *b, *c], want),
            ExprKind::Select(c, a, b) => {
                self.put("select(");
                self.expr(*c, None, 0);
                self.put(", ");
                self.operands(&[*a, *b], want, &[0, 0], ", ");
                self.put(")");
            }
            ExprKind::Cast(a) => {
                self.put(&format!("{}(", e.ty.dtype()));
                self.expr(*a, None, 0);
                self.put(")");
            }
            ExprKind::Bits(a) => {
                self.put(&format!("as<{}>(", e.ty));
                self.expr(*a, None, 0);
                self.put(")");
            }
            ExprKind::Splat(a) => {
                match e.ty {
                    Type::Value { lanes, .. } => self.put(&format!("splat<{lanes}>(")),
                    Type::Tile { .. } => self.put(&format!("splat<{} >(", e.ty)),
                }
                self.expr(*a, None, 0);
                self.put(")");
            }
            ExprKind::Vector(parts) => self.call("vec", parts, None),
            ExprKind::Table(f) => {
                self.put(&format!("vec<{}>(", e.ty));
                self.lane_fn(f);
                self.put(")");
            }
            ExprKind::Extract(a, i) => {
                self.put("extract(");
                self.expr(*a, None, 0);
                self.put(", ");
                self.index(*i, 0);
                self.put(")");
            }
            ExprKind::Shuffle(a, f) => {
                self.put(&format!("shuffle<{}>(", e.ty.lanes()));
                self.expr(*a, None, 0);
                self.put(", ");
                self.lane_fn(f);
                self.put(")");
            }
            ExprKind::Lut(a, b) => self.separately("lut", &[(*a, None), (*b, None)]),
            ExprKind::Dot { terms, acc, a, b } => {
                let name = if *terms == 2 { "dot2" } else { "dot4" };
                self.separately(name, &[(*acc, Some(e.ty)), (*a, None), (*b, None)]);
            }
            ExprKind::Fold(op, a) => self.separately(&format!("h{}", fold_name(*op)), &[(*a, None)]),
            ExprKind::Math(f, args) => self.call(f.name(), args, want),
            ExprKind::Lanes(op, n, a) => self.separately(&format!("lanes.{}<{n}>", op.name()), &[(*a, want)]),
            ExprKind::Subgroup(op, a) => {
                let (name, by) = match op {
                    SubgroupOp::Fold(op) => (op.name(), None),
                    SubgroupOp::Any => ("any", None),
                    SubgroupOp::All => ("all", None),
                    SubgroupOp::Broadcast(n) => ("bcast", Some(n)),
                    SubgroupOp::Exchange(n) => ("xor", Some(n)),
                };
                self.put(&format!("sg.{name}("));
                self.expr(*a, want, 0);
                if let Some(n) = by {
                    self.put(&format!(", {n}"));
                }
                self.put(")");
            }
            ExprKind::GroupBroadcast(a) => self.separately("group.bcast", &[(*a, want)]),
            ExprKind::Mma(a, b, c) => self.separately("mma", &[(*a, None), (*b, None), (*c, None)]),
            ExprKind::TileMap { tile, row, column, element, body } => {
                self.put("tile.map(");
                self.expr(*tile, None, 0);
                let (row, column, v) = (k.var_name(*row), k.var_name(*column), &k.local(*element).name);
                self.put(&format!(", [{row}, {column}, {v}]: "));
                self.expr(*body, Some(k.local(*element).ty), 0);
                self.put(")");
            }
        }
    }

    fn cast_index(&mut self, ty: Type, i: IndexId) {
        self.put(&format!("{}(", ty.dtype()));
        self.index(i, 0);
        self.put(")");
    }

    fn lane_fn(&mut self, f: &LaneFn) {
        self.put(self.k.var_name(f.var));
        self.put(": ");
        self.index(f.body, 0);
    }

    fn separately(&mut self, name: &str, args: &[(ExprId, Option<Type>)]) {
        self.put(name);
        self.put("(");
        self.list(args, |p, (e, want)| p.expr(e, want, 0));
        self.put(")");
    }

    fn call(&mut self, name: &str, args: &[ExprId], want: Option<Type>) {
        self.put(name);
        self.put("(");
        self.operands(args, want, &[], ", ");
        self.put(")");
    }

    fn infix(&mut self, op: &str, a: ExprId, b: ExprId, want: Option<Type>, least: u8) {
        let own = precedence(op).expect("an infix operator has a precedence");
        self.parenthesised(least > own, |p| {
            // Comparisons chain neither way.
            let left = if own == 3 { own + 1 } else { own };
            p.operands(&[a, b], want, &[left, own + 1], &format!(" {op} "));
        });
    }

    /// Operands of one type, as the parser types them: literals bare beside others, which take hints from the place
    /// and from each other.
    fn operands(&mut self, args: &[ExprId], want: Option<Type>, least: &[u8], separator: &str) {
        let ty = args.first().map(|a| self.k.expr(*a).ty);
        // A literal alone must say its type where the place does not.
        let mut hint = want;
        let all_literals = args.iter().all(|a| self.literal(*a).is_some());
        for (i, a) in args.iter().enumerate() {
            if i > 0 {
                self.put(separator);
            }
            let literal = self.literal(*a).is_some();
            let bare = if all_literals { hint } else { ty };
            self.expr(*a, if literal { bare } else { hint }, least.get(i).copied().unwrap_or(0));
            if !literal || all_literals {
                hint = ty;
            }
        }
    }
}

fn fold_name(op: FoldOp) -> &'static str {
    match op {
        FoldOp::Add => "sum",
        other => other.name(),
    }
}

fn literal_text(dtype: DType, bits: u64) -> String {
    if !dtype.is_float() {
        return match dtype.is_signed_int() {
            true => scalar::to_i64(dtype, bits).to_string(),
            false => bits.to_string(),
        };
    }
    let v = scalar::to_f64(dtype, bits);
    if v.is_nan() {
        return if bits == scalar::quiet_nan(dtype) { "nan".into() } else { format!("nan({bits:#x})") };
    }
    if v.is_infinite() {
        return if v > 0.0 { "inf".into() } else { "-inf".into() };
    }
    // The shortest decimal that reads back as the same number.
    if dtype == DType::F64 { format!("{v:?}") } else { format!("{:?}", v as f32) }
}
