//! A module's text: its tokens, the arguments of its kernel, rules that clang does not know, and the C++ made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::Failure;

/// Most arguments that are buffers.
const BUFFERS: u32 = 31;
/// Bytes of threadgroup memory.
const MEMORY: u64 = 32 << 10;

/// Words of C++ that MSL has not.
const FOREIGN: &[&str] = &[
    "asm",
    "catch",
    "delete",
    "double",
    "dynamic_cast",
    "goto",
    "new",
    "static",
    "thread_local",
    "throw",
    "try",
    "typeid",
    "virtual",
];

/// Values a thread is given: the attribute, components, and where the fiber has it.
const GIVEN: &[(&str, usize, &str)] = &[
    ("threadgroup_position_in_grid", 3, "group"),
    ("threadgroups_per_grid", 3, "groups"),
    ("threads_per_threadgroup", 1, "lanes"),
    ("thread_index_in_threadgroup", 1, "lane"),
    ("simdgroup_index_in_threadgroup", 1, "simdgroup"),
    ("thread_index_in_simdgroup", 1, "simd_lane"),
    ("threads_per_simdgroup", 1, "simd_width"),
];

#[derive(Clone, Copy, Debug)]
struct Token<'t> {
    text: &'t str,
    start: usize,
    line: usize,
}

/// An argument: how it is declared, without name and attribute, and what it is.
#[derive(Clone, Debug)]
struct Argument {
    declared: String,
    is: Given,
}

#[derive(Clone, Debug)]
enum Given {
    Buffer(u32),
    Value(usize, &'static str),
}

/// A module with one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Source<'t> {
    text: &'t str,
    pub(crate) entry: String,
    arguments: Vec<Argument>,
    /// Where declarations of threadgroup arrays begin and end.
    arrays: Vec<(usize, usize)>,
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut out, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &bytes[at..];
        let run = |f: fn(u8) -> bool| rest.iter().take_while(|b| f(**b)).count();
        let (length, kept) = match rest {
            [b'\n', ..] => {
                line += 1;
                (1, false)
            }
            [b'/', b'/', ..] => (rest.iter().take_while(|b| **b != b'\n').count(), false),
            [b'#', ..] => (rest.iter().take_while(|b| **b != b'\n').count(), true),
            [b, ..] if b.is_ascii_whitespace() => (1, false),
            [b, ..] if b.is_ascii_alphabetic() || *b == b'_' => (run(|b| b.is_ascii_alphanumeric() || b == b'_'), true),
            [b, ..] if b.is_ascii_digit() => {
                let mut n = 0;
                // The sign of an exponent belongs to the number, but not in hexadecimal.
                let hex = rest.starts_with(b"0x");
                while n < rest.len() {
                    let (b, before) = (rest[n], if n == 0 { 0 } else { rest[n - 1] });
                    let sign = matches!(b, b'+' | b'-') && matches!(before, b'e' | b'E') && !hex;
                    if !(b.is_ascii_alphanumeric() || b == b'.' || sign) {
                        break;
                    }
                    n += 1;
                }
                (n, true)
            }
            _ => (text[at..].chars().next().map_or(1, char::len_utf8), true),
        };
        if kept {
            out.push(Token { text: &text[at..at + length], start: at, line });
        }
        at += length;
    }
    out
}

impl<'t> Source<'t> {
    /// Reads a module and holds it to the rules.
    pub(crate) fn new(name: &str, text: &'t str) -> Result<Self, Failure> {
        let all = tokens(text);
        let reader = Reader { name, all: &all };
        reader.words()?;
        reader.recursion()?;
        let (entry, open) = reader.kernel()?;
        let arguments = reader.arguments(open)?;
        let arrays = reader.arrays()?;
        Ok(Source { text, entry, arguments, arrays })
    }

    /// Numbers of the buffers that it has, in the text's terms: 0 is the scalars.
    pub(crate) fn buffers(&self) -> Vec<u32> {
        let buffer = |a: &Argument| match a.is {
            Given::Buffer(n) => Some(n),
            Given::Value(..) => None,
        };
        self.arguments.iter().filter_map(buffer).collect()
    }

