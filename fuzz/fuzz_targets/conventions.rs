//! A header, settings and data, apart by bytes of 0: a checkpoint of any convention.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use qmatmul::file::Model;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(3, |byte| *byte == 0);
    let [header, settings, rest] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let file = [&(header.len() as u64).to_le_bytes(), header, rest].concat();
    let config = [br#"{"quantization_config":"#, settings, b"}"].concat();
    let files = [("model.safetensors", Bytes::from(file)), ("config.json", config.into())];
    match Model::from_files("fuzz", &files) {
        Ok(model) => qmatmul_fuzz::look_at(&model),
        Err(error) => qmatmul_fuzz::check(&error),
    }
});
