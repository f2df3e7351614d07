//! Writing text with the trained Llama: what is processed again, drafts, caches, stop strings, penalties.

use mlxc::DType;
use mlxc::generate::{Prompt, Request, TextModel};
use mlxc::source::Build;
use mlxc_package::Package;
use mlxc_runtime::LoadOptions;
use mlxc_text::{Message, PenaltyOptions, SamplerOptions};
use std::path::PathBuf;
use std::sync::Arc;

fn package(name: &str) -> Arc<Package> {
    let mut build = Build::new(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures")).join(name));
    build.dtype = Some(DType::F32);
    build.package(&mut |_| {}).unwrap_or_else(|e| panic!("{e}"))
}

fn load(package: &Arc<Package>) -> TextModel {
    TextModel::load(package.clone(), &LoadOptions::default()).unwrap_or_else(|e| panic!("{e}"))
}

fn text(prompt: &str, most: usize) -> Request {
    let mut request = Request::new(Prompt::Text(prompt.into()), most);
    request.ignore_eos = true;
    request
}

fn write(model: &mut TextModel, request: &Request) -> mlxc::generate::Written {
    let mut streamed = String::new();
    let written = model.generate(request, &mut |s| streamed.push_str(s)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(streamed, written.text);
    written
}

const BEGINNING: &str = "And it came to pass in those days, that";

/// A draft changes the speed, not the text; a draft that is the model itself is always right.
#[test]
fn drafts_change_nothing() {
    let (dense, small) = (package("kjv-llama"), package("kjv-llama-4bit"));
    for temperature in [0.0, 0.8] {
        let mut request = text(BEGINNING, 60);
        request.sampler = SamplerOptions { temperature, seed: 3, ..SamplerOptions::default() };
        let alone = write(&mut load(&dense), &request);
        assert_eq!((alone.drafted_tokens, alone.tokens.len()), (0, 60));
        for (draft, tokens) in [(&small, 1), (&small, 5), (&dense, 4)] {
            let mut model = load(&dense).with_draft(load(draft), tokens).unwrap_or_else(|e| panic!("{e}"));
            for _ in 0..2 {
                let drafted = write(&mut model, &request);
                assert_eq!(drafted.tokens, alone.tokens, "temperature {temperature}, {tokens} drafted");
                assert!(drafted.accepted_tokens > 0 && drafted.accepted_tokens <= drafted.drafted_tokens);
                if Arc::ptr_eq(draft, &dense) && temperature == 0.0 {
                    assert_eq!(drafted.accepted_tokens, drafted.drafted_tokens);
                }
            }
        }
    }
    let error = load(&dense).with_draft(load(&small), 0).err().expect("no tokens");
    assert_eq!(error.0[0].id, 943);
}

/// What the state holds is not processed again, and gives the same text.
#[test]
fn prompts_that_go_on_reuse_the_state() {
    let dense = package("kjv-llama");
    let mut model = load(&dense);
    let first = write(&mut model, &text(BEGINNING, 12));
    assert_eq!(first.reused_tokens, 0);
    let again = write(&mut model, &text(BEGINNING, 12));
    assert_eq!((again.reused_tokens, &again.tokens), (first.prompt_tokens.len() - 1, &first.tokens));
    let longer: Vec<u32> = first.prompt_tokens.iter().chain(&first.tokens).copied().collect();
    let mut request = text("", 10);
    request.prompt = Prompt::Tokens(longer.clone());
    let on = write(&mut model, &request);
    assert!(on.reused_tokens >= first.prompt_tokens.len());
    assert_eq!(on.tokens, write(&mut load(&dense), &request).tokens);
    // Another beginning shares nothing.
    let other = write(&mut model, &text("Thus saith the Lord", 5));
    assert_eq!(other.tokens, write(&mut load(&dense), &text("Thus saith the Lord", 5)).tokens);
}

#[test]
fn caches_of_prompts_are_written_and_read() {
    let dense = package("kjv-llama");
    let folder = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
    let path = folder.path().join("prompt.safetensors");
    let mut model = load(&dense);
    let first = write(&mut model, &text(BEGINNING, 8));
    model.save_cache(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut fresh = load(&dense);
    fresh.load_cache(&path).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(fresh.history(), model.history());
    let again = write(&mut fresh, &text(BEGINNING, 8));
    assert_eq!((again.reused_tokens, again.tokens), (first.prompt_tokens.len() - 1, first.tokens));
    let refused = |model: &mut TextModel, what: &str| {
        let e = model.load_cache(&path).err().unwrap_or_else(|| panic!("{what} is refused"));
        assert_eq!(e.0[0].id, 945, "{what}");
    };
    refused(&mut load(&package("kjv-llama-4bit")), "another model's cache");
    let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{e}"));
    // Tokens of another dtype, in as many bytes.
    let at = bytes.windows(5).position(|w| w == b"\"U32\"").expect("tokens are u32") + 1;
    let mut other = bytes.clone();
    other[at] = b'F';
    std::fs::write(&path, &other).unwrap_or_else(|e| panic!("{e}"));
    refused(&mut fresh, "tokens of floats");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap_or_else(|e| panic!("{e}"));
    refused(&mut fresh, "half a file");
    std::fs::write(&path, b"").unwrap_or_else(|e| panic!("{e}"));
    refused(&mut fresh, "an empty file");
}

#[test]
fn stop_strings_and_penalties() {
    let dense = package("kjv-llama");
    let mut model = load(&dense);
    let plain = write(&mut model, &text(BEGINNING, 40));
    let words: Vec<&str> = plain.text.split_whitespace().collect();
    let mut request = text(BEGINNING, 40);
    request.stop = vec![words[4].to_string(), "never met".into()];
    let stopped = write(&mut model, &request);
    assert_eq!(stopped.stopped_by, "stop");
    assert_eq!(stopped.text, plain.text[..plain.text.find(words[4]).expect("it is there")]);
    let mut request = text(BEGINNING, 40);
    request.penalties = PenaltyOptions { repetition: 1.8, last: 0, ..PenaltyOptions::default() };
    let varied = write(&mut model, &request);
    let distinct = |t: &[u32]| t.iter().collect::<std::collections::BTreeSet<_>>().len();
    assert!(distinct(&varied.tokens) > distinct(&plain.tokens), "{} / {}", varied.text, plain.text);
    let mut request = text(BEGINNING, 3);
    request.penalties.bias = vec![(plain.tokens[0], f32::NEG_INFINITY), (7, 1e6)];
    assert_eq!(write(&mut model, &request).tokens, [7, 7, 7]);
    assert!(write(&mut model, &text(BEGINNING, 0)).tokens.is_empty());
}

#[test]
fn conversations_go_through_the_template() {
    let mut model = load(&package("kjv-llama-4bit"));
    let mut messages = vec![Message::new("user", "Who made the heaven?")];
    let request = |m: &[Message]| Request::new(Prompt::Messages(m.to_vec()), 6);
    let first = write(&mut model, &request(&messages));
    messages.extend([Message::new("assistant", first.text), Message::new("user", "And the earth?")]);
    let second = write(&mut model, &request(&messages));
    assert!(second.reused_tokens > 0, "the conversation so far is known");
}
