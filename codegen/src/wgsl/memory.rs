//! Loads and stores: of elements and vectors as declared, and of elements within 32-bit words.

use mlxc_ir::DType;
use mlxc_ir::kernel::{ExprId, ExprKind, FoldOp, Memory, Place, Shape, Type};

use crate::legalise::Storage;
use crate::shader::{Indices, Ix, Text};

use super::Writer;

/// A function that takes elements out of words or puts them together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Helper {
    Unpack16x2,
    Unpack16x4,
    Unpack8x4,
    Pack16x2,
    Pack16x4,
    Pack8x4,
}

impl Helper {
    pub(super) const ALL: [Helper; 6] = [
        Helper::Unpack16x2,
        Helper::Unpack16x4,
        Helper::Unpack8x4,
        Helper::Pack16x2,
        Helper::Pack16x4,
        Helper::Pack8x4,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Helper::Unpack16x2 => "unpack_16x2",
            Helper::Unpack16x4 => "unpack_16x4",
            Helper::Unpack8x4 => "unpack_8x4",
            Helper::Pack16x2 => "pack_16x2",
            Helper::Pack16x4 => "pack_16x4",
            Helper::Pack8x4 => "pack_8x4",
        }
    }

    pub(super) const fn text(self) -> &'static str {
        match self {
            Helper::Unpack16x2 => {
                "fn unpack_16x2(word: u32) -> vec2<u32> {\n  return vec2<u32>(word & 0xffffu, word >> 16u);\n}"
            }
            Helper::Unpack16x4 => {
                "fn unpack_16x4(words: vec2<u32>) -> vec4<u32> {\n  \
                 return vec4<u32>(words.x & 0xffffu, words.x >> 16u, words.y & 0xffffu, words.y >> 16u);\n}"
            }
            Helper::Unpack8x4 => {
                "fn unpack_8x4(word: u32) -> vec4<u32> {\n  \
                 return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);\n}"
            }
            Helper::Pack16x2 => "fn pack_16x2(v: vec2<u32>) -> u32 {\n  return (v.x & 0xffffu) | (v.y << 16u);\n}",
            Helper::Pack16x4 => {
                "fn pack_16x4(v: vec4<u32>) -> vec2<u32> {\n  return (v.xz & vec2<u32>(0xffffu)) | (v.yw << vec2<u32>(16u));\n}"
            }
            Helper::Pack8x4 => {
                "fn pack_8x4(v: vec4<u32>) -> u32 {\n  \
                 let bytes = (v & vec4<u32>(0xffu)) << vec4<u32>(0u, 8u, 16u, 24u);\n  \
                 return bytes.x | bytes.y | bytes.z | bytes.w;\n}"
            }
        }
    }
}

