//! Traces a block, compiles it, runs it at two sizes and prints its kernels.

#![allow(clippy::print_stdout)]

use mlxc::pipeline::Options;
use mlxc::weights::RandomWeights;
use mlxc::{DType, Executable, trace};
use mlxc_runtime::TensorView;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let module = trace("block", |cx| {
        let s = cx.dim("S", 1..=4096);
        let x = cx.input("x", DType::F32, (&s, 64));
        let norm = cx.weight("norm.weight", DType::F32, [64]);
        let up = cx.weight("up.weight", DType::F32, [96, 64]);
        let n = (&x * (x.square().mean(-1, true) + 1e-5).rsqrt() * &norm).named("normed");
        cx.output("y", &n.matmul(&up.t()).silu().named("activated"));
    })?;
    let mut block = Executable::with_weights(&module, &Options::for_host()?, &RandomWeights { seed: 1 })?;
    for rows in [1u64, 3] {
        let (shape, values) = ([rows, 64], vec![0.5f32; rows as usize * 64]);
        let y = block.run(&[("x", TensorView::from_slice(&shape, &values)?)])?;
        println!("{:?}: {:?} ...", y[0].shape(), &y[0].as_slice::<f32>()?[..4]);
    }
    let plan = &block.compiled().scheduled.plan;
    print!("{}", mlxc::report::kernels(plan, &plan.entries[0]));
    Ok(())
}
