//! The tokenizer of the small trained model in `tests/fixtures`.

#![allow(clippy::unwrap_used)]

use mlxc_text::*;
use proptest::prelude::*;
use std::path::Path;
use std::sync::OnceLock;

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/kjv-llama").join(name)).unwrap()
}

fn tokenizer() -> &'static Tokenizer {
    static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
    TOKENIZER.get_or_init(|| Tokenizer::from_bytes(&read("tokenizer.json")).unwrap())
}

fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
}

fn streamed(tokens: &[u32], special: bool) -> String {
    let mut stream = tokenizer().stream(special);
    let mut out = String::new();
    for token in tokens {
        out += &stream.push(*token).unwrap();
    }
    out + &stream.finish().unwrap()
}

#[test]
fn prompts_encode_as_they_were_trained() {
    let expected: serde_json::Value = serde_json::from_slice(&read("expected.json")).unwrap();
    for prompt in expected["prompts"].as_array().unwrap() {
        let text = prompt["text"].as_str().unwrap();
        let tokens = ids(&prompt["prompt_tokens"]);
        assert_eq!(tokenizer().encode(text, false).unwrap(), tokens);
        assert_eq!(tokenizer().decode(&tokens, true).unwrap(), text);
        let greedy = ids(&prompt["greedy_f32"]);
        assert_eq!(streamed(&greedy, false), tokenizer().decode(&greedy, false).unwrap());
    }
    assert_eq!(tokenizer().vocabulary_size(), 1024);
    assert_eq!((tokenizer().token_id("<|end|>"), tokenizer().token(0).as_deref()), (Some(1), Some("<|begin|>")));
}

#[test]
fn valid_text_survives() {
    let text = String::from_utf8(read("valid.txt")).unwrap();
    let tokens = tokenizer().encode(&text, true).unwrap();
    assert_eq!(tokenizer().decode(&tokens, false).unwrap(), text);
    assert_eq!(streamed(&tokens, false), text);
}

#[test]
fn no_piece_ends_within_a_character() {
    let text = "äöü 中文 🦀🦀 e\u{301} \u{FFFD}!";
    let tokens = tokenizer().encode(text, false).unwrap();
    let mut stream = tokenizer().stream(false);
    let mut out = String::new();
    for token in &tokens {
        let piece = stream.push(*token).unwrap();
        assert!(text[out.len()..].starts_with(&piece));
        out += &piece;
    }
    assert_eq!(out, text);
    assert_eq!(stream.finish().unwrap(), "");
}

#[test]
fn special_tokens_are_left_out_on_request() {
    let tokens = [0, 42, 79, 1];
    assert_eq!(tokenizer().decode(&tokens, true).unwrap(), "<|begin|>In<|end|>");
    assert_eq!(tokenizer().decode(&tokens, false).unwrap(), "In");
    assert_eq!(streamed(&tokens, true), "<|begin|>In<|end|>");
    assert_eq!(streamed(&tokens, false), "In");
}

#[test]
fn configurations_are_read() {
    let config = GenerationConfig::from_bytes(&read("generation_config.json")).unwrap();
    assert_eq!((config.bos, config.eos), (vec![0], vec![1]));
    let template = ChatTemplate::from_config(&read("tokenizer_config.json")).unwrap().unwrap();
    let messages = [Message::new("user", "In the beginning"), Message::new("assistant", "God")];
    let text = template.render(&messages, &RenderOptions::default()).unwrap();
    // A newline after an expression stays, one after a block does not.
    assert_eq!(text, "<|begin|>In the beginning\nGod\n");
    assert_eq!(tokenizer().encode(&text, false).unwrap()[0], 0);
    assert_eq!(Tokenizer::from_bytes(b"{}").unwrap_err().id(), "MLXC0751");
    assert_eq!(Tokenizer::from_bytes(b"\xFF").unwrap_err().id(), "MLXC0751");
}

/// A SentencePiece-like tokenizer: bytes as tokens, and a space dropped at the beginning.
fn byte_fallback() -> Tokenizer {
    let mut vocabulary = serde_json::Map::new();
    for b in 0..256u32 {
        vocabulary.insert(format!("<0x{b:02X}>"), b.into());
    }
    for (i, piece) in ["\u{2581}a", "\u{2581}", "b", "c"].iter().enumerate() {
        vocabulary.insert(piece.to_string(), (256 + i).into());
    }
    let json = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ]},
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary, "merges": []},
    });
    Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
}

proptest! {
    #[test]
    fn streams_give_the_text_of_the_whole(tokens in prop::collection::vec(0u32..1024, 0..60), special in any::<bool>()) {
        prop_assert_eq!(streamed(&tokens, special), tokenizer().decode(&tokens, special).unwrap());
    }

    #[test]
    fn byte_tokens_join_as_in_the_whole(
        tokens in prop::collection::vec(prop_oneof![Just(0xE4u32), Just(0xB8), Just(0xAD), Just(0x41), 256u32..260], 0..24),
    ) {
        static TOKENIZER: OnceLock<Tokenizer> = OnceLock::new();
        let tokenizer = TOKENIZER.get_or_init(byte_fallback);
        let mut stream = tokenizer.stream(false);
        let mut out = String::new();
        for token in &tokens {
            out += &stream.push(*token).unwrap();
        }
        out += &stream.finish().unwrap();
        prop_assert_eq!(out, tokenizer.decode(&tokens, false).unwrap());
    }
}
