//! Tokenizer, chat template and sampling for text models.