impl Writer<'_> {
    fn storage(&self, memory: Memory) -> Storage {
        *self.phase.storage(memory).expect("invariant: `words` finds every access")
    }

    /// The row-major position of an access's first element.
    fn element_position(&mut self, place: &Place) -> Ix {
        let k = self.k;
        let mut position = Ix::Const(0);
        for (axis, i) in place.at.iter().enumerate() {
            let extent = match place.memory {
                Memory::Buffer(b) => self.index(k.buffer(b).shape[axis]),
                Memory::Group(g) => Ix::Const(i64::from(k.group(g).shape[axis])),
            };
            let i = self.index(*i);
            position = position.times(extent).plus(i);
        }
        position
    }

    /// The position as a name or number.
    fn bound_position(&mut self, place: &Place) -> Ix {
        match self.element_position(place) {
            Ix::Const(c) => Ix::Const(c),
            text => Ix::name(self.bind("i", text.text())),
        }
    }

    fn lanes(place: &Place) -> u8 {
        match place.shape {
            Shape::Vector(n) | Shape::First { lanes: n, .. } => n,
            Shape::One | Shape::Tile(..) => 1,
        }
    }

    /// One element of the declared array.
    fn unit(&mut self, s: &Storage, at: Ix) -> String {
        let name = self.names.memory(self.k, s.memory);
        let at = at.text();
        if s.atomic { format!("atomicLoad(&{name}[{at}])") } else { format!("{name}[{at}]") }
    }

    /// Stores one element of the declared array.
    fn put(&mut self, s: &Storage, at: Ix, value: &str) {
        let name = self.names.memory(self.k, s.memory);
        let at = at.text();
        let text = match s.atomic {
            true => format!("atomicStore(&{name}[{at}], {value});"),
            false => format!("{name}[{at}] = {value};"),
        };
        self.line(&text);
    }

    /// A load of elements.
    pub(super) fn load(&mut self, place: &Place, ty: Type) -> Text {
        let s = self.storage(place.memory);
        let (lanes, unit) = (Self::lanes(place), s.unit);
        if lanes == unit {
            let at = self.element_position(place).over(Ix::Const(i64::from(unit)));
            return Text::primary(self.unit(&s, at));
        }
        let first = self.bound_position(place).over(Ix::Const(i64::from(unit)));
        let parts: Vec<String> =
            (0..lanes / unit).map(|p| self.unit(&s, first.clone().plus(Ix::Const(i64::from(p))))).collect();
        Text::primary(format!("{}({})", self.ty(ty), parts.join(", ")))
    }

    /// A store of elements.
    pub(super) fn store(&mut self, place: &Place, value: ExprId) {
        let s = self.storage(place.memory);
        if s.words {
            let carrier = self.legal.word_value(value).unwrap_or(value);
            return self.store_words(&s, place, carrier);
        }
        let value = self.expr(value).text;
        let (lanes, unit) = (Self::lanes(place), s.unit);
        if lanes == unit {
            let at = self.element_position(place).over(Ix::Const(i64::from(unit)));
            return self.put(&s, at, &value);
        }
        let value = self.bind("v", value);
        let first = self.bound_position(place).over(Ix::Const(i64::from(unit)));
        for p in 0..lanes / unit {
            let part = match unit {
                1 => format!("{value}.{}", &"xyzw"[usize::from(p)..=usize::from(p)]),
                _ => format!("{value}.{}", ["xy", "zw"][usize::from(p)]),
            };
            self.put(&s, first.clone().plus(Ix::Const(i64::from(p))), &part);
        }
    }

    /// Lane 0's value, known to be the same for all.
    pub(super) fn uniform_load(&mut self, load: ExprId, ty: Type) -> Text {
        let ExprKind::Load(place, _) = &self.k.expr(load).kind else {
            panic!("invariant: `group` leaves `group.bcast` of a group array's element");
        };
        let s = self.storage(place.memory);
        let name = self.names.memory(self.k, s.memory);
        let (lanes, unit) = (Self::lanes(place), s.unit);
        let parts: Vec<String> = (0..lanes / unit).map(|p| format!("workgroupUniformLoad(&{name}[{p}u])")).collect();
        match parts.len() {
            1 => Text::primary(parts.concat()),
            _ => Text::primary(format!("{}({})", self.ty(ty), parts.join(", "))),
        }
    }

    /// Bits of an element of a memory in words.
    fn element_bits(&self, memory: Memory) -> i64 {
        self.k.memory_dtype(memory).bytes() as i64 * 8
    }

    /// A load of elements within words, one 32-bit integer each.
    pub(super) fn load_words(&mut self, place: &Place, ty: Type) -> Text {
        let s = self.storage(place.memory);
        let (bits, lanes) = (self.element_bits(place.memory), Self::lanes(place));
        let signed = ty.dtype() == DType::I32;
        let whole = self.legal.covers_words(place);
        if !whole {
            let first = self.bound_position(place);
            let parts: Vec<String> = (0..lanes)
                .map(|l| self.load_element(&s, first.clone().plus(Ix::Const(i64::from(l))), bits, signed))
                .collect();
            return match lanes {
                1 => Text::primary(parts.concat()),
                _ => Text::primary(format!("{}({})", self.ty(ty), parts.join(", "))),
            };
        }
        let per_unit = Ix::Const(32 / bits * i64::from(s.unit));
        let words = i64::from(lanes) * bits / 32;
        let word = if words == i64::from(s.unit) {
            let at = self.element_position(place).over(per_unit);
            self.unit(&s, at)
        } else {
            let at = self.element_position(place).over(per_unit);
            let at = match at {
                Ix::Const(c) => Ix::Const(c),
                text => Ix::name(self.bind("w", text.text())),
            };
            let parts: Vec<String> = (0..words).map(|p| self.unit(&s, at.clone().plus(Ix::Const(p)))).collect();
            format!("vec{words}<u32>({})", parts.join(", "))
        };
        let helper = match (bits, lanes) {
            (16, 2) => Helper::Unpack16x2,
            (16, _) => Helper::Unpack16x4,
            _ => Helper::Unpack8x4,
        };
        self.helpers.insert(helper);
        let elements = format!("{}({word})", helper.name());
        Text::primary(match signed {
            true => format!("extractBits(vec{lanes}<i32>({elements}), 0u, {bits}u)"),
            false => elements,
        })
    }

    fn load_element(&mut self, s: &Storage, at: Ix, bits: i64, signed: bool) -> String {
        let per_word = Ix::Const(32 / bits);
        let shift = at.clone().modulo(per_word.clone()).times(Ix::Const(bits));
        let word = self.unit(s, at.over(per_word));
        match signed {
            true => format!("extractBits(bitcast<i32>({word}), {}, {bits}u)", shift.text()),
            false => format!("(({word} >> ({})) & 0x{:x}u)", shift.text(), (1u32 << bits) - 1),
        }
    }

    /// A store of elements within words: whole words plainly, single elements by atomics, which leave the rest of
    /// the word to its owners.
    fn store_words(&mut self, s: &Storage, place: &Place, carrier: ExprId) {
        let (bits, lanes) = (self.element_bits(place.memory), Self::lanes(place));
        let mut value = self.expr(carrier).text;
        if self.k.expr(carrier).ty.dtype() == DType::I32 {
            let unsigned = self.ty(Type::vector(DType::U32, lanes));
            value = format!("{unsigned}({value})");
        }
        if !self.legal.covers_words(place) {
            let value = self.bind("v", value);
            let first = self.bound_position(place);
            for l in 0..lanes {
                let one = match lanes {
                    1 => value.clone(),
                    _ => format!("{value}.{}", &"xyzw"[usize::from(l)..=usize::from(l)]),
                };
                self.store_element(s, first.clone().plus(Ix::Const(i64::from(l))), bits, &one);
            }
            return;
        }
        let helper = match (bits, lanes) {
            (16, 2) => Helper::Pack16x2,
            (16, _) => Helper::Pack16x4,
            _ => Helper::Pack8x4,
        };
        self.helpers.insert(helper);
        let packed = format!("{}({value})", helper.name());
        let words = i64::from(lanes) * bits / 32;
        let at = self.element_position(place).over(Ix::Const(32 / bits * i64::from(s.unit)));
        if words == i64::from(s.unit) {
            return self.put(s, at, &packed);
        }
        let packed = self.bind("words", packed);
        let at = match at {
            Ix::Const(c) => Ix::Const(c),
            text => Ix::name(self.bind("w", text.text())),
        };
        for (p, component) in ["x", "y"].into_iter().enumerate() {
            self.put(s, at.clone().plus(Ix::Const(p as i64)), &format!("{packed}.{component}"));
        }
    }

    fn store_element(&mut self, s: &Storage, at: Ix, bits: i64, value: &str) {
        let name = self.names.memory(self.k, s.memory);
        let per_word = Ix::Const(32 / bits);
        let shift = at.clone().modulo(per_word.clone()).times(Ix::Const(bits)).text();
        let shift = self.bind("shift", shift);
        let word = self.bind("w", at.over(per_word).text());
        let mask = (1u32 << bits) - 1;
        self.line(&format!("atomicAnd(&{name}[{word}], ~(0x{mask:x}u << {shift}));"));
        self.line(&format!("atomicOr(&{name}[{word}], ({value} & 0x{mask:x}u) << {shift});"));
    }

    /// A relaxed atomic without a result.
    pub(super) fn atomic(&mut self, op: FoldOp, place: &Place, value: ExprId) {
        let s = self.storage(place.memory);
        let function = match op {
            FoldOp::Add => "atomicAdd",
            FoldOp::Min => "atomicMin",
            FoldOp::Max => "atomicMax",
            FoldOp::And => "atomicAnd",
            FoldOp::Or => "atomicOr",
            FoldOp::Xor => "atomicXor",
        };
        let value = self.expr(value).text;
        let at = self.element_position(place).text();
        let name = self.names.memory(self.k, s.memory);
        self.line(&format!("{function}(&{name}[{at}], {value});"));
    }
}
