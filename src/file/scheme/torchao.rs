//! Checkpoints of torchao: `<module>._weight_qdata` with `._weight_scale` and more, whose kind is
//! in the header alone. They are known by name and not read.

use super::view::{Checkpoint, Convention};
use crate::error::Result;
use crate::file::container::tensors::TensorInfo;

pub(crate) const CONVENTION: Convention = Convention {
    methods: &["torchao"],
    codes: &["_weight_qdata"],
    parts: &["_weight_scale", "_weight_zero_point", "_weight_scale_and_zero"],
    modules,
};

fn modules(checkpoint: &Checkpoint) -> Result<Vec<TensorInfo>> {
    let weight = |(codes, stem): (&TensorInfo, &str)| {
        let parts = CONVENTION.parts.iter().map(|part| checkpoint.beside(stem, part));
        let parts: Vec<_> = std::iter::once(Some(codes)).chain(parts).collect();
        checkpoint.unsupported(format!("{stem}weight"), &parts, "torchao".into())
    };
    Ok(checkpoint.named("_weight_qdata").map(weight).collect())
}
