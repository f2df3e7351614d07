//! The builder: what it writes, what it binds by itself, what it refuses.

#![allow(clippy::unwrap_used)]

use mlxc_ir::DType::{BF16, F32, I32};
use mlxc_ir::kernel::{Access, Kernel, KernelBuilder, Subgroup, Type, parse, print, verify};

fn norm() -> Kernel {
    let k = KernelBuilder::new("norm");
    k.comment("y = x * rsqrt(mean(x*x) + eps)\nin one pass");
    k.origin("model.rs:12 rms_norm");
    k.knob("width", 16);
    let s = k.sym("S", 1..=4096, 1);
    let x = k.buffer("x", BF16, &[s, k.int(128)], Access::Read);
    let y = k.buffer("y", BF16, &[s, k.int(128)], Access::Write);
    let eps = k.arg("eps", F32);
    k.phase("rows", &[("s", s)], 1, Subgroup::None, |axes| {
        let row = axes[0];
        let acc = k.reg("acc", Type::vector(F32, 16), &[2], Some(k.constant(0.0, F32)));
        k.for_("c", k.int(0), k.int(128), 32, false, |c| {
            k.for_("j", k.int(0), k.int(2), 1, true, |j| {
                let v = x.at([row, c + j * 16]).vec(16).load().cast(F32);
                // Used twice: bound by the builder.
                acc.set([j], v.fma(v, acc.get([j])));
            });
        });
        let sum = (acc.get([k.int(0)]) + acc.get([k.int(1)])).hsum();
        let scale = k.let_("scale", (sum * (1.0 / 128.0) + eps).rsqrt());
        k.for_("c", k.int(0), k.int(128), 16, false, |c| {
            let v = x.at([row, c]).vec(16).load().cast(F32);
            y.at([row, c]).vec(16).store((v * scale).cast(BF16));
        });
    });
    k.finish()
}

#[test]
fn text_of_a_built_kernel() {
    let k = norm();
    verify(&k).unwrap_or_else(|e| panic!("{}", e[0]));
    let text = print(&k);
    let want = "\
kernel norm { // y = x * rsqrt(mean(x*x) + eps) in one pass
  // origin: model.rs:12 rms_norm
  sym S in 1..=4096
  arg eps: f32
  buf x: bf16[S, 128] read
  buf y: bf16[S, 128] write
  knob width = 16
  phase rows grid(s: S) {
    reg acc: f32x16[2] = 0.0
    for c in 0..128 step 32 {
      for j in 0..2 unroll {
        let t = f32(x[s, c + j*16 +: 16])
        acc[j] = fma(t, t, acc[j])
      }
    }
    let scale = rsqrt(hsum(acc[0] + acc[1]) * 0.0078125 + eps)
    for c in 0..128 step 16 {
      y[s, c +: 16] = bf16(f32(x[s, c +: 16]) * splat<16>(scale))
    }
  }
}
";
    assert_eq!(text, want);
    assert_eq!(print(&parse(&text, "norm").unwrap()[0]), want);
}

#[test]
fn alignment_follows_from_multiples() {
    for (multiple, bytes) in [(1, 4), (16, 64), (64, 256)] {
        let k = KernelBuilder::new("k");
        let t = k.sym("T", 64..=4096, multiple);
        let y = k.buffer("y", F32, &[k.int(8), t], Access::Write);
        k.phase("p", &[("r", k.int(8))], 1, Subgroup::None, |axes| {
            y.at([axes[0], k.int(0)]).vec(16).store_nt(k.constant(1.0, F32));
        });
        let k = k.finish();
        let facts = verify(&k).unwrap();
        let mlxc_ir::kernel::Stmt::Store { place, .. } = &k.phases()[0].body[0] else { panic!("a store") };
        assert_eq!(facts.alignment(place), bytes);
    }
}

fn in_phase(body: impl FnOnce(&KernelBuilder)) {
    let k = KernelBuilder::new("k");
    k.phase("p", &[("i", k.int(4))], 1, Subgroup::None, |_| body(&k));
}

#[test]
#[should_panic(expected = "bind it with let_")]
fn a_stale_value_is_refused() {
    in_phase(|k| {
        let v = k.var("v", k.constant(1.0, F32));
        let old = v.get();
        v.set(k.constant(2.0, F32));
        k.let_("t", old);
    });
}

#[test]
#[should_panic(expected = "bind it with let_")]
fn a_value_from_before_a_loop_that_changes_it_is_refused() {
    in_phase(|k| {
        let v = k.var("v", k.constant(1.0, F32));
        let old = v.get();
        k.for_("j", k.int(0), k.int(4), 1, false, |_| v.set(old + v.get()));
    });
}

#[test]
#[should_panic(expected = "where a f32 is needed")]
fn types_are_not_converted() {
    in_phase(|k| {
        k.let_("t", k.constant(1.0, I32) + k.constant(1.0, F32));
    });
}
