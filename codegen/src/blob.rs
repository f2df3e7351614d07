//! Flattens an ELF object into bytes that a runtime maps executable and calls: text and read-only data laid
//! out one after another, every relocation resolved here. Nothing is imported, so nothing is left to link.
//!
//! Does not decide what is compiled: it refuses objects that need a linker (undefined symbols, writable data,
//! absolute addresses) with diagnostic 0803.

use std::collections::BTreeMap;

use mlxc_ir::Diagnostic;
use object::{Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, elf};

/// Position-independent machine code and its constants, callable once mapped at a multiple of `align`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeBlob {
    /// Code and constants; their distances are fixed, so they are mapped as one piece.
    pub bytes: Vec<u8>,
    /// Exported functions and the byte offset at which each begins, in order of offset.
    pub symbols: Vec<(String, u64)>,
    /// Required alignment of the mapping in bytes, a power of two.
    pub align: u64,
}

/// x86-64 `int3`, also an undefined instruction elsewhere: padding that must never run.
const PADDING: u8 = 0xCC;

impl CodeBlob {
    /// The byte offset of an exported function.
    pub fn offset(&self, symbol: &str) -> Option<u64> {
        self.symbols.iter().find(|(name, _)| name == symbol).map(|(_, offset)| *offset)
    }

    /// Lays an ELF object out.
    ///
    /// # Errors
    /// 0803 if the object cannot be read, refers to a symbol it does not define, has writable data, or has a
    /// relocation that is not relative to the program counter.
    pub fn from_object(object: &[u8]) -> Result<CodeBlob, Diagnostic> {
        let file = object::File::parse(object).map_err(|e| refuse(format!("the object file is malformed: {e}")))?;
        let mut blob = CodeBlob { bytes: Vec::new(), symbols: Vec::new(), align: 64 };
        let mut placed = BTreeMap::new();
        for section in file.sections().filter(|s| s.size() > 0) {
            let name = section.name().unwrap_or("?");
            match section.kind() {
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString => {}
                SectionKind::Data
                | SectionKind::UninitializedData
                | SectionKind::Tls
                | SectionKind::UninitializedTls => {
                    return Err(refuse(format!("section `{name}` is writable data")));
                }
                _ => continue,
            }
            if name == ".eh_frame" {
                continue; // kernels do not unwind
            }
            let align = section.align().max(16);
            blob.align = blob.align.max(align);
            blob.pad(align);
            placed.insert(section.index().0, blob.bytes.len() as u64);
            let data = section.uncompressed_data().map_err(|e| refuse(format!("section `{name}`: {e}")))?;
            blob.bytes.extend_from_slice(&data);
        }
        if file.architecture() == object::Architecture::Aarch64 {
            blob.align = blob.align.max(4096); // `adrp` counts pages
        }
        for section in file.sections() {
            let Some(&base) = placed.get(&section.index().0) else { continue };
            for (offset, relocation) in section.relocations() {
                let RelocationTarget::Symbol(index) = relocation.target() else {
                    return Err(refuse("a relocation without a symbol"));
                };
                let symbol = file.symbol_by_index(index).map_err(|e| refuse(format!("symbol table: {e}")))?;
                let name = symbol.name().unwrap_or("?");
                let home = symbol.section_index().and_then(|s| placed.get(&s.0));
                let Some(home) = home else {
                    return Err(refuse(format!("the code refers to `{name}`, which it does not define")));
                };
                let target = (home + symbol.address()) as i64 + relocation.addend();
                let RelocationFlags::Elf { r_type } = relocation.flags() else {
                    return Err(refuse("the object file is not ELF"));
                };
                blob.relocate(file.architecture(), r_type, base + offset, target)?;
            }
        }
        for symbol in file.symbols().filter(|s| s.is_global() && s.is_definition()) {
            let home = symbol.section_index().and_then(|s| placed.get(&s.0));
            let (Some(home), Ok(name)) = (home, symbol.name()) else {
                return Err(refuse("an exported symbol without a section"));
            };
            blob.symbols.push((name.to_string(), home + symbol.address()));
        }
        blob.symbols.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        Ok(blob)
    }

    /// Appends another blob; its symbols move along.
    pub fn append(&mut self, other: CodeBlob) {
        self.align = self.align.max(other.align);
        self.pad(other.align);
        let base = self.bytes.len() as u64;
        self.bytes.extend_from_slice(&other.bytes);
        self.symbols.extend(other.symbols.into_iter().map(|(name, offset)| (name, base + offset)));
    }

    fn pad(&mut self, align: u64) {
        self.bytes.resize(self.bytes.len().next_multiple_of(align as usize), PADDING);
    }

