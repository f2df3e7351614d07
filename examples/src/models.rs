//! Models to copy from, written with the tracing API: an image classifier, a denoiser with skips, an encoder of texts.

pub mod text_encoder;
pub mod unet;
pub mod vit;
