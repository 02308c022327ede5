//! The tensors of PEFT's `adapter_model.safetensors`.
//!
//! For each module the file holds `base_model.model.<module>.lora_A.weight` `[r, k]` and
//! `….lora_B.weight` `[m, r]`, or the same with the adapter's name before `.weight`. Beside them
//! lie weights as a whole: those of `modules_to_save`, and `….base_layer.weight`, the copies that
//! PEFT makes of embeddings and output heads which are adapted.

use super::lora_config::LoraConfig;
use super::lora_module::{Contents, EMBEDDING, LeftOut, Module, SAVED_WHOLE, Side, each_once};
use crate::error::Result;
use crate::file::model::Model;

const SIDES: [&str; 2] = ["A", "B"];

/// What a tensor of the file is.
enum Place<'a> {
    /// a (0) or b (1) of a module.
    Side(&'a str, usize),
    /// Something of a module that is not used, and why.
    LeftOut(&'a str, &'static str),
    /// What cannot be left out, and why.
    Refused(&'static str),
}

/// The modules of a file, its matrices checked against each other and the configuration.
pub(super) fn contents(config: &LoraConfig, model: &Model) -> Result<Contents> {
    let (mut sides, mut left_out) = (Vec::with_capacity(model.tensors().len()), vec![]);
    for (tensor, info) in model.tensors().iter().enumerate() {
        match place(&info.name) {
            Place::Side(module, side) => sides.push(Side { module, side, tensor }),
            Place::LeftOut(name, why) => left_out.push(LeftOut { name: name.into(), why }),
            Place::Refused(why) => return Err(model.malformed(info, why)),
        }
    }
    sides.sort_unstable();
    let of_modules = sides.chunk_by(|a, b| a.module == b.module);
    let modules = of_modules.map(|sides| module(config, model, sides)).collect::<Result<_>>()?;
    Ok(Contents { modules, left_out: each_once(left_out) })
}

fn place(name: &str) -> Place<'_> {
    let stranger = "it is neither `base_model.model.<module>.lora_A.weight` nor `….lora_B.weight` nor a weight of the base";
    let Some(path) = name.strip_prefix("base_model.model.") else { return Place::Refused(stranger) };
    if path.contains("lora_magnitude_vector") {
        return Place::Refused("DoRA is not supported");
    }
    if let Some((module, side)) = side(path) {
        return Place::Side(module, side);
    }
    if let Some((module, _)) = path.split_once(".lora_embedding_") {
        return Place::LeftOut(module, EMBEDDING);
    }
    match path.strip_suffix(".weight").or(path.strip_suffix(".bias")) {
        Some(module) if module.contains(".lora_") => Place::Refused(if path.ends_with(".bias") {
            "biases in adapters are not supported"
        } else {
            stranger
        }),
        Some(module) if !module.is_empty() => Place::LeftOut(bare(module), SAVED_WHOLE),
        _ => Place::Refused(stranger),
    }
}

/// The module of a tensor and whether it is its a (0) or b (1).
fn side(path: &str) -> Option<(&str, usize)> {
    let name = path.strip_suffix("weight")?;
    SIDES.iter().enumerate().find_map(|(side, letter)| {
        let (module, adapter) = name.rsplit_once(&format!(".lora_{letter}."))?;
        // "" or "default."
        (!module.is_empty() && adapter.matches('.').count() == usize::from(!adapter.is_empty()))
            .then_some((module, side))
    })
}

/// The base's name of a module, without what PEFT wraps around it.
fn bare(module: &str) -> &str {
    let inner = module.strip_suffix(".base_layer").unwrap_or(module);
    // `lm_head.modules_to_save` or `lm_head.modules_to_save.default`
    let saved = inner.rsplit_once(".modules_to_save").filter(|(_, rest)| rest.matches('.').count() < 2);
    saved.map_or(inner, |(module, _)| module.strip_suffix(".base_layer").unwrap_or(module))
}

/// The module, its matrices checked against each other and the configuration.
fn module(config: &LoraConfig, model: &Model, sides: &[Side]) -> Result<Module> {
    let [a, b] = both(model, sides)?;
    let name = sides[0].module.to_owned();
    let rank = config.rank(&name);
    for (side, (i, axis)) in [(a, 0), (b, 1)].into_iter().enumerate() {
        let info = &model.tensors()[i];
        if !["F32", "F16", "BF16"].contains(&info.dtype.name()) {
            let problem = format!("it is stored as {}, wanted F32, F16 or BF16", info.dtype.name());
            return Err(model.malformed(info, problem));
        }
        let wanted = ["[r, k]", "[m, r]"][side];
        if info.shape.len() != 2 {
            return Err(model.malformed(info, format!("its shape is {:?}, wanted {wanted}", info.shape)));
        }
        if info.shape[axis] != rank as u64 {
            let problem = format!(
                "its shape {:?} as {wanted} says rank {}, adapter_config.json says {rank}",
                info.shape, info.shape[axis]
            );
            return Err(model.malformed(info, problem));
        }
    }
    Ok(Module { scale: config.scale(&name, rank), rank, name, tensors: [a, b] })
}

/// The positions of a and b of a module, which must have one of each.
fn both(model: &Model, sides: &[Side]) -> Result<[usize; 2]> {
    let malformed = |at: &Side, problem| Err(model.malformed(&model.tensors()[at.tensor], problem));
    let twice = sides.windows(2).find(|pair| pair[0].side == pair[1].side);
    match (sides, twice) {
        (_, Some(pair)) => {
            let side = SIDES[pair[1].side];
            malformed(&pair[1], format!("the module has two lora_{side}; one adapter at a time"))
        }
        ([a, b], None) => Ok([a.tensor, b.tensor]),
        (alone, None) => {
            let missing = SIDES[1 - alone[0].side];
            malformed(&alone[0], format!("the module has no lora_{missing} beside it"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, bare, place, side};

    #[test]
    fn tensors_are_placed_by_their_names() {
        assert_eq!(side("a.q.lora_A.weight"), Some(("a.q", 0)));
        assert_eq!(side("a.q.lora_B.default.weight"), Some(("a.q", 1)));
        assert_eq!(side("lora_A.q.lora_B.weight"), Some(("lora_A.q", 1)));
        for name in [
            "a.q.weight",
            ".lora_A.weight",
            "q.lora_A.bias",
            "q.lora_A.a.b.weight",
            "q.lora_Aweight",
            "q.lora_A.xweight",
        ] {
            assert_eq!(side(name), None, "{name}");
        }
        let is_refused = |name: &str| matches!(place(name), Place::Refused(_));
        assert!(is_refused("a.q.lora_A.weight") && is_refused("base_model.model..weight"));
        assert!(
            is_refused("base_model.model.q.lora_B.bias")
                && is_refused("base_model.model.q.lora_A.a.b.weight")
        );
    }

    #[test]
    fn what_is_saved_whole_has_the_name_of_its_module() {
        for name in
            ["lm_head", "lm_head.base_layer", "lm_head.modules_to_save", "lm_head.modules_to_save.default"]
        {
            assert_eq!(bare(name), "lm_head", "{name}");
        }
        for name in [
            "lm_head.weight",
            "e.base_layer.weight",
            "e.lora_embedding_A",
            "e.lora_embedding_B.default",
            "n.bias",
        ] {
            let name = format!("base_model.model.{name}");
            let Place::LeftOut(module, _) = place(&name) else { panic!("{name}") };
            assert!(["lm_head", "e", "n"].contains(&module), "{module}");
        }
    }
}
