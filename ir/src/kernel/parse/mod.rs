//! Text to kernels. Parsing types every expression; what only a proof can tell is left to the verifier.

mod calls;
mod lex;
mod resolve;
mod syntax;

pub(super) use syntax::precedence;

use super::names;
use super::ops::FoldOp;
use super::types::*;
use crate::{Diagnostic, Location};
use lex::{Token, TokenKind};
use mlxc_package::DType;
use resolve::Entity;
use smallvec::SmallVec;
use std::collections::HashMap;
use syntax::Placed;

/// Parses every kernel of a text; `file` names it in diagnostics.
///
/// # Errors
/// `MLXC0501` what cannot stand here, `0502` unknown or repeated names, `0503` types, `0504` literals out of range,
/// `0505` calls, `0506` nesting, `0510`–`0513` accesses, `0520`–`0521` index expressions that are not affine.
pub fn parse(text: &str, file: &str) -> Result<Vec<Kernel>, Diagnostic> {
    let lexed = lex::lex(text, file)?;
    let mut parser = Parser {
        file,
        tokens: lexed.tokens,
        comments: lexed.comments,
        here: 0,
        depth: 0,
        nodes: Vec::new(),
        kernel: Kernel::new(""),
        scopes: Vec::new(),
        memory: Vec::new(),
        blocks: 0,
    };
    let mut out = Vec::new();
    parser.ends();
    while parser.kind() != TokenKind::Eof {
        out.push(parser.kernel()?);
        parser.ends();
    }
    Ok(out)
}

struct Parser<'t> {
    file: &'t str,
    tokens: Vec<Token<'t>>,
    comments: Vec<(u32, &'t str)>,
    here: usize,
    depth: u32,
    nodes: Vec<Placed<'t>>,
    kernel: Kernel,
    scopes: Vec<HashMap<&'t str, Entity>>,
    memory: Vec<GroupId>,
    /// Open blocks of the phase.
    blocks: u32,
}

