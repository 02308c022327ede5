//! LoRA adapters as PEFT and llama.cpp's converter write them.

pub mod lora;
pub(crate) mod lora_config;
mod lora_fit;
mod lora_gguf;
mod lora_module;
pub(crate) mod lora_patterns;
mod lora_peft;
pub(crate) mod lora_value;
