//! Expressions as written, before names and types are looked at: the type of a literal depends on what stands beside it.

use super::Parser;
use super::lex::TokenKind;
use crate::Diagnostic;
use crate::kernel::types::Type;

/// Position of a node in the statement's arena.
pub(super) type Node = usize;

/// What stands between `<` and `>` of a call.
#[derive(Clone, Copy, Debug)]
pub(super) enum TypeArg {
    Number(u64),
    Type(Type),
}

#[derive(Clone, Debug)]
pub(super) enum Argument<'t> {
    Value(Node),
    Range(Node, Node),
    Lambda(Vec<&'t str>, Node),
}

/// An index list with what may follow in brackets.
#[derive(Clone, Debug)]
pub(super) struct AccessSyntax<'t> {
    pub(super) base: &'t str,
    pub(super) at: Vec<(Node, Option<u64>)>,
    pub(super) first: Option<Node>,
    pub(super) otherwise: Option<Node>,
}

#[derive(Clone, Debug)]
pub(super) enum Syntax<'t> {
    Number { text: &'t str, negative: bool },
    Infinity { negative: bool },
    Nan(Option<u64>),
    Bool(bool),
    Name(&'t str),
    Unary(&'t str, Node),
    Binary(&'t str, Node, Node),
    Call { name: &'t str, of: Option<TypeArg>, args: Vec<Argument<'t>> },
    At(AccessSyntax<'t>),
}

impl Syntax<'_> {
    /// True if the type comes from the context.
    pub(super) fn is_literal(&self) -> bool {
        matches!(self, Syntax::Number { .. } | Syntax::Infinity { .. } | Syntax::Nan(_))
    }
}

/// A node, where it is, and how many nodes lie on the longest way down.
pub(super) struct Placed<'t> {
    pub(super) syntax: Syntax<'t>,
    pub(super) token: usize,
    depth: u32,
}

/// Recursion over expressions stays below this.
const MAX_DEPTH: u32 = 200;

/// Precedence of a binary operator, as in Rust; higher binds tighter.
pub(in crate::kernel) fn precedence(op: &str) -> Option<u8> {
    Some(match op {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" | "<" | "<=" | ">" | ">=" => 3,
        "|" => 4,
        "^" => 5,
        "&" => 6,
        "<<" | ">>" => 7,
        "+" | "-" => 8,
        "*" | "/" | "%" => 9,
        _ => return None,
    })
}

impl<'t> Parser<'t> {
    fn add(&mut self, syntax: Syntax<'t>, token: usize, below: &[Node]) -> Result<Node, Diagnostic> {
        let depth = 1 + below.iter().map(|n| self.nodes[*n].depth).max().unwrap_or(0);
        if depth > MAX_DEPTH {
            return Err(self.error_at(token, 506, "the expression is nested too deeply"));
        }
        self.nodes.push(Placed { syntax, token, depth });
        Ok(self.nodes.len() - 1)
    }

    /// A whole expression.
    pub(super) fn syntax(&mut self) -> Result<Node, Diagnostic> {
        self.binary(1)
    }

    fn binary(&mut self, least: u8) -> Result<Node, Diagnostic> {
        let mut a = self.unary()?;
        loop {
            let token = self.here;
            let op = self.peek();
            match precedence(op) {
                Some(p) if p >= least && self.kind() == TokenKind::Symbol => {
                    self.next();
                    let b = self.binary(p + 1)?;
                    a = self.add(Syntax::Binary(op, a, b), token, &[a, b])?;
                }
                _ => return Ok(a),
            }
        }
    }

    fn unary(&mut self) -> Result<Node, Diagnostic> {
        let token = self.here;
        let op = self.peek();
        if !matches!(op, "-" | "!") {
            return self.primary();
        }
        self.next();
        if op == "-" {
            if self.kind() == TokenKind::Number {
                let text = self.next();
                return self.add(Syntax::Number { text, negative: true }, token, &[]);
            }
            if self.accept("inf") {
                return self.add(Syntax::Infinity { negative: true }, token, &[]);
            }
        }
        self.enter()?;
        let a = self.unary()?;
        self.depth -= 1;
        self.add(Syntax::Unary(op, a), token, &[a])
    }

    /// Counts nesting of the parser itself, so that no text can exhaust the stack.
    pub(super) fn enter(&mut self) -> Result<(), Diagnostic> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(506, "the text is nested too deeply"));
        }
        Ok(())
    }

    fn primary(&mut self) -> Result<Node, Diagnostic> {
        self.enter()?;
        let out = self.primary_inner();
        self.depth -= 1;
        out
    }

    fn primary_inner(&mut self) -> Result<Node, Diagnostic> {
        let token = self.here;
        if self.accept("(") {
            let e = self.syntax()?;
            self.expect(")")?;
            return Ok(e);
        }
        if self.kind() == TokenKind::Number {
            let text = self.next();
            return self.add(Syntax::Number { text, negative: false }, token, &[]);
        }
        if self.kind() != TokenKind::Name {
            return Err(self.unexpected("an expression"));
        }
        let name = self.next();
        match name {
            "inf" => return self.add(Syntax::Infinity { negative: false }, token, &[]),
            "true" | "false" => return self.add(Syntax::Bool(name == "true"), token, &[]),
            "nan" => {
                let mut bits = None;
                if self.accept("(") {
                    bits = Some(self.unsigned()?);
                    self.expect(")")?;
                }
                return self.add(Syntax::Nan(bits), token, &[]);
            }
            _ => {}
        }
        let mut of = None;
        let generic = name.starts_with("lanes.") || matches!(name, "splat" | "shuffle" | "as" | "vec");
        if generic && self.accept("<") {
            of = Some(match self.kind() {
                TokenKind::Number => TypeArg::Number(self.unsigned()?),
                _ => TypeArg::Type(self.ty()?),
            });
            self.expect(">")?;
        }
        if of.is_some() || self.peek() == "(" {
            self.expect("(")?;
            let (args, below) = self.arguments()?;
            return self.add(Syntax::Call { name, of, args }, token, &below);
        }
        if self.peek() == "[" {
            let (access, below) = self.access(name)?;
            return self.add(Syntax::At(access), token, &below);
        }
        self.add(Syntax::Name(name), token, &[])
    }

    fn arguments(&mut self) -> Result<(Vec<Argument<'t>>, Vec<Node>), Diagnostic> {
        let (mut args, mut below) = (Vec::new(), Vec::new());
        while !self.accept(")") {
            if self.peek() == "[" {
                self.next();
                let mut names = Vec::new();
                while !self.accept("]") {
                    names.push(self.name()?);
                    if self.peek() != "]" {
                        self.expect(",")?;
                    }
                }
                self.expect(":")?;
                let e = self.syntax()?;
                below.push(e);
                args.push(Argument::Lambda(names, e));
            } else if self.kind() == TokenKind::Name && self.peek_after(1) == ":" {
                let name = self.name()?;
                self.next();
                let e = self.syntax()?;
                below.push(e);
                args.push(Argument::Lambda(vec![name], e));
            } else {
                let e = self.syntax()?;
                below.push(e);
                if self.accept("..") {
                    let hi = self.syntax()?;
                    below.push(hi);
                    args.push(Argument::Range(e, hi));
                } else {
                    args.push(Argument::Value(e));
                }
            }
            if self.peek() != ")" {
                self.expect(",")?;
            }
        }
        Ok((args, below))
    }

    /// The brackets after a name.
    pub(super) fn access(&mut self, base: &'t str) -> Result<(AccessSyntax<'t>, Vec<Node>), Diagnostic> {
        let mut access = AccessSyntax { base, at: Vec::new(), first: None, otherwise: None };
        let mut below = Vec::new();
        self.expect("[")?;
        while !self.accept("]") {
            let e = self.syntax()?;
            below.push(e);
            let width = if self.accept("+:") { Some(self.unsigned()?) } else { None };
            access.at.push((e, width));
            if self.accept("first") {
                let n = self.syntax()?;
                below.push(n);
                access.first = Some(n);
                if self.accept("else") {
                    let e = self.syntax()?;
                    below.push(e);
                    access.otherwise = Some(e);
                }
                if self.peek() != "]" {
                    return Err(self.unexpected("`]` after `first`"));
                }
            } else if self.peek() != "]" {
                self.expect(",")?;
            }
        }
        Ok((access, below))
    }
}
