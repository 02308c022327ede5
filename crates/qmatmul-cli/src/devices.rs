//! `qmatmul devices`

use super::output::{Table, human_bytes};
use super::{Common, Verdict};
use qmatmul::error::Result;
use qmatmul::gpu;

pub fn run(common: &Common) -> Result<Verdict> {
    let adapters = gpu::adapters();
    if adapters.is_empty() {
        gpu::Runtime::new()?; // says what to install
    }
    let mut table = Table::new(&[
        "device",
        "name",
        "backend",
        "kind",
        "driver",
        "compiler",
        "subgroup",
        "features",
        "binding",
        "buffer",
        "workgroup memory",
        "workgroup",
    ]);
    for (number, a) in adapters.iter().enumerate() {
        let subgroup = match a.subgroup {
            None => "none".to_owned(),
            Some((min, max)) if min == max => min.to_string(),
            Some((min, max)) => format!("{min}-{max}"),
        };
        table.push(vec![
            number.into(),
            a.name.clone().into(),
            a.backend.clone().into(),
            a.kind.clone().into(),
            a.driver.clone().into(),
            a.compiler.as_ref().map_or_else(|| "-".into(), ToString::to_string).into(),
            subgroup.into(),
            a.features.join(" ").into(),
            human_bytes(a.max_binding).into(),
            human_bytes(a.max_buffer).into(),
            human_bytes(a.max_workgroup_memory.into()).into(),
            (a.max_workgroup as usize).into(),
        ]);
    }
    table.print(common.style)?;
    gpu::advice(&adapters).iter().for_each(|line| common.say(line));
    Ok(Verdict::Fine)
}
