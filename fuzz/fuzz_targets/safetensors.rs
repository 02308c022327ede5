//! Any bytes as the header of a safetensors file, with the length that they have before them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmatmul::file::Model;

fuzz_target!(|data: &[u8]| {
    let file = [&(data.len() as u64).to_le_bytes(), data].concat();
    match Model::from_bytes("fuzz.safetensors", file) {
        Ok(model) => qmatmul_fuzz::look_at(&model),
        Err(error) => qmatmul_fuzz::check(&error),
    }
});
