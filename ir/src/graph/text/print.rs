//! Printing.

use super::attributes::{self, Value};
use crate::graph::types::{Function, Module, Role, Symbol, SymbolKind, ValueId, symbol_name};
use mlxc_package::Size;
use std::fmt::Write;

/// The module as text.
pub fn print(module: &Module) -> String {
    let mut out = String::new();
    for w in &module.weights {
        let _ = writeln!(out, "weight {}: {}", quoted(&w.name), w.ty.display(&[]));
    }
    for s in &module.states {
        let _ = writeln!(out, "state {}: {}", quoted(&s.name), s.ty.display(&[]));
    }
    for f in &module.functions {
        function(f, &mut out);
    }
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn size(s: &Size, symbols: &[Symbol]) -> String {
    s.display(&|id| symbol_name(symbols, id)).to_string()
}

fn sizes(list: &[Size], symbols: &[Symbol]) -> String {
    let items: Vec<String> = list.iter().map(|s| size(s, symbols)).collect();
    format!("[{}]", items.join(", "))
}

/// Shortest decimal that reads back as the same bits; the bits themselves where there is none.
fn real(x: f64) -> String {
    if x.is_finite() {
        return format!("{x:?}");
    }
    format!("bits(0x{:x})", x.to_bits())
}

fn value(v: ValueId) -> String {
    if v.index == 0 { format!("%{}", v.node) } else { format!("%{}.{}", v.node, v.index) }
}

fn function(f: &Function, out: &mut String) {
    let kind = if f.is_block { "block" } else { "entry" };
    let _ = writeln!(out, "{kind} {} {{", quoted(&f.name));
    for s in &f.symbols {
        let kind = if s.kind == SymbolKind::Size { "size" } else { "scalar" };
        let _ = write!(out, "  {kind} {} in {}..={}", s.name, s.range.lo, s.range.hi);
        if s.multiple != 1 {
            let _ = write!(out, " mult {}", s.multiple);
        }
        out.push('\n');
    }
    for r in &f.requires {
        let _ = writeln!(out, "  require {} >= 0", size(r, &f.symbols));
    }
    for p in &f.params {
        let role = match p.role {
            Role::Input => "input".to_string(),
            Role::Scalar(id) => format!("scalar {}", symbol_name(&f.symbols, id)),
            Role::Weight(n) => format!("weight {n}"),
            Role::State(n) => format!("state {n}"),
            Role::Block => "block".to_string(),
        };
        let _ = writeln!(out, "  param {}: {} {role}", quoted(&p.name), p.ty.display(&f.symbols));
    }
    for (i, node) in f.nodes.iter().enumerate() {
        let _ = write!(out, "  %{i} = {}", node.op.name());
        let list = attributes::of(&node.op);
        if !list.is_empty() {
            let items: Vec<String> = list.iter().map(|(k, v)| format!("{k}: {}", attribute(v, &f.symbols))).collect();
            let _ = write!(out, " {{{}}}", items.join(", "));
        }
        let operands: Vec<String> = node.inputs.iter().map(|v| value(*v)).collect();
        let types: Vec<String> = node.types.iter().map(|t| t.display(&f.symbols).to_string()).collect();
        let _ = write!(out, " ({}): {}", operands.join(", "), types.join(", "));
        if let Some(name) = &node.name {
            let _ = write!(out, " {}", quoted(name));
        }
        if let Some(at) = &node.at {
            let _ = write!(out, " @ {}:{}:{}", quoted(&at.file), at.line, at.column);
        }
        out.push('\n');
    }
    for r in &f.results {
        let _ = writeln!(out, "  result {} = {}", quoted(&r.name), value(r.value));
    }
    for (p, v) in &f.updates {
        let _ = writeln!(out, "  update {p} = {}", value(*v));
    }
    out.push_str("}\n");
}

fn attribute(v: &Value, symbols: &[Symbol]) -> String {
    match v {
        Value::Size(s) => size(s, symbols),
        Value::Sizes(list) => sizes(list, symbols),
        Value::Real(x) => real(*x),
        Value::Word(w) => w.clone(),
        Value::Text(t) => quoted(t),
    }
}
