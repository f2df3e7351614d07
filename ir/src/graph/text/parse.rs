//! Parsing.

use super::attributes::{self, Value};
use super::lex::{Token, lex};
use crate::diagnostic::{Diagnostic, Location};
use crate::graph::types::{
    Function, Module, Node, Output, Param, Role, State, Symbol, SymbolKind, TensorType, ValueId, Weight,
};
use mlxc_package::{DType, Range, Size, SymId};
use smallvec::SmallVec;

/// True for names that elsewhere are complex dtypes.
pub(super) fn is_complex(name: &str) -> bool {
    matches!(name, "c64" | "c128" | "complex64" | "complex128")
}

/// Nesting of size expressions.
const DEPTH: u32 = 64;

/// Reads a module; `file` names it in errors. What is read is well formed as text; types and uses are checked by
/// [`verify`](crate::graph::verify::verify).
///
/// # Errors
/// `MLXC0201` a character or string that is no word, `MLXC0202` a word that does not belong there, `MLXC0203` a name
/// that is not known, `MLXC0204` a number out of range, `MLXC0205` nesting too deep, `MLXC0206` a complex
/// dtype, `MLXC0211` a value that is not made yet.
pub fn parse(text: &str, file: &str) -> Result<Module, Diagnostic> {
    module(&mut Parser { tokens: lex(text, file)?, at: 0, located: false })
}

/// As [`parse`], of a file that a user wrote: values without a place are at their own lines of it.
///
/// # Errors
/// As [`parse`].
pub fn parse_source(text: &str, file: &str) -> Result<Module, Diagnostic> {
    module(&mut Parser { tokens: lex(text, file)?, at: 0, located: true })
}

fn module(p: &mut Parser) -> Result<Module, Diagnostic> {
    let mut module = Module::default();
    loop {
        if *p.peek() == Token::End {
            return Ok(module);
        }
        let word = p.word("weight, state, entry or block")?;
        match word.as_str() {
            "weight" | "state" => {
                let name = p.text()?.into();
                p.mark(":")?;
                let ty = p.ty(&[])?;
                if word == "weight" {
                    module.weights.push(Weight { name, ty });
                } else {
                    module.states.push(State { name, ty });
                }
            }
            "entry" | "block" => module.functions.push(p.function(word == "block")?),
            _ => return Err(p.before("weight, state, entry or block")),
        }
    }
}