impl<'t> Parser<'t> {
    fn token(&self) -> Token<'t> {
        self.tokens[self.here]
    }

    fn kind(&self) -> TokenKind {
        self.token().kind
    }

    fn peek(&self) -> &'t str {
        self.token().text
    }

    fn peek_after(&self, n: usize) -> &'t str {
        self.tokens.get(self.here + n).map_or("", |t| t.text)
    }

    /// Moves on; stays at the end of the text.
    fn next(&mut self) -> &'t str {
        let text = self.peek();
        if self.kind() != TokenKind::Eof {
            self.here += 1;
        }
        text
    }

    fn accept(&mut self, text: &str) -> bool {
        let found = self.peek() == text && self.kind() != TokenKind::Eof;
        if found {
            self.here += 1;
        }
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), Diagnostic> {
        if self.accept(text) { Ok(()) } else { Err(self.unexpected(&format!("`{text}`"))) }
    }

    fn ends(&mut self) {
        while self.kind() == TokenKind::End {
            self.here += 1;
        }
    }

    fn error_at(&self, token: usize, id: u16, message: impl Into<String>) -> Diagnostic {
        let t = self.tokens[token];
        Diagnostic::new(id, message).at(Location::new(self.file, t.line, t.column))
    }

    fn error(&self, id: u16, message: impl Into<String>) -> Diagnostic {
        self.error_at(self.here, id, message)
    }

    fn unexpected(&self, expected: &str) -> Diagnostic {
        let found = match self.kind() {
            TokenKind::Eof => "the end of the text".to_string(),
            TokenKind::End if self.peek() != ";" => "the end of the line".to_string(),
            _ => format!("`{}`", self.peek()),
        };
        self.error(501, "something else is needed here").expected(expected).found(found)
    }

    fn name(&mut self) -> Result<&'t str, Diagnostic> {
        if self.kind() != TokenKind::Name {
            return Err(self.unexpected("a name"));
        }
        let name = self.peek();
        if !names::is_name(name) {
            return Err(self.error(502, format!("`{name}` cannot be a name")));
        }
        Ok(self.next())
    }

    fn unsigned(&mut self) -> Result<u64, Diagnostic> {
        if self.kind() != TokenKind::Number {
            return Err(self.unexpected("a number"));
        }
        let text = self.peek();
        let value = match text.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).ok(),
            None => text.parse().ok(),
        };
        let value = value.ok_or_else(|| self.error(504, format!("`{text}` is not a whole number below 2^64")))?;
        self.next();
        Ok(value)
    }

    fn integer(&mut self) -> Result<i64, Diagnostic> {
        let token = self.here;
        let negative = self.accept("-");
        let value = i128::from(self.unsigned()?);
        i64::try_from(if negative { -value } else { value })
            .map_err(|_| self.error_at(token, 504, "the number does not fit i64"))
    }

    fn positive(&mut self) -> Result<i64, Diagnostic> {
        let token = self.here;
        match self.integer()? {
            n if n >= 1 => Ok(n),
            n => Err(self.error_at(token, 504, "a number of at least 1 is needed").found(n.to_string())),
        }
    }

    fn small(&mut self) -> Result<u32, Diagnostic> {
        let token = self.here;
        u32::try_from(self.unsigned()?).map_err(|_| self.error_at(token, 504, "the number does not fit u32"))
    }

    fn dtype(&mut self) -> Result<DType, Diagnostic> {
        let token = self.here;
        match self.ty()? {
            Type::Value { dtype, lanes: 1 } if dtype != DType::Bool => Ok(dtype),
            other => {
                Err(self.error_at(token, 503, "a scalar type that can be stored is needed").found(other.to_string()))
            }
        }
    }

    fn ty(&mut self) -> Result<Type, Diagnostic> {
        if self.accept("tile") {
            return self.tile_type();
        }
        let parsed = parse_type(self.peek()).filter(|_| self.kind() == TokenKind::Name);
        let ty = parsed.ok_or_else(|| self.unexpected("a type"))?;
        self.next();
        Ok(ty)
    }

    fn tile_type(&mut self) -> Result<Type, Diagnostic> {
        self.expect("<")?;
        let dtype = self.dtype()?;
        self.expect(",")?;
        let rows = u8::try_from(self.unsigned()?).ok().filter(|n| (1..=64).contains(n));
        let columns = self.peek().strip_prefix('x').and_then(|n| n.parse().ok()).filter(|n| (1..=64u8).contains(n));
        let (Some(rows), Some(columns)) = (rows, columns) else { return Err(self.unexpected("a size such as 8x8")) };
        self.next();
        let mut role = TileRole::C;
        if self.accept(",") {
            role = match self.peek() {
                "a" => TileRole::A,
                "b" => TileRole::B,
                "c" => TileRole::C,
                _ => return Err(self.unexpected("a, b or c")),
            };
            self.next();
        }
        self.expect(">")?;
        Ok(Type::Tile { dtype, rows, columns, role })
    }

    fn declare(&mut self, token: usize, name: &'t str, entity: Entity) -> Result<(), Diagnostic> {
        let scope = self.scopes.last_mut().expect("a scope is open while a kernel is parsed");
        if scope.insert(name, entity).is_some() {
            return Err(self.error_at(token, 502, format!("`{name}` is declared twice in one block")));
        }
        Ok(())
    }

    fn declare_var(&mut self, token: usize, name: &'t str) -> Result<VarId, Diagnostic> {
        let var = self.kernel.push_var(name);
        self.declare(token, name, Entity::Index(var))?;
        Ok(var)
    }

    fn kernel(&mut self) -> Result<Kernel, Diagnostic> {
        self.expect("kernel")?;
        let name = self.name()?;
        self.kernel = Kernel::new(name);
        self.scopes = vec![HashMap::new()];
        let first = self.token().line;
        self.expect("{")?;
        self.ends();
        while self.peek() != "}" {
            let word = self.here;
            match self.peek() {
                "sym" => self.symbol()?,
                "arg" => self.argument()?,
                "require" => {
                    self.next();
                    self.nodes.clear();
                    let node = self.syntax()?;
                    self.require(node)?;
                }
                "buf" => self.buffer()?,
                "knob" => {
                    self.next();
                    let name = self.name()?;
                    self.expect("=")?;
                    let value = self.integer()?;
                    self.kernel.knobs.push((name.into(), value));
                }
                "phase" | "serial" => {
                    let step = self.step()?;
                    self.kernel.steps.push(step);
                }
                _ => return Err(self.unexpected("sym, arg, require, buf, knob, phase, serial or `}`")),
            }
            debug_assert!(self.here > word);
            self.separator()?;
        }
        let last = self.token().line;
        self.expect("}")?;
        for (line, text) in &self.comments {
            if *line == first && self.kernel.comment.is_none() && !text.is_empty() {
                self.kernel.comment = Some((*text).to_string());
            } else if let Some(origin) = text.strip_prefix("origin: ")
                && (first..=last).contains(line)
            {
                self.kernel.origin.push(origin.to_string());
            }
        }
        Ok(std::mem::replace(&mut self.kernel, Kernel::new("")))
    }

    /// After an item or statement: a line end, or the end of the block.
    fn separator(&mut self) -> Result<(), Diagnostic> {
        let block_before = self.tokens[self.here - 1].text == "}";
        if self.kind() != TokenKind::End && self.peek() != "}" && !block_before {
            return Err(self.unexpected("the end of the line or `;`"));
        }
        self.ends();
        Ok(())
    }

    fn symbol(&mut self) -> Result<(), Diagnostic> {
        self.next();
        let token = self.here;
        let name = self.name()?;
        self.expect("in")?;
        let lo = self.integer()?;
        self.expect("..=")?;
        let hi = self.integer()?;
        let multiple = if self.accept("mult") { self.positive()? } else { 1 };
        let var = self.declare_var(token, name)?;
        self.kernel.symbols.push(Symbol { var, lo, hi, multiple });
        Ok(())
    }

    fn argument(&mut self) -> Result<(), Diagnostic> {
        self.next();
        let token = self.here;
        let name = self.name()?;
        self.expect(":")?;
        let kind = if self.accept("index") {
            self.expect("in")?;
            let lo = self.integer()?;
            self.expect("..=")?;
            let hi = self.integer()?;
            let var = self.declare_var(token, name)?;
            ArgKind::Index { var, lo, hi }
        } else {
            let dtype = self.dtype()?;
            self.declare(token, name, Entity::Arg(ArgId::new(self.kernel.args.len())))?;
            ArgKind::Scalar(dtype)
        };
        self.kernel.args.push(Arg { name: name.into(), kind });
        Ok(())
    }

    fn buffer(&mut self) -> Result<(), Diagnostic> {
        self.next();
        let token = self.here;
        let name = self.name()?;
        self.expect(":")?;
        let atomic = self.accept("atomic");
        let dtype = self.dtype()?;
        self.expect("[")?;
        let mut shape = SmallVec::new();
        while !self.accept("]") {
            shape.push(self.whole_index()?);
            if self.peek() != "]" {
                self.expect(",")?;
            }
        }
        let access = match self.peek() {
            "read" => Access::Read,
            "write" => Access::Write,
            "update" => Access::Update,
            "scratch" => Access::Scratch,
            _ => return Err(self.unexpected("read, write, update or scratch")),
        };
        self.next();
        let id = BufferId::new(self.kernel.buffers.len());
        self.kernel.buffers.push(Buffer { name: name.into(), dtype, atomic, shape, access });
        self.declare(token, name, Entity::Buffer(id))
    }

    fn step(&mut self) -> Result<Step, Diagnostic> {
        if self.next() == "serial" {
            self.enter()?;
            self.scopes.push(HashMap::new());
            let (var, lo, hi, step) = self.loop_head()?;
            self.expect("{")?;
            self.ends();
            let mut body = Vec::new();
            while !self.accept("}") {
                if !matches!(self.peek(), "phase" | "serial") {
                    return Err(self.unexpected("phase or serial"));
                }
                body.push(self.step()?);
                self.separator()?;
            }
            self.scopes.pop();
            self.depth -= 1;
            return Ok(Step::Serial { var, lo, hi, step, body });
        }
        let name = self.name()?;
        self.scopes.push(HashMap::new());
        self.expect("grid")?;
        self.expect("(")?;
        let mut grid = Vec::new();
        while !self.accept(")") {
            let token = self.here;
            let axis = self.name()?;
            self.expect(":")?;
            let extent = self.whole_index()?;
            grid.push((self.declare_var(token, axis)?, extent));
            if self.peek() != ")" {
                self.expect(",")?;
            }
        }
        let lanes = if self.accept("group") { self.small()?.max(1) } else { 1 };
        let mut subgroup = Subgroup::None;
        if self.accept("subgroup") {
            subgroup = if self.accept("any") {
                Subgroup::Any
            } else {
                let token = self.here;
                match self.unsigned()? {
                    n @ (4 | 8 | 16 | 32 | 64 | 128) => Subgroup::Fixed(n as u8),
                    _ => return Err(self.error_at(token, 504, "subgroups have 4, 8, 16, 32, 64 or 128 lanes")),
                }
            };
        }
        self.memory.clear();
        self.blocks = 0;
        let body = self.block()?;
        self.scopes.pop();
        let memory = std::mem::take(&mut self.memory);
        Ok(Step::Phase(Phase { name: name.into(), grid, lanes, subgroup, memory, body }))
    }

    /// `i in lo..hi [step c]`; declares the variable.
    fn loop_head(&mut self) -> Result<(VarId, IndexId, IndexId, i64), Diagnostic> {
        let token = self.here;
        let name = self.name()?;
        self.expect("in")?;
        let lo = self.whole_index()?;
        self.expect("..")?;
        let hi = self.whole_index()?;
        let step = if self.accept("step") { self.positive()? } else { 1 };
        let var = self.declare_var(token, name)?;
        Ok((var, lo, hi, step))
    }

    fn block(&mut self) -> Result<Block, Diagnostic> {
        self.enter()?;
        self.expect("{")?;
        self.scopes.push(HashMap::new());
        self.blocks += 1;
        self.ends();
        let mut out = Vec::new();
        while !self.accept("}") {
            if let Some(stmt) = self.statement()? {
                out.push(stmt);
            }
            self.separator()?;
        }
        self.blocks -= 1;
        self.scopes.pop();
        self.depth -= 1;
        Ok(out)
    }

    fn statement(&mut self) -> Result<Option<Stmt>, Diagnostic> {
        self.nodes.clear();
        let word = self.peek();
        Ok(Some(match word {
            "let" => {
                self.next();
                self.let_statement()?
            }
            "var" | "reg" => self.declaration()?,
            "group" => {
                self.group_array()?;
                return Ok(None);
            }
            "for" => {
                self.next();
                self.scopes.push(HashMap::new());
                let (var, lo, hi, step) = self.loop_head()?;
                let unroll = self.accept("unroll");
                let body = self.block()?;
                self.scopes.pop();
                Stmt::For { var, lo, hi, step, unroll, body }
            }
            "if" => self.if_statement()?,
            "barrier" => {
                self.next();
                Stmt::Barrier(if self.accept("sg") {
                    BarrierScope::Subgroup
                } else if self.accept("buffers") {
                    BarrierScope::Buffers
                } else {
                    BarrierScope::Group
                })
            }
            "prefetch" => {
                self.next();
                Stmt::Prefetch(self.place()?)
            }
            _ if word.starts_with("atomic.") => {
                let Some(op) = FoldOp::ALL.into_iter().find(|op| op.name() == &word[7..]) else {
                    return Err(self.unexpected("atomic.add, min, max, and, or or xor"));
                };
                self.next();
                let place = self.place()?;
                self.expect(",")?;
                let value = self.syntax()?;
                let value = self.value_of(value, self.kernel.place_type(&place))?;
                Stmt::Atomic(op, place, value)
            }
            _ => self.assignment()?,
        }))
    }

    fn let_statement(&mut self) -> Result<Stmt, Diagnostic> {
        let token = self.here;
        let name = self.name()?;
        self.expect("=")?;
        let node = self.syntax()?;
        Ok(match self.resolve(node, resolve::Want::Nothing)? {
            resolve::Typed::Index(value) => Stmt::LetIndex(self.declare_var(token, name)?, value),
            resolve::Typed::Value(value) => {
                let ty = self.kernel.expr(value).ty;
                let local = self.kernel.push_local(name, ty, LocalKind::Let);
                self.declare(token, name, Entity::Local(local))?;
                Stmt::Let(local, value)
            }
        })
    }

    fn declaration(&mut self) -> Result<Stmt, Diagnostic> {
        let is_reg = self.next() == "reg";
        let token = self.here;
        let name = self.name()?;
        self.expect(":")?;
        let ty = self.ty()?;
        let kind = if is_reg { LocalKind::Reg(self.constant_shape()?.into_iter().collect()) } else { LocalKind::Var };
        let mut init = None;
        if self.accept("=") {
            let node = self.syntax()?;
            init = Some(self.value_of(node, ty)?);
        }
        let local = self.kernel.push_local(name, ty, kind);
        self.declare(token, name, Entity::Local(local))?;
        Ok(Stmt::Declare(local, init))
    }

    fn constant_shape(&mut self) -> Result<Vec<u32>, Diagnostic> {
        self.expect("[")?;
        let mut shape = Vec::new();
        while !self.accept("]") {
            shape.push(self.small()?);
            if self.peek() != "]" {
                self.expect(",")?;
            }
        }
        Ok(shape)
    }

    fn group_array(&mut self) -> Result<(), Diagnostic> {
        if self.blocks != 1 {
            return Err(self.error(501, "group arrays stand at the top level of a phase"));
        }
        self.next();
        let token = self.here;
        let name = self.name()?;
        self.expect(":")?;
        let atomic = self.accept("atomic");
        let dtype = self.dtype()?;
        let shape = self.constant_shape()?.into_iter().collect();
        let id = GroupId::new(self.kernel.groups.len());
        self.kernel.groups.push(GroupArray { name: name.into(), dtype, atomic, shape });
        self.memory.push(id);
        self.declare(token, name, Entity::Group(id))
    }

    fn if_statement(&mut self) -> Result<Stmt, Diagnostic> {
        self.next();
        let node = self.syntax()?;
        let cond = self.value_of(node, Type::scalar(DType::Bool))?;
        let then = self.block()?;
        let mut ahead = 0;
        while self.tokens[self.here + ahead].kind == TokenKind::End {
            ahead += 1;
        }
        let mut otherwise = Vec::new();
        if self.peek_after(ahead) == "else" {
            self.here += ahead + 1;
            if self.peek() == "if" {
                self.enter()?;
                self.nodes.clear();
                otherwise.push(self.if_statement()?);
                self.depth -= 1;
            } else {
                otherwise = self.block()?;
            }
        }
        Ok(Stmt::If { cond, then, otherwise })
    }

    fn place(&mut self) -> Result<Place, Diagnostic> {
        let token = self.here;
        let base = self.name()?;
        let (access, _) = self.access(base)?;
        match self.resolve_access(token, &access)? {
            resolve::Accessed::Memory(place, None) => Ok(place),
            resolve::Accessed::Memory(..) => Err(self.error_at(token, 510, "`else` stands in loads only")),
            resolve::Accessed::Local(..) => Err(self.error_at(token, 510, format!("`{base}` is not in memory"))),
        }
    }

    fn assignment(&mut self) -> Result<Stmt, Diagnostic> {
        let nontemporal = self.accept("nt");
        let token = self.here;
        if self.peek_after(1) != "[" {
            let name = self.name().map_err(|e| e.expected("a statement"))?;
            let Some(Entity::Local(local)) = self.find(name) else {
                return Err(self.error_at(token, 502, format!("`{name}` is not a var")));
            };
            if self.kernel.local(local).kind != LocalKind::Var || nontemporal {
                return Err(self.error_at(token, 510, format!("`{name}` cannot be assigned")));
            }
            self.expect("=")?;
            let node = self.syntax()?;
            let value = self.value_of(node, self.kernel.local(local).ty)?;
            return Ok(Stmt::Set(local, SmallVec::new(), value));
        }
        let base = self.name()?;
        let (access, _) = self.access(base)?;
        let target = self.resolve_access(token, &access)?;
        self.expect("=")?;
        let node = self.syntax()?;
        match target {
            resolve::Accessed::Local(..) if nontemporal => {
                Err(self.error_at(token, 510, format!("`{base}` is not in memory")))
            }
            resolve::Accessed::Local(local, at) => {
                let value = self.value_of(node, self.kernel.local(local).ty)?;
                Ok(Stmt::Set(local, at, value))
            }
            resolve::Accessed::Memory(_, Some(_)) => Err(self.error_at(token, 510, "`else` stands in loads only")),
            resolve::Accessed::Memory(place, None) => {
                let value = match place.shape {
                    Shape::Tile(rows, columns) => {
                        let dtype = self.kernel.memory_dtype(place.memory);
                        self.value_of(node, Type::Tile { dtype, rows, columns, role: TileRole::C })?
                    }
                    _ => self.value_of(node, self.kernel.place_type(&place))?,
                };
                Ok(Stmt::Store { place, value, nontemporal })
            }
        }
    }
}

/// `f32`, `f32x16`.
fn parse_type(text: &str) -> Option<Type> {
    let scalar = |t: &str| DType::ALL.into_iter().find(|d| d.name() == t);
    if let Some(dtype) = scalar(text) {
        return Some(Type::scalar(dtype));
    }
    let (dtype, lanes) = text.rsplit_once('x')?;
    let lanes: u64 = lanes.parse().ok()?;
    (lanes > 1 && Type::lanes_allowed(lanes)).then_some(Type::vector(scalar(dtype)?, lanes as u8))
}
