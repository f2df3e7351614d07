//! Packages are written whole, read back, listed by other tools, and refused when anything in them is off.

#![allow(clippy::unwrap_used)]

mod sample;

use mlxc_package::*;
use std::io::{Cursor, Read};

#[test]
fn what_is_written_is_read() {
    let bytes = sample::package();
    assert_eq!(bytes, sample::package(), "equal content gives equal bytes");
    let package = Package::from_bytes(bytes).unwrap();
    package.verify().unwrap();
    assert_eq!(package.plan(), &sample::plan());
    assert_eq!(package.manifest().writer, WRITER);
    let weight = package.member("weights/0").unwrap();
    assert_eq!(weight[4..8], 1f32.to_le_bytes());
    assert_eq!(weight.as_ptr() as usize % 4096, 0);
    let target = &package.manifest().targets[0];
    assert_eq!(package.code(target).unwrap().len(), 100);
    assert_eq!(package.symbols(target).unwrap()[1], ("add__main".to_string(), 64));
    assert_eq!(package.member("weights/1").unwrap_err().id(), "MLXC0605");
}

#[test]
fn another_zip_reader_agrees() {
    let mut zip = zip::ZipArchive::new(Cursor::new(sample::package())).unwrap();
    assert_eq!(zip.len(), 6);
    for i in 0..zip.len() {
        let mut member = zip.by_index(i).unwrap();
        assert_eq!(member.data_start() % MEMBER_ALIGNMENT, 0);
        let mut data = Vec::new();
        member.read_to_end(&mut data).unwrap(); // compares the checksum
    }
    let mut weight = zip.by_name("weights/0").unwrap();
    assert_eq!((weight.size(), weight.unix_mode()), (256, Some(0o100_644)));
    let mut data = Vec::new();
    weight.read_to_end(&mut data).unwrap();
    assert_eq!(data[4..8], 1f32.to_le_bytes());
}

#[test]
fn a_file_appears_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlxc");
    let mut writer = PackageWriter::create(&path).unwrap();
    sample::fill(&mut writer, &sample::plan());
    assert!(!path.exists());
    drop(writer);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut writer = PackageWriter::create(&path).unwrap();
    let failed = writer.add_with("weights/0", 4, |_| Err(std::io::Error::other("disk on fire")));
    assert_eq!(failed.unwrap_err().id(), "MLXC0601");
    writer.add_plan(PLAN, &sample::plan()).unwrap();
    assert_eq!(writer.finish("0").unwrap_err().id(), "MLXC0607");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);

    let mut writer = PackageWriter::create(&path).unwrap();
    sample::fill(&mut writer, &sample::plan());
    writer.finish("0").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), sample::package());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let package = Package::open(&path).unwrap();
    assert_eq!(package.plan(), &sample::plan());
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let plain = folder.path().join("plain");
        std::fs::write(&plain, b"").unwrap();
        let mode = |p| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }
}

#[test]
fn bad_names_and_sizes_are_refused_when_writing() {
    let mut writer = PackageWriter::in_memory();
    writer.add("a/b", b"1").unwrap();
    for name in ["a/b", "", "/etc/passwd", "../x", "a//b", "a\\b", "c:x", "./a"] {
        assert_eq!(writer.add(name, b"2").unwrap_err().id(), "MLXC0607", "{name}");
    }
    assert_eq!(writer.add_with("c", 3, |w| w.write_all(b"1234")).unwrap_err().id(), "MLXC0607");
    let writer = PackageWriter::in_memory();
    assert_eq!(writer.finish_bytes("0").unwrap_err().id(), "MLXC0605");
}

#[test]
fn native_code_of_an_untrusted_package_is_not_handed_out() {
    let package = Package::from_bytes_with(sample::package(), OpenOptions { untrusted: true }).unwrap();
    assert_eq!(package.code(&package.manifest().targets[0]).unwrap_err().id(), "MLXC0608");
    assert!(package.member("weights/0").is_ok());
}

