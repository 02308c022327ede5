//! Any bytes as a GGUF file: open it, print its metadata, decode its small tensors.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmatmul::file::Model;

fuzz_target!(|data: &[u8]| {
    match Model::from_bytes("fuzz.gguf", data.to_vec()) {
        Ok(model) => {
            model.gguf().iter().for_each(|(_, value)| drop(value.to_string()));
            qmatmul_fuzz::look_at(&model);
        }
        Err(error) => qmatmul_fuzz::check(&error),
    }
});