    /// The module in C++, and a function of this name that calls its kernel.
    pub(crate) fn translated(&self, name: &str, symbol: &str, flat: bool) -> String {
        let mut body = String::with_capacity(self.text.len() + 256);
        let mut from = 0;
        for (start, end) in &self.arrays {
            body.push_str(&self.text[from..*start]);
            // One threadgroup runs at a time. Sections are filled before each.
            body.push_str("static ");
            if !flat {
                let _ = write!(body, "__attribute__((section(\"{symbol}_data\"))) ");
            }
            body.push_str(&self.text[*start..*end]);
            // What has no other initialiser asks for a constructor.
            body.push_str(" = {}");
            from = *end;
        }
        body.push_str(&self.text[from..]);
        let body: Vec<&str> = body.lines().map(|l| if l.starts_with("#include") { "" } else { l }).collect();
        let arguments: Vec<String> = self.arguments.iter().map(Argument::given).collect();
        let mut out =
            format!("namespace {symbol}_module {{\n#line 1 \"{name}\"\n{}\n#line 1 \"glue\"\n", body.join("\n"));
        let _ = writeln!(
            out,
            "extern \"C\" void {symbol}(void* const* b) {{ (void)b; {}({}); }}",
            self.entry,
            arguments.join(", ")
        );
        if !flat && !self.arrays.is_empty() {
            let _ = writeln!(
                out,
                "extern \"C\" {{ extern char __start_{symbol}_data[], __stop_{symbol}_data[]; void {symbol}_memory(int v) {{ \
                 __builtin_memset(__start_{symbol}_data, v, __stop_{symbol}_data - __start_{symbol}_data); }} }}"
            );
        }
        out.push_str("}\n");
        out
    }
}

impl Argument {
    fn given(&self) -> String {
        match &self.is {
            Given::Buffer(n) => match self.declared.strip_suffix('&') {
                Some(of) => format!("*({of}*)(unsigned long)b[{n}]"),
                None => format!("({})(unsigned long)b[{n}]", self.declared),
            },
            Given::Value(1, field) => format!("gate_lane->{field}"),
            Given::Value(_, field) => {
                format!("uint3(gate_lane->{field}[0], gate_lane->{field}[1], gate_lane->{field}[2])")
            }
        }
    }
}

struct Reader<'a> {
    name: &'a str,
    all: &'a [Token<'a>],
}

