//! GGUF adapters, as llama.cpp's convert_lora_to_gguf writes them: `<tensor>.lora_a` `[r, k]` and
//! `<tensor>.lora_b` `[m, r]` for tensors of a GGUF base, with one alpha for all: s = alpha / r, or
//! 1 where alpha is 0.

use super::lora_module::{Contents, EMBEDDING, LeftOut, Module, SAVED_WHOLE, STACK, Side, each_once};
use crate::error::Result;
use crate::file::container::folder::malformed;
use crate::file::container::gguf::Value;
use crate::file::model::Model;
use crate::file::names::shown;

const TYPE: &str = "general.type";
const KIND: &str = "adapter.type";
const ALPHA: &str = "adapter.lora.alpha";
const SIDES: [&str; 2] = ["a", "b"];

/// The modules of a file, its matrices checked against each other.
pub(super) fn contents(model: &Model) -> Result<Contents> {
    let alpha = alpha(model)?;
    let (mut sides, mut left_out) = (Vec::with_capacity(model.tensors().len()), vec![]);
    for (tensor, info) in model.tensors().iter().enumerate() {
        let mut leave = |name: &str, why| left_out.push(LeftOut { name: stem(name).into(), why });
        let side = SIDES.iter().position(|side| info.name.ends_with(&format!(".lora_{side}")));
        let base = &info.name[..info.name.len() - if side.is_some() { ".lora_a".len() } else { 0 }];
        match side {
            // Its a is transposed, for a lookup.
            Some(_) if stem(base) == "token_embd" => leave(base, EMBEDDING),
            Some(_) if info.shape.len() > 2 => leave(base, STACK),
            Some(side) => sides.push(Side { module: stem(base), side, tensor }),
            None if base.ends_with(".weight") || base.ends_with(".bias") => leave(base, SAVED_WHOLE),
            None => {
                let problem =
                    "it is neither `<tensor>.lora_a` nor `<tensor>.lora_b` nor a weight of the base";
                return Err(model.malformed(info, problem));
            }
        }
    }
    sides.sort_unstable();
    let of_modules = sides.chunk_by(|a, b| a.module == b.module);
    let modules = of_modules.map(|sides| module(model, sides, alpha)).collect::<Result<_>>()?;
    Ok(Contents { modules, left_out: each_once(left_out) })
}

/// The module of a tensor's name.
fn stem(tensor: &str) -> &str {
    tensor.strip_suffix(".weight").unwrap_or(tensor)
}

/// The alpha of all modules.
fn alpha(model: &Model) -> Result<f64> {
    let metadata = model.gguf();
    let wrong = |key: &str, wanted: &str| {
        let got = metadata
            .get(key)
            .map_or("it is missing".into(), |value| format!("got {}", shown(&value.to_string())));
        malformed(
            model.path(),
            &format!("key `{key}`"),
            metadata.offset(key),
            format!("wanted {wanted}, {got}"),
        )
    };
    for (key, wanted) in [(TYPE, "adapter"), (KIND, "lora")] {
        if metadata.get(key).as_ref().and_then(Value::as_str) != Some(wanted) {
            return Err(wrong(key, &format!("`{wanted}`")));
        }
    }
    let alpha = metadata.get(ALPHA).as_ref().and_then(Value::as_f64).filter(|alpha| alpha.is_finite());
    alpha.ok_or_else(|| wrong(ALPHA, "a number"))
}

fn module(model: &Model, sides: &[Side], alpha: f64) -> Result<Module> {
    let info = |side: &Side| &model.tensors()[side.tensor];
    let [a, b] = match sides {
        [a, b] if a.side == 0 && b.side == 1 => [info(a), info(b)],
        sides => {
            let missing = SIDES[1 - sides[0].side];
            return Err(model.malformed(info(&sides[0]), format!("there is no `.lora_{missing}` beside it")));
        }
    };
    for (info, wanted, least) in [(a, "[r, k]", 1), (b, "[m, r]", 2)] {
        // ggml leaves out an outermost dimension of one.
        if info.shape.len() < least {
            return Err(model.malformed(info, format!("its shape is {:?}, wanted {wanted}", info.shape)));
        }
        if !["F32", "F16", "BF16", "Q8_0"].contains(&info.dtype.name()) {
            let problem = format!("it is stored as {}, wanted F32, F16, BF16 or Q8_0", info.dtype.name());
            return Err(model.malformed(info, problem));
        }
    }
    let rank = a.rows();
    if b.shape[1] != rank || rank == 0 {
        let problem =
            format!("its shape {:?} as [m, r] says rank {}, its a says {rank}", b.shape, b.shape[1]);
        return Err(model.malformed(b, problem));
    }
    let scale = if alpha == 0.0 { 1.0 } else { alpha / rank as f64 };
    let (name, tensors) = (sides[0].module.to_owned(), [sides[0].tensor, sides[1].tensor]);
    Ok(Module { name, rank: rank as usize, scale, tensors })
}
