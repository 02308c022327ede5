//! What a GPU adapter is.

use crate::{Cell, Column, column, human_bytes, object as row_object};
use qmatmul::gpu::AdapterSummary;
use serde_json::{Value, json};

/// Its number, and what [`cells`] has.
pub const COLUMNS: &[Column] = &[
    column("index", "device"),
    column("name", "name"),
    column("backend", "backend"),
    column("driver", "driver"),
    column("compiler", "compiler"),
    column("kind", "kind"),
    column("features", "features"),
    column("limits", "limits"),
];

/// An adapter as the head of every output has it.
pub fn object(adapter: &AdapterSummary) -> Value {
    row_object(&COLUMNS[1..], &cells(adapter))
}

/// What an adapter is, under the [`COLUMNS`] after its number.
pub fn cells(a: &AdapterSummary) -> Vec<Cell> {
    let limits = json!({
        "binding_bytes": a.max_binding,
        "buffer_bytes": a.max_buffer,
        "workgroup_memory_bytes": a.max_workgroup_memory,
        "workgroup_invocations": a.max_workgroup,
        "subgroup": a.subgroup.map(|(smallest, largest)| json!([smallest, largest])),
    });
    let subgroup = match a.subgroup {
        None => "no subgroups".to_owned(),
        Some((smallest, largest)) if smallest == largest => format!("subgroups of {smallest}"),
        Some((smallest, largest)) => format!("subgroups of {smallest} to {largest}"),
    };
    let text = format!(
        "{} in a binding, {} in a buffer, {} in a workgroup of {}, {subgroup}",
        human_bytes(a.max_binding),
        human_bytes(a.max_buffer),
        human_bytes(a.max_workgroup_memory.into()),
        a.max_workgroup
    );
    vec![
        a.name.clone().into(),
        a.backend.clone().into(),
        a.driver.clone().into(),
        a.compiler.as_ref().map(ToString::to_string).into(),
        a.kind.clone().into(),
        Cell::names(a.features.iter().copied()),
        Cell::Json(limits, text),
    ]
}
