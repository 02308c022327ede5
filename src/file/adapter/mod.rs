//! LoRA adapters as PEFT saves them.

pub mod lora;
pub(crate) mod lora_config;
pub(crate) mod lora_patterns;
pub(crate) mod lora_value;