impl Reader<'_> {
    fn rule<T>(&self, at: usize, what: impl Into<String>) -> Result<T, Failure> {
        let line = self.all.get(at).or(self.all.last()).map_or(1, |t| t.line);
        Err(Failure::Rule { kernel: self.name.to_string(), line, what: what.into() })
    }

    fn text(&self, at: usize) -> &str {
        self.all.get(at).map_or("", |t| t.text)
    }

    fn words(&self) -> Result<(), Failure> {
        for (i, t) in self.all.iter().enumerate() {
            if FOREIGN.contains(&t.text) {
                return self.rule(i, format!("`{}` is not a word of MSL", t.text));
            }
            let directive = ["#include <metal_stdlib>", "#include <metal_simdgroup_matrix>", "#pragma "];
            if t.text.starts_with('#') && !directive.iter().any(|d| t.text.starts_with(d)) {
                return self.rule(i, format!("a directive that the gate does not take, `{}`", t.text));
            }
            let number = t.text.as_bytes()[0].is_ascii_digit() && !t.text.starts_with("0x");
            if number && t.text.contains(['.', 'e', 'E']) && !t.text.ends_with(['f', 'h']) {
                return self.rule(i, format!("`{}` is a double in C++, and says no type", t.text));
            }
        }
        Ok(())
    }

    /// The token after the bracket that closes the one at `open`.
    fn after(&self, open: usize) -> usize {
        let mut depth = 0i32;
        for (i, t) in self.all.iter().enumerate().skip(open) {
            depth += i32::from(matches!(t.text, "(" | "{" | "[")) - i32::from(matches!(t.text, ")" | "}" | "]"));
            if depth == 0 {
                return i + 1;
            }
        }
        self.all.len()
    }

    /// Functions that come to call themselves.
    fn recursion(&self) -> Result<(), Failure> {
        let mut calls: BTreeMap<&str, (usize, BTreeSet<&str>)> = BTreeMap::new();
        let mut i = 0;
        while i < self.all.len() {
            let word = self.text(i).starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            let body = if word && self.text(i + 1) == "(" { self.after(i + 1) } else { 0 };
            if body == 0 || self.text(body) != "{" {
                i = if self.text(i) == "{" && i > 0 { self.after(i) } else { i + 1 };
                continue;
            }
            let end = self.after(body);
            let called = (body..end).filter(|c| self.text(c + 1) == "(").map(|c| self.text(c)).collect();
            calls.insert(self.text(i), (i, called));
            i = end;
        }
        for (name, (at, called)) in &calls {
            let (mut seen, mut next): (BTreeSet<&str>, Vec<&str>) = (BTreeSet::new(), called.iter().copied().collect());
            while let Some(f) = next.pop() {
                if f == *name {
                    return self.rule(*at, format!("`{name}` calls itself"));
                }
                if seen.insert(f) {
                    next.extend(calls.get(f).iter().flat_map(|(_, c)| c.iter().copied()));
                }
            }
        }
        Ok(())
    }

    /// The name of the one kernel, and the parenthesis behind it.
    fn kernel(&self) -> Result<(String, usize), Failure> {
        let at: Vec<usize> = (0..self.all.len()).filter(|i| self.text(*i) == "kernel").collect();
        let [at] = at[..] else { return self.rule(0, format!("{} kernels, not one", at.len())) };
        if self.text(at + 1) != "void" || self.text(at + 3) != "(" {
            return self.rule(at, "a kernel is `kernel void name(…)`");
        }
        Ok((self.text(at + 2).to_string(), at + 3))
    }

    fn arguments(&self, open: usize) -> Result<Vec<Argument>, Failure> {
        let end = self.after(open) - 1;
        let (mut out, mut from) = (Vec::new(), open + 1);
        let mut used = BTreeSet::new();
        while from < end {
            let mut to = from;
            while to < end && self.text(to) != "," {
                to = if matches!(self.text(to), "(" | "[") { self.after(to) } else { to + 1 };
            }
            out.push(self.argument(from, to, &mut used)?);
            from = to + 1;
        }
        if used.len() as u32 > BUFFERS {
            return self.rule(open, format!("{} buffers, more than {BUFFERS}", used.len()));
        }
        Ok(out)
    }

    fn argument(&self, from: usize, to: usize, used: &mut BTreeSet<u32>) -> Result<Argument, Failure> {
        let bracket = (from..to).find(|i| self.text(*i) == "[").unwrap_or(to);
        let words: Vec<&str> = (from..bracket).map(|i| self.text(i)).collect();
        let (name, declared) = (words.last().copied().unwrap_or(""), words[..words.len().saturating_sub(1)].join(" "));
        if words.contains(&"threadgroup") {
            return self.rule(from, format!("`{name}` is a threadgroup argument, whose length nobody sets"));
        }
        if bracket == to || self.text(bracket + 1) != "[" {
            return self.rule(from, format!("`{name}` has no attribute"));
        }
        let attribute = self.text(bracket + 2);
        if attribute == "buffer" {
            let Ok(n) = self.text(bracket + 4).parse::<u32>() else {
                return self.rule(from, format!("the buffer of `{name}` has no number"));
            };
            if n >= BUFFERS {
                return self.rule(from, format!("buffer {n} is beyond the {BUFFERS} there are"));
            }
            if !used.insert(n) {
                return self.rule(from, format!("buffer {n} is used twice"));
            }
            let space = words.iter().any(|w| matches!(*w, "device" | "constant"));
            if !space || !declared.ends_with(['*', '&']) {
                return self
                    .rule(from, format!("`{name}` is no pointer or reference to `device` or `constant` memory"));
            }
            return Ok(Argument { declared, is: Given::Buffer(n) });
        }
        let Some((_, components, field)) = GIVEN.iter().find(|(a, ..)| *a == attribute) else {
            return self.rule(from, format!("an unknown attribute, `{attribute}`"));
        };
        let ty = if *components == 3 { "uint3" } else { "uint" };
        if declared != ty {
            return self.rule(from, format!("`{name}` is {declared}, and `{attribute}` is {ty}"));
        }
        Ok(Argument { declared, is: Given::Value(*components, field) })
    }

    /// Declarations of threadgroup arrays, and that they fit.
    fn arrays(&self) -> Result<Vec<(usize, usize)>, Failure> {
        let (mut out, mut bytes) = (Vec::new(), 0u64);
        for i in 1..self.all.len() {
            if self.text(i) != "threadgroup" || !matches!(self.text(i - 1), "{" | "}" | ";" | ")") {
                continue;
            }
            if self.text(i + 2) == "*" {
                continue;
            }
            let Some(size) = element_bytes(self.text(i + 1)) else {
                return self.rule(i, format!("a threadgroup array of `{}`", self.text(i + 1)));
            };
            let mut total = size;
            let mut at = i + 3;
            while self.text(at) == "[" {
                let Ok(n) = self.text(at + 1).parse::<u64>() else {
                    return self.rule(i, "a threadgroup array whose length is no number");
                };
                total = total.saturating_mul(n);
                at = self.after(at);
            }
            bytes = total.next_multiple_of(16).saturating_add(bytes);
            if bytes > MEMORY {
                return self.rule(i, format!("{bytes} bytes of threadgroup memory, more than {MEMORY}"));
            }
            if self.text(at) != ";" {
                return self.rule(i, "a threadgroup array with an initialiser");
            }
            out.push((self.all[i].start, self.all[at].start));
        }
        Ok(out)
    }
}

fn element_bytes(ty: &str) -> Option<u64> {
    let lanes = ty.chars().last().and_then(|c| c.to_digit(10));
    let one = ty.trim_end_matches(|c: char| c.is_ascii_digit());
    let bytes = match one {
        "bool" | "char" | "uchar" => 1,
        "short" | "ushort" | "half" | "bfloat" => 2,
        "int" | "uint" | "float" | "atomic_int" | "atomic_uint" => 4,
        "long" | "ulong" => 8,
        _ => return None,
    };
    Some(bytes * u64::from(lanes.unwrap_or(1)))
}