struct Parser {
    tokens: Vec<(Token, Location)>,
    at: usize,
    /// Values without a place get that of their text.
    located: bool,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.at].0
    }

    fn place(&self) -> Location {
        self.tokens[self.at].1.clone()
    }

    fn next(&mut self) -> Token {
        let t = self.tokens[self.at].0.clone();
        // The end stays the end.
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        t
    }

    fn unexpected(&self, expected: &str) -> Diagnostic {
        Diagnostic::new(202, "this word does not belong here")
            .at(self.place())
            .expected(expected)
            .found(self.peek().show())
    }

    /// The same, of the word just taken.
    fn before(&self, expected: &str) -> Diagnostic {
        let (token, at) = &self.tokens[self.at.saturating_sub(1)];
        Diagnostic::new(202, "this word does not belong here").at(at.clone()).expected(expected).found(token.show())
    }

    fn unknown(&self, what: &str, name: &str) -> Diagnostic {
        let at = self.tokens[self.at.saturating_sub(1)].1.clone();
        Diagnostic::new(203, format!("there is no {what} `{name}`")).at(at)
    }

    fn is_mark(&self, mark: &str) -> bool {
        matches!(self.peek(), Token::Mark(m) if *m == mark)
    }

    fn accept(&mut self, mark: &str) -> bool {
        let yes = self.is_mark(mark);
        if yes {
            self.next();
        }
        yes
    }

    fn mark(&mut self, mark: &str) -> Result<(), Diagnostic> {
        if self.accept(mark) { Ok(()) } else { Err(self.unexpected(&format!("`{mark}`"))) }
    }

    fn word(&mut self, expected: &str) -> Result<String, Diagnostic> {
        match self.peek().clone() {
            Token::Name(n) => {
                self.next();
                Ok(n)
            }
            _ => Err(self.unexpected(expected)),
        }
    }

    fn accept_word(&mut self, word: &str) -> bool {
        let yes = matches!(self.peek(), Token::Name(n) if n == word);
        if yes {
            self.next();
        }
        yes
    }

    fn text(&mut self) -> Result<String, Diagnostic> {
        match self.peek().clone() {
            Token::Text(t) => {
                self.next();
                Ok(t)
            }
            _ => Err(self.unexpected("a string")),
        }
    }

    fn int(&mut self) -> Result<i64, Diagnostic> {
        let negative = self.accept("-");
        match self.peek().clone() {
            Token::Number(n) => {
                let signed = if negative { format!("-{n}") } else { n.clone() };
                let v = signed.parse().map_err(|_| {
                    Diagnostic::new(204, "a number is no whole number of 64 bits")
                        .at(self.place())
                        .found(signed.clone())
                })?;
                self.next();
                Ok(v)
            }
            _ => Err(self.unexpected("a whole number")),
        }
    }

    fn small(&mut self) -> Result<u32, Diagnostic> {
        let at = self.place();
        let n = self.int()?;
        u32::try_from(n).map_err(|_| {
            Diagnostic::new(204, "a number is out of range").at(at).expected("0 to 2^32 - 1").found(n.to_string())
        })
    }

    fn function(&mut self, is_block: bool) -> Result<Function, Diagnostic> {
        let mut f = Function { name: self.text()?, is_block, ..Function::default() };
        self.mark("{")?;
        while !self.accept("}") {
            if self.is_mark("%") {
                let node = self.node(&f)?;
                f.nodes.push(node);
                continue;
            }
            let expected = "size, scalar, require, param, a node, result, update or `}`";
            let word = self.word(expected)?;
            match word.as_str() {
                "size" => self.symbol(&mut f, SymbolKind::Size)?,
                "scalar" => self.symbol(&mut f, SymbolKind::Scalar)?,
                "require" => {
                    let fact = self.size(&f.symbols, 0)?;
                    self.mark(">=")?;
                    let at = self.place();
                    if self.int()? != 0 {
                        return Err(Diagnostic::new(202, "a requirement compares with 0").at(at));
                    }
                    f.requires.push(fact);
                }
                "param" => {
                    let name = self.text()?.into();
                    self.mark(":")?;
                    let ty = self.ty(&f.symbols)?;
                    let role = self.role(&f.symbols)?;
                    f.params.push(Param { name, role, ty });
                }
                "result" => {
                    let name = self.text()?.into();
                    self.mark("=")?;
                    let value = self.value(&f)?;
                    f.results.push(Output { name, value });
                }
                "update" => {
                    let p = self.small()?;
                    self.mark("=")?;
                    let value = self.value(&f)?;
                    f.updates.push((p, value));
                }
                _ => return Err(self.before(expected)),
            }
        }
        Ok(f)
    }

    fn symbol(&mut self, f: &mut Function, kind: SymbolKind) -> Result<(), Diagnostic> {
        let name = self.word("a symbol's name")?;
        if !self.accept_word("in") {
            return Err(self.unexpected("`in`"));
        }
        let at = self.place();
        let lo = self.int()?;
        self.mark("..=")?;
        let hi = self.int()?;
        let multiple = if self.accept_word("mult") { self.int()? } else { 1 };
        if lo < 0 || hi < lo || hi > i64::from(u32::MAX) || multiple < 1 {
            return Err(Diagnostic::new(204, format!("bounds of `{name}` are out of order"))
                .at(at)
                .expected("0 <= lower <= upper < 2^32, and a multiple of at least 1")
                .found(format!("{lo}..={hi} mult {multiple}")));
        }
        f.symbols.push(Symbol { name: name.into(), range: Range::new(lo, hi), multiple, kind });
        Ok(())
    }

    fn role(&mut self, symbols: &[Symbol]) -> Result<Role, Diagnostic> {
        let expected = "input, scalar, weight, state or block";
        let word = self.word(expected)?;
        Ok(match word.as_str() {
            "input" => Role::Input,
            "block" => Role::Block,
            "weight" => Role::Weight(self.small()?),
            "state" => Role::State(self.small()?),
            "scalar" => {
                let name = self.word("a symbol")?;
                Role::Scalar(self.symbol_id(&name, symbols)?)
            }
            _ => return Err(self.before(expected)),
        })
    }

    fn symbol_id(&self, name: &str, symbols: &[Symbol]) -> Result<SymId, Diagnostic> {
        let at = symbols.iter().position(|s| &*s.name == name).ok_or_else(|| self.unknown("symbol", name))?;
        Ok(SymId(at as u32))
    }

    fn ty(&mut self, symbols: &[Symbol]) -> Result<TensorType, Diagnostic> {
        let word = self.word("a type")?;
        if is_complex(&word) {
            let at = self.tokens[self.at.saturating_sub(1)].1.clone();
            let names: Vec<&str> = DType::ALL.iter().map(|d| d.name()).collect();
            return Err(Diagnostic::new(206, "complex numbers have no implementation")
                .at(at)
                .expected(names.join(", "))
                .found(word));
        }
        let dtype: DType = word.parse().map_err(|()| self.unknown("dtype", &word))?;
        Ok(TensorType { dtype, shape: self.sizes(symbols)? })
    }

    fn sizes(&mut self, symbols: &[Symbol]) -> Result<Vec<Size>, Diagnostic> {
        self.mark("[")?;
        let mut out = Vec::new();
        while !self.accept("]") {
            if !out.is_empty() {
                self.mark(",")?;
            }
            out.push(self.size(symbols, 0)?);
        }
        Ok(out)
    }

    /// sum := term (("+" | "-") term)*
    fn size(&mut self, symbols: &[Symbol], depth: u32) -> Result<Size, Diagnostic> {
        if depth > DEPTH {
            return Err(Diagnostic::new(205, "a size is nested too deeply")
                .at(self.place())
                .expected(format!("at most {DEPTH} levels")));
        }
        let mut sum =
            if self.accept("-") { Size::constant(0) - self.term(symbols, depth)? } else { self.term(symbols, depth)? };
        loop {
            if self.accept("+") {
                sum = sum + self.term(symbols, depth)?;
            } else if self.accept("-") {
                sum = sum - self.term(symbols, depth)?;
            } else {
                return Ok(sum);
            }
        }
    }

    /// term := factor (("*" factor) | ("/" INT))*
    fn term(&mut self, symbols: &[Symbol], depth: u32) -> Result<Size, Diagnostic> {
        let mut product = self.factor(symbols, depth)?;
        loop {
            if self.accept("*") {
                product = product * self.factor(symbols, depth)?;
            } else if self.accept("/") {
                let at = self.place();
                let by = self.int()?;
                if by < 1 {
                    return Err(Diagnostic::new(204, "a size is divided by less than 1").at(at).found(by.to_string()));
                }
                product = product.floor_div(by);
            } else {
                return Ok(product);
            }
        }
    }

    fn factor(&mut self, symbols: &[Symbol], depth: u32) -> Result<Size, Diagnostic> {
        if self.accept("(") {
            let inner = self.size(symbols, depth + 1)?;
            self.mark(")")?;
            return Ok(inner);
        }
        match self.peek().clone() {
            Token::Number(_) => Ok(Size::constant(self.int()?)),
            Token::Name(n) if n == "min" || n == "max" => {
                self.next();
                self.mark("(")?;
                let inner = self.size(symbols, depth + 1)?;
                self.mark(",")?;
                let bound = self.int()?;
                self.mark(")")?;
                Ok(if n == "min" { inner.at_most(bound) } else { inner.at_least(bound) })
            }
            Token::Name(n) => {
                self.next();
                Ok(Size::symbol(self.symbol_id(&n, symbols)?))
            }
            _ => Err(self.unexpected("a size")),
        }
    }

    fn value(&mut self, f: &Function) -> Result<ValueId, Diagnostic> {
        let at = self.place();
        self.mark("%")?;
        let node = self.number_before_dot()?;
        let index = if self.accept(".") { self.small()? } else { 0 };
        let made = f.nodes.get(node as usize).is_some_and(|n| (index as usize) < n.types.len());
        if !made {
            return Err(Diagnostic::new(211, format!("value %{node}.{index} is not made yet")).at(at));
        }
        Ok(ValueId { node, index })
    }

    /// `%3.1` may be read as the number `3.1`: it is split again here.
    fn number_before_dot(&mut self) -> Result<u32, Diagnostic> {
        if let Token::Number(n) = self.peek().clone()
            && let Some((node, index)) = n.split_once('.')
        {
            let at = self.place();
            self.tokens[self.at].0 = Token::Number(index.into());
            self.tokens.insert(self.at, (Token::Mark("."), at.clone()));
            self.tokens.insert(self.at, (Token::Number(node.into()), at));
        }
        self.small()
    }

    fn node(&mut self, f: &Function) -> Result<Node, Diagnostic> {
        let written = self.place();
        self.mark("%")?;
        let at = self.place();
        let number = self.small()?;
        if number as usize != f.nodes.len() {
            return Err(Diagnostic::new(202, "nodes are numbered in order")
                .at(at)
                .expected(format!("%{}", f.nodes.len()))
                .found(format!("%{number}")));
        }
        self.mark("=")?;
        let at = self.place();
        let name = self.word("an op")?;
        let attributes = self.attributes(f)?;
        let op = match attributes::build(&name, &attributes) {
            Some(Ok(op)) => op,
            Some(Err((key, wanted))) => {
                return Err(Diagnostic::new(202, format!("attribute `{key}` of `{name}` does not fit"))
                    .at(at)
                    .expected(wanted));
            }
            None => return Err(Diagnostic::new(203, format!("there is no op `{name}`")).at(at)),
        };
        self.mark("(")?;
        let mut inputs = SmallVec::new();
        while !self.accept(")") {
            if !inputs.is_empty() {
                self.mark(",")?;
            }
            inputs.push(self.value(f)?);
        }
        self.mark(":")?;
        let mut types = SmallVec::new();
        types.push(self.ty(&f.symbols)?);
        while self.accept(",") {
            types.push(self.ty(&f.symbols)?);
        }
        let name = if matches!(self.peek(), Token::Text(_)) { Some(self.text()?.into()) } else { None };
        let at = if self.accept("@") {
            let file = self.text()?;
            self.mark(":")?;
            let line = self.small()?;
            self.mark(":")?;
            Some(Location::new(file, line, self.small()?))
        } else {
            self.located.then_some(written)
        };
        Ok(Node { op, inputs, types, name, at })
    }

    fn attributes(&mut self, f: &Function) -> Result<Vec<(String, Value)>, Diagnostic> {
        let mut out = Vec::new();
        if !self.accept("{") {
            return Ok(out);
        }
        while !self.accept("}") {
            if !out.is_empty() {
                self.mark(",")?;
            }
            let key = self.word("an attribute's name")?;
            self.mark(":")?;
            let value = self.attribute(f)?;
            out.push((key, value));
        }
        Ok(out)
    }

    fn attribute(&mut self, f: &Function) -> Result<Value, Diagnostic> {
        if self.is_mark("[") {
            return Ok(Value::Sizes(self.sizes(&f.symbols)?));
        }
        let start = self.at;
        let negative = self.accept("-");
        match self.peek().clone() {
            Token::Text(t) if !negative => {
                self.next();
                Ok(Value::Text(t))
            }
            Token::Number(n) if n.contains(['.', 'e', 'E']) && !n.starts_with("0x") => {
                let at = self.place();
                self.next();
                let x: f64 =
                    n.parse().map_err(|_| Diagnostic::new(204, "a number is no float").at(at).found(n.clone()))?;
                Ok(Value::Real(if negative { -x } else { x }))
            }
            Token::Name(n) if n == "bits" && !negative => {
                self.next();
                self.mark("(")?;
                let at = self.place();
                let Token::Number(n) = self.next() else { return Err(self.before("hexadecimal bits")) };
                let bits = n.strip_prefix("0x").and_then(|h| u64::from_str_radix(h, 16).ok());
                let bits =
                    bits.ok_or_else(|| Diagnostic::new(204, "bits are no hexadecimal number").at(at).found(n))?;
                self.mark(")")?;
                Ok(Value::Real(f64::from_bits(bits)))
            }
            Token::Name(n) if !negative && n != "min" && n != "max" && !f.symbols.iter().any(|s| *s.name == *n) => {
                self.next();
                Ok(Value::Word(n))
            }
            _ => {
                self.at = start;
                Ok(Value::Size(self.size(&f.symbols, 0)?))
            }
        }
    }
}
