//! A few thousand damaged inputs for each thing that reads untrusted bytes: the same ones every time.

use mlxc::pipeline::Options;
use mlxc::weights::RandomWeights;
use mlxc_ir::kernel::print;
use mlxc_tests::kernels::Random;
use mlxc_tests::llama::{self, Config, TINY};
use mlxc_tests::{every, fuzz};

/// Changes a few bytes: flips, extremes, cuts, copies and joins of two seeds.
fn damaged(r: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let pick = |r: &mut Random| seeds[r.below(seeds.len() as u64) as usize].clone();
    let mut out = pick(r);
    for _ in 0..=r.below(6) {
        let n = out.len() as u64;
        let (at, to) = (r.below(n) as usize, r.below(n) as usize);
        match r.below(8) {
            0 | 1 if n > 0 => out[at] ^= 1 << r.below(8),
            2 if n > 0 => out[at] = [0, 0xFF, 0x7F, 0x80, b'0', b'9', b'-', b'{'][r.below(8) as usize],
            3 => out.truncate(at),
            4 if at < to => {
                out.drain(at..to.min(at + 40));
            }
            5 if at < to => {
                let part = out[at..to.min(at + 60)].to_vec();
                let place = r.below(n) as usize;
                out.splice(place..place, part);
            }
            6 => {
                let other = pick(r);
                let cut = r.below(other.len() as u64 + 1) as usize;
                out.truncate(at);
                out.extend(&other[cut..]);
            }
            7 => {
                let number = r.bits().to_string();
                out.splice(at..at, number.bytes());
            }
            _ => {}
        }
    }
    out
}

fn texts(r: &mut Random, seeds: &[Vec<u8>], n: usize, f: impl Fn(&str)) {
    for _ in 0..n {
        f(&String::from_utf8_lossy(&damaged(r, seeds)));
    }
}

fn compiled() -> mlxc::pipeline::Compiled {
    let m = llama::module(&Config { layers: 1, ..TINY });
    let options = Options::for_host().unwrap_or_else(|e| panic!("{e}"));
    mlxc::compile(&m, &options).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn graphs() {
    let small = llama::module(&Config { layers: 1, composites: false, ..TINY });
    let seeds = [llama::module(&TINY), small, every::module()].map(|m| mlxc_ir::graph::text::print(&m).into_bytes());
    seeds.iter().for_each(|s| fuzz::graph_text(&String::from_utf8_lossy(s)));
    texts(&mut Random::new(1), &seeds, 3000, fuzz::graph_text);
}

#[test]
fn kernels() {
    let c = compiled();
    let seeds: Vec<Vec<u8>> = c.scheduled.kernels.iter().map(|k| print(k).into_bytes()).collect();
    seeds.iter().for_each(|s| fuzz::kernel_text(&String::from_utf8_lossy(s)));
    // A damaged kernel may still be large to verify.
    texts(&mut Random::new(2), &seeds, 1500, fuzz::kernel_text);
}

#[test]
fn packages() {
    let bytes = compiled().package_bytes(&RandomWeights { seed: 1 }, &Vec::new()).unwrap_or_else(|e| panic!("{e}"));
    fuzz::package(&bytes);
    let mut r = Random::new(3);
    let seeds = [bytes];
    for _ in 0..2000 {
        fuzz::package(&damaged(&mut r, &seeds));
    }
    // Damage where the structure lies: the directory at the end, and the first headers.
    for _ in 0..1000 {
        let mut b = seeds[0].clone();
        let n = b.len() as u64;
        for _ in 0..=r.below(3) {
            let at = if r.below(2) == 0 { n - 1 - r.below(n.min(1024)) } else { r.below(n.min(4096)) };
            b[at as usize] = r.bits() as u8;
        }
        fuzz::package(&b);
    }
}

#[test]
fn configurations() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let families = ["bert", "gemma3", "mistral", "phi3", "qwen2", "qwen3-moe"].map(|f| format!("families/{f}"));
    let seeds: Vec<Vec<u8>> = ["kjv-llama".to_string()]
        .iter()
        .chain(&families)
        .map(|f| std::fs::read(format!("{fixtures}/{f}/config.json")).expect("the fixture is in the repository"))
        .collect();
    texts(&mut Random::new(4), &seeds, 5000, fuzz::config_json);
}

#[test]
fn arrays() {
    let seeds: Vec<Vec<u8>> = [&[0u64][..], &[], &[2, 3], &[4, 1, 5]]
        .iter()
        .map(|shape| {
            let t = mlxc_runtime::Tensor::zeros(mlxc_ir::DType::F32, shape).expect("memory");
            mlxc_runtime::npy::to_bytes(t.view())
        })
        .collect();
    let mut r = Random::new(5);
    for _ in 0..5000 {
        fuzz::npy(&damaged(&mut r, &seeds));
    }
}

#[test]
fn buffers() {
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/minimalloc/input.12.csv");
    let mut seeds = vec![std::fs::read(fixture).expect("the fixture is in the repository")];
    seeds.push(
        b"size,lower,id,upper,offset\n18446744073709551615,0,\"a,\"\"b\",18446744073709551615,7\n0,5,c,6,\n".to_vec(),
    );
    seeds.iter().for_each(|s| fuzz::buffers(s));
    let mut r = Random::new(6);
    for _ in 0..5000 {
        fuzz::buffers(&damaged(&mut r, &seeds));
    }
}
