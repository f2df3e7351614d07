//! Continues a text with a package: `run_package MODEL.mlxc PROMPT [TOKENS]`. Of mlxc it uses the runtime, the package
//! reader and the tokenizer; the compiler is not needed.

#![allow(clippy::print_stdout)]

use mlxc_package::Package;
use mlxc_runtime::{LoadOptions, Model, TensorView};
use mlxc_text::{Sampler, SamplerOptions, Tokenizer};
use std::sync::Arc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(prompt)) = (args.next(), args.next()) else {
        return Err("usage: run_package MODEL.mlxc PROMPT [TOKENS]".into());
    };
    let most: usize = args.next().map_or(Ok(32), |n| n.parse())?;
    let package = Arc::new(Package::open(path)?);
    let tokenizer = Tokenizer::from_bytes(package.member("text/tokenizer.json")?)?;
    let mut session = Model::load(package, &LoadOptions::default())?.session()?;
    let mut sampler = Sampler::new(SamplerOptions { temperature: 0.0, ..SamplerOptions::default() })?;

    let mut tokens: Vec<i32> = tokenizer.encode(&prompt, true)?.iter().map(|t| *t as i32).collect();
    let prompt_length = tokens.len();
    // One prefill of the whole prompt, then a decode for each token; a long prompt is given in parts.
    let (mut entry, mut done) = ("prefill", 0);
    while tokens.len() < prompt_length + most {
        let (new, position) = (&tokens[done..], [done as i32]);
        let shape = [new.len() as u64];
        let inputs =
            [("tokens", TensorView::from_slice(&shape, new)?), ("position", TensorView::from_slice(&[], &position)?)];
        let outputs = session.run(entry, &inputs)?;
        (entry, done) = ("decode", tokens.len());
        tokens.push(sampler.sample(outputs[0].1.as_slice::<f32>()?)? as i32);
    }
    let written: Vec<u32> = tokens[prompt_length..].iter().map(|t| *t as u32).collect();
    println!("{prompt}{}", tokenizer.decode(&written, false)?);
    Ok(())
}