#[test]
fn targets_have_plans_of_their_own_and_share_weights() {
    let shader = sample::shader_plan();
    let bytes = sample::two_targets(&shader).finish_bytes("0").unwrap();
    let package = Package::from_bytes_with(bytes, OpenOptions { untrusted: true }).unwrap();
    package.verify().unwrap();
    let targets = &package.manifest().targets;
    assert_eq!((package.plan(), package.plan_of(&targets[0])), (&sample::plan(), &sample::plan()));
    assert_eq!(package.plan_of(&targets[1]), &shader);
    assert_eq!(package.plans().map(|(m, _)| m).collect::<Vec<_>>(), ["plan", "plan.gpu"]);
    let modules = package.modules(&targets[1]).unwrap();
    assert_eq!(modules["scale__main"], "// scale\n");
    assert_eq!(modules["add__main"], "// add: é\n");

    // The last module would begin inside a letter.
    let mut writer = sample::two_targets(&shader);
    let target = TargetCode {
        name: "other",
        kind: TargetKind::Shader,
        plan: "plan.gpu",
        arch: "",
        features: &[],
        abi: 0,
        align: 1,
        code: sample::SHADERS.as_bytes(),
        symbols: &[("scale__main".into(), 0), ("add__main".into(), 18)],
    };
    writer.add_target(&target).unwrap();
    writer.add_target(&TargetCode { name: "beyond", symbols: &[("x".into(), 21)], ..target }).unwrap();
    let bytes = writer.finish_bytes("0").unwrap();
    forge_error(bytes, "MLXC0603", &["`x` within 20 bytes", "21"]);
    let mut writer = sample::two_targets(&shader);
    writer.add_target(&target).unwrap();
    let package = Package::from_bytes(writer.finish_bytes("0").unwrap()).unwrap();
    let refused = package.modules(&package.manifest().targets[2]).unwrap_err();
    assert_eq!(refused.id(), "MLXC0603", "{refused}");
    assert!(refused.to_string().contains("UTF-8"), "{refused}");

    let mut writer = sample::two_targets(&shader);
    writer.add_target(&TargetCode { name: "orphan", plan: "plan.metal", ..target }).unwrap();
    let refused = writer.finish_bytes("0").unwrap_err();
    assert_eq!(refused.id(), "MLXC0605");
    assert!(refused.to_string().contains("plan.metal"), "{refused}");
    let mut bytes = sample::two_targets(&shader).finish_bytes("0").unwrap();
    forge(&mut bytes, "\"plan\": \"plan.gpu\"", "\"plan\": \"plan.xyz\"");
    forge_error(bytes, "MLXC0603", &["a plan for target `webgpu`", "plan.xyz"]);
}

#[test]
fn plans_that_share_a_weight_agree() {
    let mut other = sample::shader_plan();
    other.weights[0].layout = Layout::RowMajor;
    other.weights[0].bytes = 160;
    other.entries[0].buffers[1].bytes = 160;
    other.entries[0].buffers[1].shape = vec![sample::c(5), sample::c(8)];
    let mut writer = PackageWriter::in_memory();
    sample::fill(&mut writer, &sample::plan());
    let refused = writer.add_plan("plan.gpu", &other).unwrap_err();
    assert_eq!(refused.id(), "MLXC0606");
    for word in ["weight `w`", "256 bytes of `weights/0` in plan `plan`", "160"] {
        assert!(refused.to_string().contains(word), "{refused}");
    }
}

#[test]
fn a_shader_plan_fits_a_dispatch() {
    let refused = |change: &dyn Fn(&mut plan::Plan), word: &str| {
        let mut shader = sample::shader_plan();
        change(&mut shader);
        let bytes = sample::two_targets(&shader).finish_bytes("0").unwrap();
        forge_error(bytes, "MLXC0606", &[word]);
    };
    let grid = |p: &mut plan::Plan, launch: usize, sizes: &[i64]| {
        p.entries[0].launches[launch].grid = sizes.iter().map(|n| sample::c(*n)).collect();
    };
    refused(&|p| grid(p, 1, &[1, 1, 1, 1]), "3 grid axes");
    refused(&|p| grid(p, 1, &[2, 65536]), "65535 groups along an axis");
    refused(&|p| grid(p, 0, &[65536, 65535]), "groups");
    let mut shader = sample::shader_plan();
    grid(&mut shader, 0, &[65535, 5, 1, 13107]);
    grid(&mut shader, 1, &[65535, 65535, 65535]);
    Package::from_bytes(sample::two_targets(&shader).finish_bytes("0").unwrap()).unwrap();
}

