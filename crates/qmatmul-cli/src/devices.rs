//! `qmatmul devices`

use super::Ending;
use super::options::Output;
use super::output::{Cell, Column, Layout, Results, Verdict, column, human_bytes};
use qmatmul::error::Result;
use qmatmul::gpu::{self, AdapterSummary};
use serde_json::{Value, json};

#[derive(clap::Args)]
pub struct Devices {
    #[command(flatten)]
    output: Output,
}

const COLUMNS: &[Column] = &[
    column("index", "device"),
    column("name", "name"),
    column("backend", "backend"),
    column("driver", "driver"),
    column("compiler", "compiler"),
    column("kind", "kind"),
    column("features", "features"),
    column("limits", "limits"),
];

impl Devices {
    pub fn run(&self) -> Result<Ending> {
        let adapters = gpu::adapters();
        if adapters.is_empty() {
            gpu::Runtime::new()?; // says what to install
        }
        let mut results = Results::begin(&self.output, None, COLUMNS)?.layout(Layout::Cards);
        for (index, adapter) in adapters.iter().enumerate() {
            results.row([vec![index.into()], cells(adapter)].concat())?;
        }
        gpu::advice(&adapters).iter().for_each(|line| self.output.say(line));
        let count = adapters.len();
        let devices = if count == 1 { "device" } else { "devices" };
        results.end(&Verdict::ok(format!("{count} {devices}; without --device, 0 is used")))?;
        Ok(Ending::Fine)
    }
}

/// An adapter as the head of every output has it.
pub fn object(adapter: &AdapterSummary) -> Value {
    let fields = COLUMNS[1..].iter().zip(cells(adapter));
    Value::Object(fields.map(|(column, cell)| (column.key.to_owned(), cell.json())).collect())
}

/// What an adapter is, under the columns after its number.
fn cells(a: &AdapterSummary) -> Vec<Cell> {
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