    fn relocate(
        &mut self,
        architecture: object::Architecture,
        kind: u32,
        at: u64,
        target: i64,
    ) -> Result<(), Diagnostic> {
        let word = at as usize..at as usize + 4;
        let Some(bytes) = self.bytes.get(word.clone()) else {
            return Err(refuse("a relocation outside its section"));
        };
        let old = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let distance = target - at as i64;
        let new = match architecture {
            object::Architecture::X86_64 => x86_64(kind, distance),
            object::Architecture::Aarch64 => aarch64(kind, old, at as i64, target),
            _ => None,
        };
        let Some(new) = new else {
            return Err(refuse(format!("relocation type {kind} on {architecture:?} at distance {distance}")));
        };
        self.bytes[word].copy_from_slice(&new.to_le_bytes());
        Ok(())
    }
}

fn refuse(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(803, "the compiled kernels cannot be laid out as one piece of code").found(message)
}

fn x86_64(kind: u32, distance: i64) -> Option<u32> {
    match kind {
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => i32::try_from(distance).ok().map(|d| d as u32),
        _ => None,
    }
}

/// Fields as in "ELF for the Arm 64-bit Architecture", §5.7: distances in words, pages or bytes within a page.
fn aarch64(kind: u32, old: u32, at: i64, target: i64) -> Option<u32> {
    let distance = target - at;
    let in_page = (target & 0xFFF) as u32;
    let scaled = |shift: u32| in_page.is_multiple_of(1 << shift).then_some(old | (in_page >> shift) << 10);
    match kind {
        elf::R_AARCH64_PREL32 => i32::try_from(distance).ok().map(|d| d as u32),
        elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => {
            let words = distance >> 2;
            (-(1 << 25)..1 << 25).contains(&words).then_some(old | (words as u32 & 0x03FF_FFFF))
        }
        elf::R_AARCH64_ADR_PREL_PG_HI21 => {
            let pages = (target >> 12) - (at >> 12);
            let bits = pages as u32;
            (-(1 << 20)..1 << 20).contains(&pages).then_some(old | (bits & 3) << 29 | (bits >> 2 & 0x7FFFF) << 5)
        }
        elf::R_AARCH64_ADD_ABS_LO12_NC | elf::R_AARCH64_LDST8_ABS_LO12_NC => scaled(0),
        elf::R_AARCH64_LDST16_ABS_LO12_NC => scaled(1),
        elf::R_AARCH64_LDST32_ABS_LO12_NC => scaled(2),
        elf::R_AARCH64_LDST64_ABS_LO12_NC => scaled(3),
        elf::R_AARCH64_LDST128_ABS_LO12_NC => scaled(4),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arm_fields_land_where_the_manual_puts_them() {
        // adrp x0, #+2 pages; add x0, x0, #0x128; ldr q0, [x0, #0x120]; bl back by one word
        assert_eq!(aarch64(elf::R_AARCH64_ADR_PREL_PG_HI21, 0x9000_0000, 0x10, 0x2128), Some(0xD000_0000));
        assert_eq!(aarch64(elf::R_AARCH64_ADD_ABS_LO12_NC, 0x9100_0000, 0x14, 0x2128), Some(0x9104_A000));
        assert_eq!(aarch64(elf::R_AARCH64_LDST128_ABS_LO12_NC, 0x3DC0_0000, 0x18, 0x2120), Some(0x3DC0_4800));
        assert_eq!(aarch64(elf::R_AARCH64_CALL26, 0x9400_0000, 8, 4), Some(0x97FF_FFFF));
        assert_eq!(aarch64(elf::R_AARCH64_LDST128_ABS_LO12_NC, 0x3DC0_0000, 0, 0x2128), None);
    }

    #[test]
    fn absolute_addresses_are_refused() {
        assert_eq!(x86_64(elf::R_X86_64_64, 0), None);
        assert_eq!(x86_64(elf::R_X86_64_PC32, -4), Some(0xFFFF_FFFC));
        assert_eq!(x86_64(elf::R_X86_64_PC32, 1 << 40), None);
    }

    #[test]
    fn appending_moves_symbols_and_keeps_alignment() {
        let one = CodeBlob { bytes: vec![1; 70], symbols: vec![("a".into(), 0)], align: 64 };
        let mut both = one.clone();
        both.append(CodeBlob { symbols: vec![("b".into(), 6)], ..one });
        assert_eq!(both.offset("b"), Some(134));
        assert_eq!(both.bytes.len(), 198);
        assert_eq!(both.bytes[70], PADDING);
    }

    #[test]
    fn a_malformed_object_is_a_diagnostic() {
        assert_eq!(CodeBlob::from_object(b"not elf").map_err(|d| d.id), Err(803));
    }
}