/// Replaces bytes of a stored member and mends its checksum, as an author of a hostile package would.
fn forge(bytes: &mut [u8], from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let package = Package::from_bytes(bytes.to_vec()).unwrap();
    let manifest = package.member("manifest.json").unwrap();
    let start = bytes.windows(manifest.len()).position(|w| w == manifest).unwrap();
    let old = crc32fast::hash(manifest).to_le_bytes();
    let text = String::from_utf8(manifest.to_vec()).unwrap().replacen(from, to, 1);
    let new = crc32fast::hash(text.as_bytes()).to_le_bytes();
    bytes[start..start + text.len()].copy_from_slice(text.as_bytes());
    for i in 0..bytes.len() - 4 {
        if bytes[i..i + 4] == old {
            bytes[i..i + 4].copy_from_slice(&new);
        }
    }
}

#[test]
fn another_format_says_who_wrote_it() {
    let mut bytes = sample::package();
    forge(&mut bytes, "\"format\": 2", "\"format\": 1");
    forge_error(bytes, "MLXC0604", &[WRITER, "format 1", "knows format 2"]);
    let mut bytes = sample::package();
    forge(&mut bytes, "\"format\": 2", "\"format\": 9");
    forge_error(bytes, "MLXC0604", &[WRITER, "format 9", "knows format 2"]);
}

#[test]
fn damage_names_the_member_and_what_was_found() {
    let bytes = sample::package();
    forge_error(bytes[..bytes.len() / 2].to_vec(), "MLXC0602", &["<memory>"]);
    forge_error(Vec::new(), "MLXC0602", &["at least 98 bytes"]);
    forge_error(b"PK\x03\x04 but nothing of a package follows".repeat(10), "MLXC0602", &["end record"]);
    let mut flipped = bytes.clone();
    let at = bytes.windows(9).position(|w| w == b"\"weights\"").unwrap();
    flipped[at + 1] = b'W';
    forge_error(flipped, "MLXC0603", &["`plan`", "CRC-32"]);
    let mut weight = bytes.clone();
    let package = Package::from_bytes(bytes.clone()).unwrap();
    let at = bytes.windows(256).position(|w| w == package.member("weights/0").unwrap()).unwrap();
    weight[at] ^= 1;
    let package = Package::from_bytes(weight).unwrap(); // weights are not read when opening
    assert_eq!(package.verify().unwrap_err().id(), "MLXC0603");
    let mut hash = bytes;
    let old = Package::from_bytes(hash.clone()).unwrap().manifest().plan_sha256[PLAN].clone();
    forge(&mut hash, &old, &"0".repeat(64));
    forge_error(hash, "MLXC0603", &["`plan`", "SHA-256"]);
}

fn forge_error(bytes: Vec<u8>, id: &str, words: &[&str]) {
    let error = Package::from_bytes(bytes).unwrap_err();
    assert_eq!(error.id(), id, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn mutated_packages_never_panic() {
    never_panics(&sample::package());
    never_panics(&sample::two_targets(&sample::shader_plan()).finish_bytes("0").unwrap());
}

fn never_panics(bytes: &[u8]) {
    let mut state = 1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Most bytes are padding; aim at those that mean something.
    let live: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i] != 0).collect();
    let mut opened = 0;
    for round in 0..6000 {
        let mut b = bytes.to_vec();
        for _ in 0..1 + random() % 4 {
            let near = live[random() as usize % live.len()];
            let at = (near + random() as usize % 5).min(b.len() - 1);
            match random() % 4 {
                0 => b[at] = random() as u8,
                1 => b[at] ^= 1 << (random() % 8),
                2 => b[at] = 0xFF,
                _ => {
                    let v = [0, 1, u64::MAX, u64::from(u32::MAX), bytes.len() as u64][random() as usize % 5];
                    let end = (at + 8).min(b.len());
                    b[at..end].copy_from_slice(&v.to_le_bytes()[..end - at]);
                }
            }
        }
        if round % 5 == 0 {
            b.truncate(random() as usize % b.len());
        }
        match Package::from_bytes(b) {
            Ok(package) => {
                opened += 1;
                let _ = package.verify();
                for (name, bytes) in package.members() {
                    assert_eq!(package.member(name).unwrap().len() as u64, bytes);
                }
                for target in &package.manifest().targets {
                    let _ = (package.plan_of(target), package.modules(target));
                }
            }
            Err(e) => assert!(e.id().starts_with("MLXC06") && !e.to_string().is_empty()),
        }
    }
    assert!(opened < 3000, "{opened}");
}
