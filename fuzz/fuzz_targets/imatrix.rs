//! Any bytes as an importance matrix, in either form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmatmul::file::imatrix::Imatrix;

fuzz_target!(|data: &[u8]| {
    match Imatrix::from_bytes("fuzz", data.to_vec()) {
        Ok(imatrix) => imatrix.entries().iter().for_each(|e| drop(imatrix.find(&e.name))),
        Err(error) => qmatmul_fuzz::check(&error),
    }
});
